"""Time of one 320x180 picture in Chromium and in Python: `python -m tests.export.web.speed SITE`.

SITE is a folder that `python -m export gan_x2 --target web -o SITE` wrote.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import srsdk
from srsdk.options import Precision
from tests.export.web.serving import served
from tests.srsdk.serving import browser

RUNS, WARM_UP = 15, 3
MODELS = ("realtime_x2", "gan_x2")
PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
THREADS = (1, 2)
UPSCALE = """
async ({ options, runs }) => {
    const { open } = await import("./srsdk/browser.js");
    const level = (_, i) => i % 4 === 3 ? 255 : ((i * 2654435769) >>> 9) & 255;
    const levels = Uint8ClampedArray.from({ length: 320 * 180 * 4 }, level);
    const picture = new ImageData(levels, 320, 180);
    const upscaler = await open(options);
    const times = [];
    for (let run = 0; run < runs; run++) {
        const began = performance.now();
        await upscaler.upscale(picture);
        times.push(performance.now() - began);
    }
    upscaler.close();
    return times;
}
"""


def in_chromium(page: Any, options: dict[str, Any]) -> float:
    """Return the median time in milliseconds."""
    times: list[float] = page.evaluate(UPSCALE, {"options": options, "runs": RUNS})
    return statistics.median(times[WARM_UP:])


def in_python(model: str, precision: Precision, threads: int) -> float:
    """Return the median time in milliseconds."""
    picture = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    times = []
    options: dict[str, Any] = {"precision": precision, "threads": threads}
    with srsdk.Upscaler(model, backend="onnxruntime", **options) as upscaler:
        for _ in range(RUNS):
            began = time.perf_counter()
            upscaler(picture)
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[WARM_UP:])


def main(site: Path) -> None:
    """Write a line for each model, precision and number of threads."""
    with served(site, isolated=True) as address, browser.window() as page:
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        for model in MODELS:
            for precision in PRECISIONS:
                for threads in THREADS:
                    options = {"model": model, "precision": precision, "backend": "wasm"}
                    there = in_chromium(page, {**options, "threads": threads})
                    here = in_python(model, precision, threads)
                    name = f"{model} {precision} {threads} threads"
                    text = f"{name}: Chromium {there:.0f} ms, Python {here:.0f} ms"
                    sys.stdout.write(f"{text}, ratio {there / here:.1f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
