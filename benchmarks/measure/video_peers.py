"""`python -m benchmarks video-peers`: frames per second of srsdk and of what else enlarges videos.

Everything decodes the same H.264 file of 640x360 and encodes 1280x720 with the same x264 settings.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import srsdk
from benchmarks import machine, records, workloads
from benchmarks.measure.video import PRESETS, WORKERS, Plain, swscale, write

Plane = npt.NDArray[np.uint8]
Enlarge = Callable[[Plane], Plane]

PRESET, CRF, SCALE = PRESETS[1], 18, 2
MODELS = {
    "srsdk, `realtime_x2`, the default": {"model": "realtime_x2"},
    "srsdk, `realtime_x2`, fp32": {"model": "realtime_x2", "precision": "fp32"},
    "srsdk, `--quality balanced`": {"model": "gan_x2"},
}
FILTERS = {
    "ffmpeg, scale, bicubic": "scale=1280:720:flags=bicubic",
    "ffmpeg, scale, Lanczos": "scale=1280:720:flags=lanczos",
    "ffmpeg, libplacebo, EWA Lanczos": (
        "hwupload,libplacebo=w=1280:h=720:upscaler=ewa_lanczos,hwdownload,format=yuv420p"
    ),
}
FSRCNN = "OpenCV, FSRCNN, in srsdk's pipeline"
KERNEL = "bicubic kernel in srsdk's pipeline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `video-peers`."""
    parser.add_argument("--files", type=Path, metavar="DIR", help="folder with fsrcnn_x2.onnx")
    parser.add_argument(
        "--test", type=Path, metavar="DIR", help="ground truth, for the PSNR of luma"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--frames", type=int, default=300, help="frames (default: 300)")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run all candidates in turns, in shuffled order, and print a table."""
    facts, before = machine.describe(), machine.moment()
    fps: dict[str, list[float]] = {}
    lacks: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.mp4", Path(folder) / "large.mp4"
        write(source, workloads.WORKLOADS["video"], arguments.frames)
        candidates = _candidates(arguments.files, source, target)
        for turn in range(arguments.rounds):
            order = [name for name in candidates if name not in lacks]
            random.Random(turn).shuffle(order)
            for name in order:
                began = time.perf_counter()
                try:
                    candidates[name]()
                except (OSError, ImportError, subprocess.CalledProcessError) as error:
                    lacks[name] = _reason(error)
                    continue
                seconds = time.perf_counter() - began
                fps.setdefault(name, []).append(arguments.frames / seconds)
    psnr = _psnr(arguments) if arguments.test else {}
    result = {"fps": fps, "psnr_luma_db": psnr, "lacks": lacks}
    config = {"frames": arguments.frames, "preset": PRESET, "crf": CRF}
    command = machine.command_line()
    record = records.make("video-peers", config, result, facts, before, machine.moment(), command)
    sys.stdout.write(table(result))
    if arguments.out:
        records.append(arguments.out, record)
    return 0


def table(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table, fastest first, and what could not run."""
    lines = ["| | frames/s | PSNR of luma, dB |", "|---|---|---|"]
    medians = {name: median(values) for name, values in result["fps"].items()}
    for name in sorted(medians, key=medians.__getitem__, reverse=True):
        score = result["psnr_luma_db"].get(name)
        lines.append(
            f"| {name} | {medians[name]:.1f} | {'' if score is None else f'{score:.2f}'} |"
        )
    lines += [f"| {name} | not on this machine: {why} | |" for name, why in result["lacks"].items()]
    return "\n".join(lines) + "\n"


def _candidates(files: Path | None, source: Path, target: Path) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {
        name: partial(_srsdk, options, source, target) for name, options in MODELS.items()
    }
    for name, filters in FILTERS.items():
        found[name] = partial(_ffmpeg, filters, source, target)
    found[KERNEL] = partial(_kernel, lambda: partial(swscale, scale=SCALE), source, target)
    # OpenCV's network is not for several threads; it has its own
    found[FSRCNN] = partial(_kernel, partial(_fsrcnn, files), source, target, workers=1)
    return found


def _srsdk(options: dict[str, Any], source: Path, target: Path) -> None:
    from srsdk.video import upscale

    with srsdk.Upscaler(optimize="throughput", **options) as up:
        upscale(up, source, target, preset=PRESET, crf=CRF, overwrite=True)


def _kernel(
    make: Callable[[], Enlarge], source: Path, target: Path, workers: int = WORKERS
) -> None:
    from srsdk.video import upscale

    manifest = srsdk.manifest.read_manifest(srsdk.models.find("realtime_x2"))
    assert manifest is not None
    with Plain(manifest, make(), workers) as plain:
        upscale(plain, source, target, preset=PRESET, crf=CRF, overwrite=True)  # type: ignore[arg-type]  # the same interface


def _ffmpeg(filters: str, source: Path, target: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise FileNotFoundError("ffmpeg is not installed")
    device = ["-init_hw_device", "vulkan=gpu", "-filter_hw_device", "gpu"]
    vulkan = device if "libplacebo" in filters else []
    call = [program, "-v", "error", "-y", *vulkan, "-i", str(source), "-vf", filters]
    call += ["-c:v", "libx264", "-preset", PRESET, "-crf", str(CRF), str(target)]
    subprocess.run(call, check=True, capture_output=True, text=True)


def _fsrcnn(files: Path | None) -> Enlarge:
    import cv2

    path = None if files is None else files / "fsrcnn_x2.onnx"
    if path is None or not path.is_file():
        raise FileNotFoundError("fsrcnn_x2.onnx not found: pass --files FOLDER with this file")
    net = cv2.dnn.readNetFromONNX(str(path))

    def enlarge(plane: Plane) -> Plane:
        net.setInput((np.asarray(plane, np.float32) / 255)[None, None])
        large = net.forward()[0, 0]
        levels: Plane = np.clip(np.rint(large * 255), 0, 255).astype(np.uint8)
        return levels

    return enlarge


def _psnr(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the PSNR of luma itself, as a video gets it; ffmpeg's filters are not scored."""
    found = {KERNEL: _score(partial(swscale, scale=SCALE), arguments.test)}
    for name, options in MODELS.items():
        with srsdk.Upscaler(**options) as up:  # type: ignore[arg-type]  # the options of one
            found[name] = _score(partial(_luma_of, up), arguments.test)
    try:
        found[FSRCNN] = _score(_fsrcnn(arguments.files), arguments.test)
    except (OSError, ImportError) as error:
        sys.stderr.write(f"{FSRCNN}: {_reason(error)}\n")
    return found


def _luma_of(up: srsdk.Upscaler, plane: Plane) -> Plane:
    if up.manifest.channels == 1:
        return up(plane)
    return np.asarray(up(np.dstack([plane] * 3))[..., 1])


def _score(enlarge: Enlarge, folder: Path) -> float:
    """Return the mean PSNR of luma, BT.601 in studio range, without a border of the scale."""
    from training.data.pictures import load_pairs

    weights = np.array([65.481, 128.553, 24.966]) / 255
    found = []
    for pair in load_pairs(folder, SCALE):
        levels = pair.lr @ weights * 255 / 219
        luma = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        large = enlarge(luma).astype(np.float64) * 219 / 255
        error = (large - pair.hr @ weights)[SCALE:-SCALE, SCALE:-SCALE]
        found.append(10 * np.log10(255**2 / (error**2).mean()))
    return float(np.mean(found))


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        last = str(error.stderr).strip().splitlines()[-1:] or ["no reason given"]
        return last[0][:200]
    return str(error)
