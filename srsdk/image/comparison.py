"""Compare two pictures by eye: side by side, or under a slider in an HTML page."""

from __future__ import annotations

import base64
import html
import importlib.resources
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from srsdk import budget as budgets
from srsdk.errors import OutputError, PictureError, UsageError
from srsdk.image import decode
from srsdk.image.pixels import to_depth
from srsdk.image.resize import goal
from srsdk.options import PictureOptions
from srsdk.system import durable
from srsdk.system.paths import is_same_file
from srsdk.system.text import plain

GAP_PX = 8
PAGE_SUFFIXES = (".html", ".htm")
SHEET_BYTES, PAGE_BYTES = 20, 48
"""Memory per pixel of the larger picture, measured: both pictures, and the sheet or the page."""


def compare(
    a: Path,
    b: Path,
    target: Path,
    *,
    overwrite: bool = False,
    limit_bytes: int | None = None,
) -> None:
    """Write a slider page (`.html`) or a side-by-side picture, at the larger picture's size.

    The smaller picture is enlarged with bicubic interpolation, as its label states.

    Args:
        a: the left picture.
        b: the right picture.
        target: the page or picture to write.
        overwrite: replace an existing target.
        limit_bytes: memory limit; None: four fifths of what is available.

    Raises:
        UsageError: the target is one of the pictures.
        PictureError: one of the pictures cannot be read, or both do not fit into memory.
        OutputError: the target exists (unless `overwrite`) or cannot be written.
    """
    is_page = target.suffix.lower() in PAGE_SUFFIXES
    _check_target(a, b, target, is_page=is_page, overwrite=overwrite)
    headers = [_header(path, limit_bytes) for path in (a, b)]
    largest_px = max(header.height * header.width for header in headers)
    _check_memory(b, largest_px * (PAGE_BYTES if is_page else SHEET_BYTES), limit_bytes)
    left, right = (_decoded(path, limit_bytes) for path in (a, b))
    size = max(left.size, right.size, key=lambda size: size[0] * size[1])
    labels = [
        path.name if image.size == size else f"{path.name} (bicubic)"
        for path, image in ((a, left), (b, right))
    ]
    left, right = enlarged(left, size), enlarged(right, size)
    if is_page:
        _write_text(page(left, right, labels[0], labels[1]), target)
    else:
        decode.write(side_by_side(left, right), target, {})


def _check_target(a: Path, b: Path, target: Path, *, is_page: bool, overwrite: bool) -> None:
    for path in (a, b):
        if is_same_file(path, target):
            raise UsageError(f"{path} would be replaced by the comparison; choose another output")
    if not is_page:
        decode.check_target(target, overwrite=overwrite)
    elif (target.exists() or target.is_symlink()) and not overwrite:
        raise OutputError(f"{target} exists; overwrite=True replaces it")


def check_source(source: Path, scale: int, options: PictureOptions) -> None:
    """Refuse a source whose comparison with its result cannot be made, before it is upscaled.

    Args:
        source: the file that will be upscaled.
        scale: scale of the models.
        options: size of the result and memory limit.

    Raises:
        PictureError: not a single picture, or too many pixels or too little memory to compare.
    """
    header = _header(source, options.max_memory_bytes)
    height, width = goal(options, header.height, header.width, scale).size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > 2 * limit:
        raise PictureError(
            f"{source}: the result has {height * width:,} pixels, at most {2 * limit:,} can be "
            "compared; raise the limit: PIL.Image.MAX_IMAGE_PIXELS"
        )
    _check_memory(source, height * width * SHEET_BYTES, options.max_memory_bytes)


def write(source: Path, result: Path, target: Path, *, limit_bytes: int | None = None) -> None:
    """Write the bicubic enlargement (left) beside the result (right), at the result's size.

    Raises:
        PictureError: the source or the result cannot be read, or both do not fit into memory.
        OutputError: the target cannot be written.
    """
    small, large = (_decoded(path, limit_bytes) for path in (source, result))
    decode.write(side_by_side(small, large), target, {})


def _header(path: Path, limit_bytes: int | None) -> decode.Header:
    header = decode.probe(path, limit_bytes=limit_bytes)
    if header.frames > 1:
        raise PictureError(
            f"{path}: got {header.frames} frames, expected a single picture to compare"
        )
    return header


def _check_memory(path: Path, need_bytes: int, limit_bytes: int | None) -> None:
    try:
        budgets.DEFAULT.check_memory(need_bytes, limit_bytes, "compare smaller pictures")
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error


def side_by_side(small: Image.Image, large: Image.Image) -> Image.Image:
    """Return `small`, enlarged by bicubic interpolation, next to `large`."""
    sheet = ImageOps.expand(
        enlarged(small, large.size), (0, 0, large.width + GAP_PX, 0), fill="white"
    )
    sheet.paste(large, (large.width + GAP_PX, 0))
    return sheet


def enlarged(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return an image at (width, height), by bicubic interpolation if its size differs."""
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def page(left: Image.Image, right: Image.Image, left_label: str, right_label: str) -> str:
    """Return a self-contained HTML page with both pictures, embedded losslessly."""
    template = importlib.resources.files("srsdk.image").joinpath("comparison.html")
    values = {
        "{{LEFT}}": _data_url(left),
        "{{RIGHT}}": _data_url(right),
        "{{LEFT_LABEL}}": html.escape(plain(left_label)),
        "{{RIGHT_LABEL}}": html.escape(plain(right_label)),
        "{{WIDTH}}": str(left.width),
        "{{HEIGHT}}": str(left.height),
    }
    text = template.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _decoded(path: Path, limit_bytes: int | None) -> Image.Image:
    """Return a file's colors as 8-bit RGB, whatever its depth."""
    rgb = to_depth(decode.read(path, limit_bytes=limit_bytes), np.uint8).rgb
    return Image.fromarray(np.ascontiguousarray(rgb))


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _write_text(text: str, target: Path) -> None:
    try:
        with durable.replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
