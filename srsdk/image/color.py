"""Convert CMYK, LAB, YCbCr and HSV pictures to RGB, using their ICC profiles."""

from __future__ import annotations

import io
import logging

from PIL import Image, ImageCms

from srsdk.errors import PictureError

log = logging.getLogger("srsdk")

CONVERTED_MODES = ("CMYK", "LAB", "YCbCr", "HSV")
"""Pillow modes that are converted to RGB."""


def srgb_profile() -> bytes:
    """Return an ICC profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def to_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Convert CMYK, LAB, YCbCr or HSV to RGB.

    Returns:
        The RGB picture, and whether it was converted to sRGB through profiles, so that the source's
        own profile no longer applies.

    Raises:
        PictureError: the embedded profile does not match the picture.
    """
    if image.mode in ("YCbCr", "HSV"):
        return image.convert("RGB"), False
    embedded = image.info.get("icc_profile")
    if image.mode == "CMYK" and not embedded:
        log.warning("a CMYK picture without a profile: converted with Pillow's simple formula")
        return image.convert("RGB"), False
    try:
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(embedded or b""))
        result = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError) as error:
        raise PictureError(
            f"its {image.mode} colors cannot be converted: the embedded profile does not match "
            f"({error})"
        ) from error
    assert result is not None
    return result, True
