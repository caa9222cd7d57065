"""Seed inputs and dictionary words for fuzzing."""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from PIL import Image

from srsdk import models
from srsdk.manifest import METADATA_KEY, Manifest, read_manifest
from tests import networks
from training.recipe.schema import Recipe

COMMAND_LINES = (
    "upscale a.png b -o out --scale 2.5 --width 9000 --fit cover --quality keep --force -r",
    "upscale a.png -o b.webp --quality lossless --max-memory 1.5GB --max-pixels 7 --tile 64x96",
    "upscale s3://a -o s3://b --ray auto --workers 3 --cpus-per-worker 0.5 --batch 2",
    "video a.mkv b.mkv --codec libx265 --crf 20 --preset veryfast --resume --threads 2",
    "compare a.png b.png -o c.html --force",
    "demo --port 7861 --model gan_x2",
    "info gan_x4 --json",
    "tune gan_x4",
    "doctor --json",
    "--version",
    "-v upscale --help",
)


def seeds(target: str) -> list[bytes]:
    """Return valid inputs of a target, and some that are longer than fuzzing would find."""
    return [*_valid(target), *_long(target)]


def _long(target: str) -> list[bytes]:
    digits, text = b"9" * 5000, _manifest().to_json()
    if target == "manifest":
        large = text.replace('"scores":{', '"scores":{"a":{"b":' + "9" * 400 + "},")
        return [b"[" * 3000, b'{"schema":1,"scale":' + digits + b"}", large.encode()]
    if target == "plan":
        return [b"vtrt" + bytes(60) + b'{"schema":' + b"[" * 3900]
    if target == "recipe":
        rate = b"[optimizer]\nlearning_rate = "
        lines = [b"steps = " + digits, rate + digits[:400], rate + b"nan", b"a = " + b"[" * 3000]
        return [b'name = "a"\nscale = 2\n' + line for line in lines]
    return []


def _valid(target: str) -> list[bytes]:
    text = _manifest().to_json()
    if target == "manifest":
        return [text.encode(), json.dumps({"schema": 1, "name": "a"}).encode()]
    if target == "onnx":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            networks.identity(path, metadata={METADATA_KEY: text})
            other = networks.nearest(Path(folder) / "other.onnx")
            return [path.read_bytes(), other.read_bytes()]
    if target == "plan":
        return [b"vtrt" + bytes(range(60)) + text.encode() + bytes(40), b"ptrt" + bytes(80)]
    if target == "picture":
        return _pictures()
    if target == "recipe":
        recipes = Path(__file__).parents[2] / "training" / "recipes"
        return [path.read_bytes() for path in sorted(recipes.glob("*.toml"))]
    return [line.replace(" ", "\0").encode() for line in COMMAND_LINES]


def words(target: str) -> list[str]:
    """Return the words of libFuzzer's dictionary for a target."""
    if target in ("manifest", "plan", "onnx"):
        return [f'"{field.name}":' for field in dataclasses.fields(Manifest)]
    if target == "recipe":
        return sorted(_keys(Recipe))
    if target == "command_line":
        return sorted({word for line in COMMAND_LINES for word in line.split()})
    return ["acTL", "fcTL", "eXIf", "iCCP", "tEXt", "Exif", "NETSCAPE2.0", "ANMF", "VP8X"]


def _keys(kind: type[Any]) -> set[str]:
    hints = get_type_hints(kind)
    inner = [_keys(hint) for hint in hints.values() if dataclasses.is_dataclass(hint)]  # type: ignore[arg-type]
    return set(hints).union(*inner)


def _manifest() -> Manifest:
    manifest = read_manifest(models.find("gan_x2"))
    assert manifest is not None
    only: dict[str, Any] = {"profiles": ((1, 64, 64),), "size_px": (64, 64)}
    # the probe of the .onnx file has another size
    return dataclasses.replace(manifest, sms=(86, 89), probe=None, **only)


def _pictures() -> list[bytes]:
    rgb = Image.fromarray(np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3))
    exif = Image.Exif()
    exif[274], exif[305] = 6, "srsdk"
    found = []
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "TGA", "JPEG2000", "ICO"):
        options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
        found.append(_saved(rgb, kind, **options))
    kinds = {"RGBA": "PNG", "P": "PNG", "I;16": "PNG", "CMYK": "TIFF", "F": "TIFF"}
    for mode, kind in kinds.items():
        image = rgb.convert("L").convert("I;16") if mode == "I;16" else rgb.convert(mode)
        found.append(_saved(image, kind))
    others = [rgb.rotate(90 * turn) for turn in (1, 2)]
    several = ("GIF", "PNG", "WEBP", "TIFF")
    return [*found, *(_saved(rgb, kind, save_all=True, append_images=others) for kind in several)]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
