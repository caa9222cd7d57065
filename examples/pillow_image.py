"""Upscale a Pillow image and keep its metadata: `python examples/pillow_image.py IN.jpg OUT.jpg`.

`upscale_file` does all of it in one call; this is for programs that hold images.
"""

from __future__ import annotations

import sys

from PIL import Image

import srsdk


def main(source: str, target: str) -> None:
    """Upscale a JPEG; the color profile, EXIF and resolution are in the result's `info`."""
    with srsdk.Upscaler("gan_x4") as up, Image.open(source) as small:
        large = up(small)  # upright: the EXIF orientation has been applied
    large.save(
        target,
        quality=95,
        exif=large.getexif(),
        icc_profile=large.info.get("icc_profile"),
        dpi=large.info.get("dpi", (72, 72)),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
