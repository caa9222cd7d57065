"""Upscale a picture file into another: `python examples/file_to_file.py IN OUT [WIDTH]`.

Orientation, color profile, EXIF, XMP, resolution and transparency are kept.
"""

from __future__ import annotations

import sys

import srsdk


def main(source: str, target: str, width: str = "") -> None:
    """Upscale to the model's scale, or to a width in pixels."""
    options = srsdk.PictureOptions(width=int(width) if width else None, quality=92)
    try:
        with srsdk.Upscaler("gan_x4") as up:
            up.upscale_file(source, target, options=options, overwrite=True)
    except srsdk.SrsdkError as error:  # one sentence: what happened, and how to fix it
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
