"""Pictures and files for the soak test, and what each gives without load."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import srsdk
from srsdk.image import vips
from srsdk.options import PictureOptions
from srsdk.system.memory_limits import FIXED_BYTES
from tests.conftest import Picture, make_picture

SIZES = [(24, 32), (67, 101), (120, 90), (17, 300), (1, 1), (260, 200), (96, 96), (33, 34)]
MEMORY_BYTES = FIXED_BYTES + (6 << 20)
"""Budget of all threads: the largest file fits alone, few fit together."""
STREAMED_BYTES = FIXED_BYTES + (1 << 20)
"""Limit with which the larger file is streamed."""
SINGLE = (".png", ".jpg", ".webp", ".tiff")
STREAMED = (".png", ".jpg", ".tiff")
STREAMING = PictureOptions(max_memory_bytes=STREAMED_BYTES)
SEVERAL = (".gif", ".png", ".webp", ".tiff")


@dataclass
class Material:
    """Inputs, and the expected outcome of each."""

    folder: Path
    pictures: list[Picture]
    expected: list[str] = field(default_factory=list)
    """Digest of each picture's result."""
    files: dict[tuple[Path, str], str] = field(default_factory=dict)
    """Digest of the file that each source gives, by the target's suffix."""
    streamed: dict[tuple[Path, str], str] = field(default_factory=dict)
    """The same for files that are streamed; empty without libvips."""
    damaged: dict[Path, str] = field(default_factory=dict)
    """The error that each damaged file gives."""


def make(folder: Path, up: srsdk.Upscaler, seed: int) -> Material:
    """Write the files, and upscale everything once, one after the other."""
    pictures = [make_picture(*size, seed=seed) for size in SIZES]
    found = Material(folder, pictures)
    found.expected = [digest(up(picture)) for picture in pictures]
    target = folder / "alone"
    for source, suffixes in {**_single(folder, seed), **_animated(folder, seed)}.items():
        for suffix in suffixes:
            found.files[source, suffix] = upscaled(up, source, target.with_suffix(suffix))
    large = folder / "large.png"
    Image.fromarray(make_picture(400, 60, seed=seed)).save(large)
    for suffix in STREAMED if vips.installed() else ():
        path = target.with_suffix(suffix)
        found.streamed[large, suffix] = upscaled(up, large, path, options=STREAMING)
    for source in _damaged(folder, next(iter(found.files))[0]):
        try:
            up.upscale_file(source, target.with_suffix(".png"))
        except srsdk.SrsdkError as error:
            found.damaged[source] = described(error)
    return found


def upscaled(up: srsdk.Upscaler, source: Path, target: Path, **options: Any) -> str:
    """Upscale a file, and return the digest of the result, which is deleted."""
    up.upscale_file(source, target, **options)
    result = hashlib.sha256(target.read_bytes()).hexdigest()
    target.unlink()
    return result


def digest(picture: Picture) -> str:
    """Return a hash of the pixels."""
    return hashlib.sha256(picture.tobytes()).hexdigest()


def described(error: Exception) -> str:
    """Return kind and text of an error."""
    return f"{type(error).__name__}: {error}"


def _single(folder: Path, seed: int) -> dict[Path, tuple[str, ...]]:
    rgb = Image.fromarray(make_picture(90, 120, seed=seed))
    clear = rgb.convert("RGBA")
    clear.putalpha(Image.fromarray(make_picture(90, 120, seed=seed + 1)[..., 0]))
    deep = Image.fromarray(make_picture(50, 60, seed=seed)[..., 0].astype(np.uint16) * 257)
    sources = {"rgb.png": rgb, "photo.jpg": rgb, "lossy.webp": rgb, "pages.tiff": rgb}
    sources |= {"clear.png": clear, "clear.webp": clear, "old.bmp": rgb, "deep.png": deep}
    found: dict[Path, tuple[str, ...]] = {}
    for name, image in sources.items():
        image.save(folder / name)
        is_clear, is_deep = image.mode == "RGBA", image is deep
        lossless = (".png", ".tiff") if is_deep else (".png", ".webp", ".tiff")
        found[folder / name] = lossless if is_clear or is_deep else SINGLE
    return found


def _animated(folder: Path, seed: int) -> dict[Path, tuple[str, ...]]:
    frames = [Image.fromarray(make_picture(40, 50, seed=seed + index)) for index in range(3)]
    found: dict[Path, tuple[str, ...]] = {}
    for suffix in SEVERAL:
        path = folder / f"several{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        found[path] = SEVERAL
    return found


def _damaged(folder: Path, whole: Path) -> list[Path]:
    content, jpeg = whole.read_bytes(), (folder / "photo.jpg").read_bytes()
    contents = {
        "cut.png": content[: len(content) // 2],
        "changed.png": content[:60] + bytes(40) + content[100:],
        "cut.jpg": jpeg[:400],
        "text.png": b"no picture",
        "empty.webp": b"",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    for name, data in contents.items():
        (folder / f"damaged_{name}").write_bytes(data)
    return [*(folder / f"damaged_{name}" for name in contents), folder / "missing.png", folder]
