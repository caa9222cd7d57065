"""Upscale arrays, images and files: in memory, frame by frame, or as a stream of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk.errors import PictureError
from srsdk.image import decode, encode, vips
from srsdk.image.pixels import Pixels, swapped
from srsdk.image.resize import goal
from srsdk.image.streams import Place, Source, is_encoded, source_of
from srsdk.options import PictureOptions
from srsdk.scheduling.abandon import within
from srsdk.scheduling.context import Call
from srsdk.system import memory_limits
from srsdk.system.paths import discard
from srsdk.upscaling import animation, streaming
from srsdk.upscaling.steps import Step, factor_of, result_bytes, steps_for, upscale

DEFAULTS = PictureOptions()

_ENCODER_BYTES = {"PNG": 1, "TIFF": 4, "WEBP": 12, "AVIF": 40, "GIF": 5}
"""Encoder memory per result pixel, besides array and Pillow image; other formats: 4."""


def upscale_any(
    steps: Sequence[Step],
    picture: Any,
    options: PictureOptions | None,
    call: Call,
) -> Any:
    """Upscale an array, a Pillow image or an encoded picture.

    Returns:
        The same type; an array for an encoded picture.

    Raises:
        PictureError: not a picture that can be upscaled.
    """
    with _enough_memory("the picture"):
        return _upscale_any(steps, picture, options or DEFAULTS, call)


def _upscale_any(steps: Sequence[Step], picture: Any, options: PictureOptions, call: Call) -> Any:
    if isinstance(picture, Image.Image):
        call.budget.check_size(picture.height, picture.width)
        pixels = within(call, lambda: decode.from_pillow(picture))
        return decode.to_pillow(_in_budget(steps, pixels, options, call), picture)
    is_bgr = options.order == "bgr"
    if is_encoded(picture):
        pixels = _upscale_encoded(steps, source_of(picture), options, call)
        large = pixels.bands()
        large = large[..., 0] if large.shape[2] == 1 else large
        return swapped(large) if is_bgr else large
    array = decode.from_array(picture)
    pixels = decode.from_bands(swapped(array) if is_bgr else array)
    call.budget.check_size(pixels.height, pixels.width)
    large = decode.to_array(_in_budget(steps, pixels, options, call), array)
    return swapped(large) if is_bgr else large


def is_plane(picture: Any) -> bool:
    """Whether a picture is a gray array of integers, which a network for luma takes as it is."""
    is_integer = isinstance(picture, np.ndarray) and picture.dtype.name in ("uint8", "uint16")
    return is_integer and picture.ndim == 2 and picture.size > 0


def upscale_plane(step: Step, plane: npt.NDArray[Any], call: Call) -> npt.NDArray[Any]:
    """Upscale (H, W) with a network for luma; it is never spread to three channels.

    Raises:
        PictureError: too large, or not enough memory.
    """
    with _enough_memory("the picture"):
        array = decode.from_array(plane)
        call.budget.check_size(*array.shape)
        need = array.nbytes * step.scale**2
        call.budget.check_memory(need, None)
        with call.budget.reserve(need, call.check, call.abandoned):
            large: npt.NDArray[Any] = step.run(array[..., None], call)[..., 0]
            return large


def _upscale_encoded(
    steps: Sequence[Step], source: Source, options: PictureOptions, call: Call
) -> Pixels:
    limits: dict[str, Any] = {"limit_bytes": options.max_memory_bytes, "budget": call.budget}
    found = within(call, lambda: decode.probe(source, **limits))
    size = found.height, found.width
    need = result_bytes(steps, *size, found.dtype, options, has_alpha=found.has_alpha)
    need += decode.decoded_bytes(found)
    call.budget.check_memory(need, options.max_memory_bytes)
    with call.budget.reserve(need, call.check, call.abandoned):
        pixels = within(call, lambda: decode.read(source, **limits))
        return upscale(steps, pixels, options, call)


def _in_budget(
    steps: Sequence[Step], pixels: Pixels, options: PictureOptions, call: Call
) -> Pixels:
    has_alpha, dtype = pixels.alpha is not None, pixels.rgb.dtype
    size = pixels.height, pixels.width
    need = result_bytes(steps, *size, dtype, options, has_alpha=has_alpha)
    call.budget.check_memory(need, options.max_memory_bytes)
    with call.budget.reserve(need, call.check, call.abandoned):
        return upscale(steps, pixels, options, call)


def upscale_file(
    steps: Sequence[Step],
    source: Source,
    target: Place,
    *,
    options: PictureOptions | None = None,
    overwrite: bool = False,
    call: Call | None = None,
) -> None:
    """Upscale a file into another file, which is written atomically.

    Raises:
        PictureError: the source is missing, damaged, of an unsupported kind, or larger than memory
            and impossible to stream.
        OutputError: the target exists (unless `overwrite`), cannot be written, or cannot hold the
            result.
    """
    options, call = options or DEFAULTS, call or Call()
    decode.check_target(target, overwrite=overwrite, options=options)
    with _enough_memory(str(source)):
        _upscale_file(steps, source, target, options, call, overwrite=overwrite)


def _upscale_file(
    steps: Sequence[Step],
    source: Source,
    target: Place,
    options: PictureOptions,
    call: Call,
    *,
    overwrite: bool,
) -> None:
    budget = call.budget
    limits: dict[str, Any] = {"limit_bytes": options.max_memory_bytes, "budget": budget}
    header = within(call, lambda: decode.probe(source, **limits))
    for height, width in dict.fromkeys(header.sizes) or ((header.height, header.width),):
        encode.check_size(target, *goal(options, height, width, factor_of(steps)).size)
    if header.frames > 1:
        animation.upscale_file(steps, source, target, header, options, call, overwrite=overwrite)
        return
    need = need_bytes(steps, header, target, options)
    allowed = budget.allowance(options.max_memory_bytes)
    too_large = need > max(allowed, 0)
    if too_large and isinstance(target, Path) and streaming.can_stream(header, target):
        streaming.upscale_file(steps, source, target, header, options, call, overwrite=overwrite)
        return
    budget.check_memory(need, options.max_memory_bytes, _advice(header, target))
    with budget.reserve(need - memory_limits.FIXED_BYTES, call.check, call.abandoned):
        pixels = encode.fitted(within(call, lambda: decode.read(source, **limits)), target)
        result = upscale(steps, pixels, options, call)
        del pixels
        write_result(result, target, options, call, overwrite=overwrite)


def write_result(
    result: Pixels, target: Place, options: PictureOptions, call: Call, *, overwrite: bool
) -> None:
    """Encode a result atomically.

    Raises:
        OutputError: the disk is full, or the format cannot hold the picture.
        DeadlineExceeded: see `Call`.
    """
    encoder = encode.encoder_of(result, target, options)
    with encode.writing(target, overwrite=overwrite) as temporary:
        # an abandoned encoder may create the file after it was removed
        leave = partial(discard, temporary) if isinstance(temporary, Path) else lambda: None
        within(call, lambda: encoder(temporary), leave)


@contextmanager
def _enough_memory(what: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise PictureError(
            f"{what} needs more memory than is available; try a smaller tile= or "
            "max_memory_bytes=, or fewer pictures at a time"
        ) from error


def need_bytes(
    steps: Sequence[Step], header: decode.Header, target: Place, options: PictureOptions
) -> int:
    """Return the memory needed to upscale a file in one piece (docs/pictures.md)."""
    size = goal(options, header.height, header.width, factor_of(steps))
    chosen = steps
    if options.resizes:
        chosen = steps_for(steps, size.factor(header.height, header.width))
    itemsize = np.dtype(header.dtype).itemsize
    bands = 3 + header.has_alpha
    source_px = header.height * header.width
    model_px = source_px * factor_of(chosen) ** 2
    result_px = size.height * size.width if options.resizes else 0
    encoder = _ENCODER_BYTES.get(encode.format_of(target), 4)
    source_bytes = source_px * (4 * itemsize + 2 * bands * itemsize)
    canvas_bytes = model_px * bands * itemsize + (model_px * 3 if header.has_alpha else 0)
    image_bytes = (result_px or model_px) * ((4 + bands * (1 + header.has_alpha)) * itemsize)
    encoder_bytes = (result_px or model_px) * encoder
    return memory_limits.FIXED_BYTES + source_bytes + canvas_bytes + image_bytes + encoder_bytes


def _advice(header: decode.Header, target: Place) -> str:
    if not isinstance(target, Path):
        return "a target that is a path can be streamed, which needs far less"
    if header.kind not in streaming.FORMATS or encode.format_of(target) not in streaming.FORMATS:
        return "PNG, TIFF and JPEG are streamed into .png, .tiff and .jpg, which needs far less"
    if not vips.installed():
        return f"{vips.EXTRA} to stream it, which needs far less"
    return ""
