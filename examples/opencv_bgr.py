"""Upscale what OpenCV reads: `python examples/opencv_bgr.py IN OUT.png`.

OpenCV's arrays are BGR: `order="bgr"` says so, for the array given and the one returned.
"""

from __future__ import annotations

import sys

import cv2

import srsdk

BGR = srsdk.PictureOptions(order="bgr")


def main(source: str, target: str) -> None:
    """Read, upscale and write with OpenCV."""
    frame = cv2.imread(source)
    if frame is None:
        sys.exit(f"{source} cannot be read")
    with srsdk.Upscaler("gan_x4") as up:
        large = up(frame, options=BGR)
    cv2.imwrite(target, large)


if __name__ == "__main__":
    main(*sys.argv[1:])
