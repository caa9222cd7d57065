"""Shipped models: find a model file by name, by path, or by kind of picture.

Uses: errors, formats, manifest.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from types import MappingProxyType

from srsdk.errors import ModelError, UsageError
from srsdk.formats.files import check_regular

FOLDER = Path(__file__).parent
SUFFIXES = (".onnx", ".engine")
DEFAULTS = MappingProxyType(
    {
        "photo": MappingProxyType({2: ("gan_x2",), 4: ("gan_x4",)}),
        "compressed": MappingProxyType({2: ("ae_x1", "gan_x2"), 4: ("ae_x1", "gan_x4")}),
        "realworld": MappingProxyType({4: ("realworld_x4",)}),
        "drawing": MappingProxyType({4: ("drawing_x4",)}),
    }
)
"""Model names by kind of picture and scale, in running order. `photo`: small, but clean;
`compressed`: JPEG artifacts or noise, but sharp; `realworld`: blurred, noisy and compressed,
perhaps more than once; `drawing`: comics, charts, screenshots."""

VIDEO = MappingProxyType(
    {
        "realtime": MappingProxyType({2: "realtime_x2"}),
        "balanced": MappingProxyType({2: "gan_x2", 4: "gan_x4"}),
        "best": MappingProxyType({2: "gan_x2_quality", 4: "gan_x4_quality"}),
    }
)
"""Model names for video by quality and scale. `realtime` keeps up with playback on two cores."""


def shipped() -> list[str]:
    """Return the names of the shipped models, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def chain(kind: str = "photo", scale: int = 4) -> tuple[str, ...]:
    """Return the names of the shipped models for a kind of picture, in the order in which they run.

    `srsdk.Chain.of` opens them.

    Args:
        kind: `photo`, `compressed`, `realworld` or `drawing` (see `DEFAULTS`).
        scale: output size over input size.

    Raises:
        UsageError: an unknown kind, or a scale that no model of this kind has.
    """
    if not isinstance(scale, int):
        raise UsageError(f"scale is {scale!r}, expected a whole number such as 4")
    if kind not in DEFAULTS:
        raise UsageError(f"kind is {kind!r}, expected one of {', '.join(DEFAULTS)}")
    by_scale = DEFAULTS[kind]
    if scale not in by_scale:
        known = ", ".join(f"{' + '.join(names)} (x{factor})" for factor, names in by_scale.items())
        raise UsageError(f"no shipped model for {kind} enlarges {scale} times; available: {known}")
    return by_scale[scale]


def default(kind: str = "photo", scale: int = 4) -> str:
    """Return the name of the single shipped model for a kind of picture.

    Arguments and errors are those of `chain`, plus:

    Raises:
        UsageError: the kind needs more than one model.
    """
    names = chain(kind, scale)
    if len(names) > 1:
        raise UsageError(f"{kind} needs {' and '.join(names)}, expected a kind with one model")
    return names[0]


def for_video(quality: str = "realtime", scale: int = 2) -> str:
    """Return the name of the shipped model for video.

    Args:
        quality: `realtime`, `balanced` or `best` (see `VIDEO`).
        scale: output size over input size.

    Raises:
        UsageError: an unknown quality, or a scale that it has no model for.
    """
    if quality not in VIDEO:
        raise UsageError(f"quality is {quality!r}, expected one of {', '.join(VIDEO)}")
    by_scale = VIDEO[quality]
    if scale not in by_scale:
        others = [name for name, scales in VIDEO.items() if scale in scales]
        fix = f"; for {scale} times: {' or '.join(others)}" if others else ""
        known = ", ".join(map(str, by_scale))
        raise UsageError(f"no {quality} model enlarges {scale} times, only {known}{fix}")
    return by_scale[scale]


def single() -> tuple[str, ...]:
    """Return the kinds that need a single model."""
    return tuple(
        kind
        for kind, by_scale in DEFAULTS.items()
        if all(len(names) == 1 for names in by_scale.values())
    )


def find(model: str | os.PathLike[str]) -> Path:
    """Return the model file for a shipped name or a path.

    Raises:
        ModelError: neither a shipped name nor a path to a regular file.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise UsageError(
            f"model is {model!r}, expected a name such as 'gan_x4' or the path of a model file"
        )
    path = Path(model)
    if not is_name(model):
        if "://" in str(model):
            raise ModelError(f"{model} is a URL, and srsdk opens none: download it, pass its path")
        if path.name == str(model) and path.stem in shipped() and not path.exists():
            raise ModelError(f"{model}: no such file; the shipped model is {path.stem!r}")
        check_regular(path)
        if path.suffix not in SUFFIXES:
            raise ModelError(f"{path}: expected a name ending in {' or '.join(SUFFIXES)}")
        return path
    if model not in shipped():
        near = difflib.get_close_matches(str(model).lower().replace("-", "_"), shipped(), 1)
        meant = f", did you mean {near[0]!r}?" if near else ";"
        raise ModelError(
            f"{str(model)!r} is not a shipped model{meant} available: "
            f"{', '.join(_float32_names()) or 'none'} (srsdk models lists every precision); for a "
            "file, give its path, such as ./my_model.onnx"
        )
    return FOLDER / f"{model}.onnx"


def is_name(model: str | os.PathLike[str]) -> bool:
    """Return whether `find` takes `model` as the name of a shipped model, not as a path."""
    path = Path(model)
    return not (path.suffix in SUFFIXES or len(path.parts) > 1 or isinstance(model, os.PathLike))


def _float32_names() -> list[str]:
    """Return the names of the float32 models; the other files are smaller variants of these."""
    return [name for name in shipped() if "." not in name]
