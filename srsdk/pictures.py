"""What a picture is: arrays, Pillow images and files, and what travels with the pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from srsdk.errors import OutputError, PictureError
from srsdk.tiles import Picture

JPEG_QUALITY = 95

_COLOUR_MODES = {"RGB", "L", "P", "1", "RGBA", "LA", "PA"}


@dataclass(frozen=True)
class Pixels:
    """A decoded picture."""

    rgb: Picture
    """(H, W, 3) uint8."""
    alpha: Picture | None = None
    """(H, W) uint8, or None for an opaque picture."""
    is_grey: bool = False
    """The source had no colours, and the result shall have none."""
    carried: dict[str, Any] = field(default_factory=dict)
    """What a file keeps beside its pixels, as Pillow's `save` takes it: ICC, EXIF, DPI."""


def from_array(array: object) -> Picture:
    """Check that an array is a picture.

    Raises:
        PictureError: not (H, W, 3) uint8, or empty.
    """
    if not isinstance(array, np.ndarray):
        kind = type(array).__name__
        raise PictureError(f"got {kind}, expected a path, a PIL image or a (H, W, 3) uint8 array")
    if array.dtype != np.uint8:
        raise PictureError(f"got an array of {array.dtype}, expected uint8")
    if array.ndim != 3 or array.shape[2] != 3:
        raise PictureError(f"got an array of shape {array.shape}, expected (H, W, 3)")
    if 0 in array.shape:
        raise PictureError(f"got an empty array of shape {array.shape}")
    return array


def from_image(image: Image.Image) -> Pixels:
    """Take a Pillow image apart.

    Raises:
        PictureError: a mode that would lose something: CMYK, 16 bits, floating point.
    """
    if image.mode not in _COLOUR_MODES:
        raise PictureError(
            f"got a picture of mode {image.mode}, expected one of "
            f"{', '.join(sorted(_COLOUR_MODES))} (8 bits a channel)"
        )
    if 0 in image.size:
        raise PictureError("got an empty picture")
    is_grey = image.mode in ("L", "LA", "1")
    alpha = None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
    return Pixels(np.asarray(image.convert("RGB")), alpha, is_grey)


def to_image(rgb: Picture, source: Pixels) -> Image.Image:
    """Put an upscaled picture together; alpha is resized with Lanczos."""
    image = Image.fromarray(rgb)
    if source.is_grey:
        image = image.convert("L")
    if source.alpha is not None:
        alpha = Image.fromarray(source.alpha)
        image.putalpha(alpha.resize(image.size, Image.Resampling.LANCZOS))
    return image


def read(path: Path) -> Pixels:
    """Decode one file, the orientation of its EXIF applied.

    Raises:
        PictureError: missing, a folder, no picture, damaged, or of an unsupported kind.
    """
    if path.is_dir():
        raise PictureError(f"{path} is a folder, expected a picture file")
    try:
        with Image.open(path) as image:
            _refuse_what_would_be_lost(image)
            image.load()
            upright = ImageOps.exif_transpose(image)
            pixels = from_image(upright)
            carried = _carried(upright)
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a picture that Pillow can read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(
            f"{path} is too large: {error} An application that trusts it raises "
            "PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except Exception as error:
        # a damaged file makes Pillow's many decoders raise whatever they stumble over
        raise PictureError(f"{path} is damaged or cannot be read: {error}") from error
    return Pixels(pixels.rgb, pixels.alpha, pixels.is_grey, carried)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any work.

    Raises:
        OutputError: unknown format, no such folder, not writable, or it exists.
    """
    Image.init()
    suffix = target.suffix.lower()
    if Image.EXTENSION.get(suffix) not in Image.SAVE:
        raise OutputError(f"{target}: {suffix or 'no suffix'!r} is no picture format to write")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder to write to")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} cannot be written to")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file name")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; --force (API: overwrite=True) replaces it")


def write(image: Image.Image, target: Path, carried: dict[str, Any]) -> None:
    """Encode to a temporary name in the target's folder, then rename.

    Raises:
        OutputError: the disk is full, the format cannot hold the picture.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    options: dict[str, Any] = dict(carried)
    if Image.EXTENSION[target.suffix.lower()] == "JPEG":
        options |= {"quality": JPEG_QUALITY, "subsampling": 0}
    try:
        image.save(temporary, **options)
        os.replace(temporary, target)
    except (OSError, ValueError) as error:
        raise OutputError(f"{target} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_what_would_be_lost(image: Image.Image) -> None:
    """Refuse what Pillow would reduce in silence: later frames, and the low byte of 16 bits."""
    frames = getattr(image, "n_frames", 1)
    # MPO is a photograph with previews behind it, as telephones write them
    if frames > 1 and image.format != "MPO":
        raise PictureError(f"got {frames} frames, expected a single picture")
    if any(";16" in str(part) for part in getattr(image, "tile", ())):
        raise PictureError("got 16 bits a channel, expected 8")


def _carried(image: Image.Image) -> dict[str, Any]:
    carried = {key: image.info[key] for key in ("icc_profile", "dpi") if image.info.get(key)}
    exif = image.getexif()
    if exif:
        carried["exif"] = exif.tobytes()
    return carried
