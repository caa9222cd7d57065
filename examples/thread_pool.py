"""Upscale from many threads with one `Upscaler`: `python examples/thread_pool.py OUT FILE...`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import srsdk


def upscale_one(up: srsdk.BaseUpscaler, source: Path, folder: Path) -> str:
    """Upscale one file; a bad one must not stop the others."""
    target = folder / f"{source.stem}_x{up.scale}.png"
    try:
        up.upscale_file(source, target, overwrite=True)
    except srsdk.SrsdkError as error:
        return f"{source.name}: {error}"
    return f"{source.name}: done"


def main(folder: str, *files: str) -> None:
    """Upscale all files; `optimize="throughput"` gives each core a tile of its own."""
    with (
        srsdk.Upscaler("gan_x2", optimize="throughput") as up,
        ThreadPoolExecutor(up.ahead) as pool,
    ):
        tasks = [pool.submit(upscale_one, up, Path(file), Path(folder)) for file in files]
        for task in tasks:
            print(task.result())


if __name__ == "__main__":
    main(*sys.argv[1:])
