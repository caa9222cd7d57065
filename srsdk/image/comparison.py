"""Compare two pictures by eye: side by side, or under a slider in an HTML page."""

from __future__ import annotations

import base64
import html
import importlib.resources
import io
import os
import secrets
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from srsdk.errors import OutputError
from srsdk.image import decode
from srsdk.image.pixels import to_depth
from srsdk.system.paths import discard
from srsdk.system.text import plain

GAP_PX = 8
PAGE_SUFFIXES = (".html", ".htm")


def compare(a: Path, b: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write a slider page (`.html`) or a side-by-side picture, at the larger picture's size.

    The smaller picture is enlarged with bicubic interpolation, as its label states.

    Raises:
        PictureError: one of the pictures cannot be read.
        OutputError: the target exists (unless `overwrite`) or cannot be written.
    """
    is_page = target.suffix.lower() in PAGE_SUFFIXES
    if not is_page:
        decode.check_target(target, overwrite=overwrite)
    elif target.exists() and not overwrite:
        raise OutputError(f"{target} exists; --force (API: overwrite=True) replaces it")
    left, right = _decoded(a), _decoded(b)
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


def write(source: Path, result: Path, target: Path) -> None:
    """Write the bicubic enlargement (left) beside the result (right), at the result's size.

    Raises:
        PictureError: the source or the result cannot be read.
        OutputError: the target cannot be written.
    """
    decode.write(side_by_side(_decoded(source), _decoded(result)), target, {})


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


def _decoded(path: Path) -> Image.Image:
    """Return a file's colors as 8-bit RGB, whatever its depth."""
    rgb = to_depth(decode.read(path), np.uint8).rgb
    return Image.fromarray(np.ascontiguousarray(rgb))


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _write_text(text: str, target: Path) -> None:
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp{target.suffix}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        discard(temporary)
