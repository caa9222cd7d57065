"""Upscale a batch of arrays, images and files: `python examples/mixed_batch.py FILE...`.

`batch` returns all results; `stream` yields them one by one and holds only a few at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import srsdk


def main(*files: str) -> None:
    """Print the size of each result."""
    gray = np.full((20, 30), 128, np.uint8)
    image = Image.new("RGBA", (30, 20), (200, 30, 30, 128))
    pictures: list[srsdk.Picture] = [gray, image, *map(Path, files)]
    with srsdk.Chain.of("compressed", 4) as up:  # removes JPEG damage, then enlarges
        for result in up.batch(pictures):
            if isinstance(result, Image.Image):
                print("image", result.mode, result.size)
            else:
                print("array", result.dtype, result.shape)
        for array in up.stream(map(Path, files), timeout=60):
            print("streamed", array.shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
