"""What a picture is: arrays and Pillow images, taken apart and put together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from srsdk.boundary import WHITE
from srsdk.colour import CONVERTED_MODES, srgb_profile, to_rgb
from srsdk.errors import PictureError
from srsdk.metadata import Carried
from srsdk.tiles import Array

DTYPES = ("uint8", "uint16", "float32")
"""Of arrays: the whole range, or 0..1."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's "L"
_DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_PLAIN_MODES = ("RGB", "RGBX", "L", "P", "1")


@dataclass(frozen=True)
class Pixels:
    """A decoded picture."""

    rgb: Array
    """(H, W, 3) uint8, uint16 (the whole range) or float32 (0..1)."""
    alpha: Array | None = None
    """(H, W) of the same dtype, or None for an opaque picture."""
    is_grey: bool = False
    """The source had no colours, and the result shall have none."""
    carried: Carried = field(default_factory=Carried)
    """What a file keeps beside its pixels."""

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.rgb.shape[1])

    def bands(self) -> Array:
        """Return (H, W, C), C of 1 to 4: grey or RGB, then alpha."""
        colour = to_grey(self.rgb)[..., None] if self.is_grey else self.rgb
        return colour if self.alpha is None else np.dstack([colour, self.alpha])


def from_array(array: object, *, colour: bool = False) -> Array:
    """Check that an array is a picture, with `colour` (H, W, 3); return it in native byte order.

    Raises:
        PictureError: not (H, W), (H, W, 3) or (H, W, 4), of another dtype, or empty.
    """
    expected = "expected a path, a PIL image or a (H, W, 3) uint8 array"
    if not isinstance(array, np.ndarray):
        raise PictureError(f"got {type(array).__name__}, {expected}")
    if array.dtype.name not in DTYPES:
        raise PictureError(f"got an array of {array.dtype}, expected {', '.join(DTYPES)}")
    if colour and (array.ndim != 3 or array.shape[2] != 3):
        raise PictureError(f"got an array of shape {array.shape}, expected (H, W, 3)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PictureError(
            f"got an array of shape {array.shape}, expected (H, W, 3), (H, W) for grey or "
            "(H, W, 4) with alpha"
        )
    if 0 in array.shape:
        raise PictureError(f"got an empty array of shape {array.shape}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def from_bands(array: Array, carried: Carried | None = None) -> Pixels:
    """Take (H, W) or (H, W, C) apart: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    planes = array[..., None] if array.ndim == 2 else array
    colours = planes.shape[2] - (planes.shape[2] in (2, 4))
    alpha = planes[..., -1] if planes.shape[2] in (2, 4) else None
    rgb = _spread(planes[..., 0]) if colours == 1 else planes[..., :3]
    return Pixels(rgb, alpha, colours == 1, carried or Carried())


def to_array(pixels: Pixels, like: Array) -> Array:
    """Put a result together in the form of the array that was given."""
    if like.ndim == 2:
        return to_grey(pixels.rgb)
    return pixels.rgb if pixels.alpha is None else np.dstack([pixels.rgb, pixels.alpha])


def from_image(image: Image.Image) -> Pixels:
    """Take a Pillow image apart.

    CMYK and LAB become sRGB through their profiles; then that is the profile carried on.

    Raises:
        PictureError: an unknown mode, or 32-bit integers.
    """
    if 0 in image.size:
        raise PictureError("got an empty picture")
    if image.mode in _DEEP_GREY or image.mode == "F":
        return _deep_grey(image)
    if image.mode in CONVERTED_MODES:
        converted, is_srgb = to_rgb(image)
        carried = Carried(icc=srgb_profile()) if is_srgb else Carried()
        return Pixels(np.asarray(converted), carried=carried)
    if image.mode not in (*_PLAIN_MODES, *_ALPHA_MODES):
        known = (*_PLAIN_MODES, *_ALPHA_MODES, *_DEEP_GREY, "F", *CONVERTED_MODES)
        raise PictureError(
            f"got a picture of mode {image.mode}, expected one of {', '.join(known)}"
        )
    is_grey = image.mode in ("L", "LA", "La", "1")
    alpha = None
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("LA" if image.mode == "LA" else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if is_grey:
        return Pixels(_spread(np.asarray(image.convert("L"))), alpha, is_grey)
    return Pixels(np.asarray(image.convert("RGB")), alpha, is_grey)


def to_image(pixels: Pixels) -> Image.Image:
    """Put a picture together: L, LA, RGB or RGBA; I;16 or F for grey of more than 8 bits.

    Raises:
        PictureError: colours of more than 8 bits, which no Pillow image holds.
    """
    bands = pixels.bands()
    if bands.dtype != np.uint8 and bands.shape[2] > 1:
        raise PictureError(
            f"a Pillow image holds 8 bits a channel of colour, this picture is of {bands.dtype}: "
            "use arrays or files"
        )
    return Image.fromarray(bands[..., 0] if bands.shape[2] == 1 else bands)


def to_grey(rgb: Array) -> Array:
    """Return (H, W) luma of (H, W, 3), as Pillow computes it."""
    if rgb.strides[2] == 0:
        return rgb[..., 0]
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))
    grey = rgb @ _LUMA
    return grey if rgb.dtype == np.float32 else np.rint(grey).astype(rgb.dtype)


def to_depth(pixels: Pixels, dtype: type[np.generic]) -> Pixels:
    """Convert to another dtype, rounding to its nearest level; floats must lie in 0..1."""
    kind = np.dtype(dtype)
    if pixels.rgb.dtype == kind:
        return pixels

    def convert(array: Array) -> Array:
        factor = np.float64(WHITE[kind.name] / WHITE[array.dtype.name])
        levels = np.clip(array * factor, 0, WHITE[kind.name])
        return (np.rint(levels) if kind.kind == "u" else levels).astype(kind)

    alpha = None if pixels.alpha is None else convert(pixels.alpha)
    return replace(pixels, rgb=convert(pixels.rgb), alpha=alpha)


def _deep_grey(image: Image.Image) -> Pixels:
    array: Array = np.asarray(image)
    if image.mode == "F":
        return Pixels(_spread(np.asarray(array, np.float32)), is_grey=True)
    if array.min() < 0 or array.max() > 65535:
        raise PictureError(
            f"got whole numbers from {array.min()} to {array.max()}, expected at most 16 bits"
        )
    grey = array.astype(np.uint16)
    transparent: Any = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = np.where(grey == transparent, 0, 65535).astype(np.uint16)
    return Pixels(_spread(grey), alpha, is_grey=True)


def _spread(grey: Array) -> Array:
    """Return (H, W, 3) of (H, W) without copying it."""
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))
