"""Convert arrays and Pillow images to `Pixels` (color, alpha, metadata) and back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from srsdk.errors import PictureError
from srsdk.image.arrays import WHITE, Array
from srsdk.image.color import CONVERTED_MODES, srgb_profile, to_rgb
from srsdk.image.metadata import Carried

DTYPES = ("uint8", "uint16", "float32")
"""Supported dtypes of arrays: integers use the full range, floats 0..1."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's "L"
_DEEP_GRAY = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_PLAIN_MODES = ("RGB", "RGBX", "L", "P", "1")


@dataclass(frozen=True)
class Pixels:
    """A decoded picture."""

    rgb: Array
    """(H, W, 3) uint8, uint16 (full range) or float32 (0..1)."""
    alpha: Array | None = None
    """(H, W) of the same dtype, or None for an opaque picture."""
    is_gray: bool = False
    """Whether the source is grayscale; the result is then grayscale too."""
    carried: Carried = field(default_factory=Carried)
    """Metadata of the file."""

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.rgb.shape[1])

    def bands(self) -> Array:
        """Return (H, W, C), C of 1 to 4: gray or RGB, then alpha."""
        color = to_gray(self.rgb)[..., None] if self.is_gray else self.rgb
        return color if self.alpha is None else np.dstack([color, self.alpha])


def from_array(array: object, *, color: bool = False) -> Array:
    """Validate a picture array, with `color` (H, W, 3); return it in native byte order.

    Raises:
        PictureError: not (H, W) or (H, W, 1 to 4), of another dtype, or empty.
    """
    if not isinstance(array, np.ndarray):
        raise PictureError(_no_array(array))
    if array.dtype.name not in DTYPES:
        fixes = {"float64": ".astype(numpy.float32)", "bool": ".astype(numpy.uint8) * 255"}
        fix = fixes.get(array.dtype.name)
        raise PictureError(
            f"got an array of {array.dtype}, expected {', '.join(DTYPES)}"
            + (f": pass picture{fix}" if fix else "")
        )
    if color and (array.ndim != 3 or array.shape[2] != 3):
        raise PictureError(f"got an array of shape {array.shape}, expected (H, W, 3)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        fix = ""
        if array.ndim == 3 and array.shape[0] in (3, 4):
            fix = ": numpy.moveaxis(array, 0, -1) puts the channels last"
        elif array.ndim == 4:
            fix = ": pass each picture of the batch alone, or all of them to batch()"
        raise PictureError(
            f"got an array of shape {array.shape}, expected (H, W, 3), (H, W) for gray or "
            f"(H, W, 4) with alpha{fix}"
        )
    if 0 in array.shape:
        raise PictureError(f"got an empty array of shape {array.shape}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _no_array(picture: object) -> str:
    """Return the message for an object that is no picture."""
    kind = type(picture)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")
    expected = "expected a path, bytes, an open file, a PIL image or a (H, W, 3) uint8 array"
    shape = getattr(picture, "shape", None)
    if callable(getattr(picture, "numpy", None)) and shape is not None:
        # such as a torch.Tensor that is not on a GPU; networks' tensors have the channels first
        first = len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
        call = ".permute(1, 2, 0).numpy()" if first else ".numpy()"
        return f"got a {name} of shape {tuple(shape)}, {expected}: pass picture{call}"
    if hasattr(picture, "__array__"):
        return f"got {name}, {expected}: pass numpy.asarray(picture)"
    return f"got {name}, {expected}"


def swapped(array: Array) -> Array:
    """Return RGB(A) as BGR(A), or the other way round; gray as it is."""
    if array.ndim == 2 or array.shape[2] < 3:
        return array
    return np.ascontiguousarray(array[..., [2, 1, 0, 3][: array.shape[2]]])


def from_bands(array: Array, carried: Carried | None = None) -> Pixels:
    """Split (H, W) or (H, W, C) by C: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha."""
    planes = array[..., None] if array.ndim == 2 else array
    colors = planes.shape[2] - (planes.shape[2] in (2, 4))
    alpha = planes[..., -1] if planes.shape[2] in (2, 4) else None
    rgb = _spread(planes[..., 0]) if colors == 1 else planes[..., :3]
    return Pixels(rgb, alpha, colors == 1, carried or Carried())


def to_array(pixels: Pixels, like: Array) -> Array:
    """Return a result in the form of the input array, `like`."""
    bands = pixels.bands()
    return bands[..., 0] if like.ndim == 2 else bands


def from_image(image: Image.Image) -> Pixels:
    """Convert a Pillow image to `Pixels`.

    CMYK and LAB are converted through their profiles to sRGB, whose profile the result carries.

    Raises:
        PictureError: an unsupported mode, or integers of more than 16 bits.
    """
    if 0 in image.size:
        raise PictureError("got an empty picture")
    if image.mode in _DEEP_GRAY or image.mode == "F":
        return _deep_gray(image)
    if image.mode in CONVERTED_MODES:
        converted, is_srgb = to_rgb(image)
        carried = Carried(icc=srgb_profile()) if is_srgb else Carried()
        return Pixels(np.asarray(converted), carried=carried)
    if image.mode not in (*_PLAIN_MODES, *_ALPHA_MODES):
        known = (*_PLAIN_MODES, *_ALPHA_MODES, *_DEEP_GRAY, "F", *CONVERTED_MODES)
        raise PictureError(
            f"got a picture of mode {image.mode}, expected one of {', '.join(known)}"
        )
    is_gray = image.mode in ("L", "LA", "La", "1")
    alpha = None
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("LA" if image.mode == "LA" else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if is_gray:
        return Pixels(_spread(np.asarray(image.convert("L"))), alpha, is_gray)
    return Pixels(np.asarray(image.convert("RGB")), alpha, is_gray)


def to_image(pixels: Pixels) -> Image.Image:
    """Convert to a Pillow image: L, LA, RGB or RGBA; I;16 or F for gray of more than 8 bits.

    Raises:
        PictureError: colors of more than 8 bits, which no Pillow image can hold.
    """
    bands = pixels.bands()
    if bands.dtype != np.uint8 and bands.shape[2] > 1:
        raise PictureError(
            f"a Pillow image holds 8 bits per color channel, this picture is {bands.dtype}: "
            "use arrays or files"
        )
    return Image.fromarray(bands[..., 0] if bands.shape[2] == 1 else bands)


def to_gray(rgb: Array) -> Array:
    """Return (H, W) luma of (H, W, 3), as Pillow computes it."""
    if rgb.strides[2] == 0:
        return rgb[..., 0]
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))
    gray = rgb @ _LUMA
    return gray if rgb.dtype == np.float32 else np.rint(gray).astype(rgb.dtype)


def to_depth(pixels: Pixels, dtype: type[np.generic]) -> Pixels:
    """Convert to another dtype, rounding to the nearest level; floats must lie in 0..1."""
    kind = np.dtype(dtype)
    if pixels.rgb.dtype == kind:
        return pixels

    def convert(array: Array) -> Array:
        factor = np.float64(WHITE[kind.name] / WHITE[array.dtype.name])
        levels = np.clip(array * factor, 0, WHITE[kind.name])
        return (np.rint(levels) if kind.kind == "u" else levels).astype(kind)

    alpha = None if pixels.alpha is None else convert(pixels.alpha)
    return replace(pixels, rgb=convert(pixels.rgb), alpha=alpha)


def _deep_gray(image: Image.Image) -> Pixels:
    array: Array = np.asarray(image)
    if image.mode == "F":
        return Pixels(_spread(np.asarray(array, np.float32)), is_gray=True)
    if array.min() < 0 or array.max() > 65535:
        raise PictureError(
            f"got whole numbers from {array.min()} to {array.max()}, expected at most 16 bits"
        )
    gray = array.astype(np.uint16)
    transparent: Any = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = np.where(gray == transparent, 0, 65535).astype(np.uint16)
    return Pixels(_spread(gray), alpha, is_gray=True)


def _spread(gray: Array) -> Array:
    """Return (H, W) as (H, W, 3) without copying it."""
    return np.broadcast_to(gray[..., None], (*gray.shape, 3))
