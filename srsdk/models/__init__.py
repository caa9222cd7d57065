"""Find a model file by name, by path, or by kind of picture: shipped, fetched, or of a package.

Uses: errors, formats, manifest, system.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from types import MappingProxyType

from srsdk.errors import ModelError, UsageError
from srsdk.formats.files import check_regular
from srsdk.models import lookup
from srsdk.models.cards import CHECKPOINTS, PACKAGE_SUFFIX, Card
from srsdk.models.lookup import Located

FOLDER = Path(__file__).parent
SUFFIXES = (".onnx", ".engine")
DEFAULTS = MappingProxyType(
    {
        "photo": MappingProxyType({2: ("gan_x2",), 4: ("gan_x4",)}),
        "compressed": MappingProxyType({2: ("ae_x1", "gan_x2"), 4: ("ae_x1", "gan_x4")}),
        "realworld": MappingProxyType({2: ("realworld_x2",), 4: ("realworld_x4",)}),
        "drawing": MappingProxyType({2: ("gan_x2",), 4: ("gan_x4",)}),
    }
)
"""Model names by kind of picture and scale, in running order. `photo`: small, but clean;
`compressed`: JPEG artifacts or noise, but sharp; `realworld`: blurred, noisy and compressed,
perhaps more than once; `drawing`: comics, charts, screenshots, of which the models for photographs
have learned too."""

VIDEO = MappingProxyType(
    {
        "realtime": MappingProxyType({2: "realtime_x2", 4: "realtime_x4"}),
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
        known = " or ".join(map(str, by_scale))
        raise UsageError(f"no {quality} model enlarges {scale} times, only {known}")
    return by_scale[scale]


def single() -> tuple[str, ...]:
    """Return the kinds that need a single model."""
    return tuple(
        kind
        for kind, by_scale in DEFAULTS.items()
        if all(len(names) == 1 for names in by_scale.values())
    )


def find(model: str | os.PathLike[str], scale: int | None = None) -> Path:
    """Return the model file for a name or a path; arguments and errors are those of `locate`."""
    return locate(model, scale).path


def locate(model: str | os.PathLike[str], scale: int | None = None) -> Located:
    """Return the model file for a name or a path, and what is known of it.

    Args:
        model: the name of a shipped model, of one that `srsdk fetch` has fetched, or of one that an
            installed package brings, looked up in this order; or a path.
        scale: which model of a darktable package that holds several; None: its only one.

    Raises:
        ModelError: neither such a name nor a path to a regular file; a fetched file that was
            changed; or a package that is damaged.
        UsageError: no name or path, or a package of several models and no scale.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise UsageError(
            f"model is {model!r}, expected a name such as 'gan_x4' or the path of a model file"
        )
    if not is_name(model):
        return _at(model, scale)
    name = str(model)
    if name in shipped():
        return Located(FOLDER / f"{name}.onnx")
    found = card(name)
    if found is None:
        raise _unknown(name)
    return lookup.ready(found, scale)


def card(name: str) -> Card | None:
    """Return where a model comes from, and its license; None: shipped, unknown, or a path.

    Raises:
        ModelError: its card or the package that brings it is broken.
    """
    return lookup.card(name) if is_name(name) and name not in shipped() else None


def names() -> list[str]:
    """Return all names that `find` takes; of the models of packages nothing is imported."""
    return sorted({*shipped(), *lookup.names()})


def is_name(model: str | os.PathLike[str]) -> bool:
    """Return whether `find` takes `model` as a name, not as a path."""
    path = Path(model)
    is_file = path.suffix in (*SUFFIXES, PACKAGE_SUFFIX)
    return not (is_file or len(path.parts) > 1 or isinstance(model, os.PathLike))


def _at(model: str | os.PathLike[str], scale: int | None) -> Located:
    """Locate the model file at a path."""
    path = Path(model)
    if "://" in str(model):
        raise ModelError(
            f"{model} is a URL, and srsdk opens none: srsdk fetch NAME --from {model} --sha256 HEX "
            "stores the file, then open NAME"
        )
    if path.name == str(model) and path.stem in shipped() and not path.exists():
        raise ModelError(f"{model}: no such file; the shipped model is {path.stem!r}")
    check_regular(path)
    if path.suffix == PACKAGE_SUFFIX:
        return lookup.packaged(path, scale)
    if path.suffix in CHECKPOINTS:
        raise lookup.checkpoint_error(str(path), path)
    if path.suffix not in SUFFIXES:
        raise ModelError(
            f"{path}: expected a name ending in {', '.join(SUFFIXES)} or {PACKAGE_SUFFIX}"
        )
    return Located(path)


def _unknown(name: str) -> ModelError:
    """Return the error for a name that no model has."""
    if Path(name).suffix in CHECKPOINTS and Path(name).is_file():
        return lookup.checkpoint_error(name, Path(name))
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names(), 1)
    meant = f", did you mean {near[0]!r}?" if near else ";"
    others = lookup.names()
    return ModelError(
        f"{name!r} is not a shipped model{meant} available: "
        f"{', '.join([*_float32_names(), *others]) or 'none'} (srsdk models lists every "
        "precision); for a file, give its path, such as ./my_model.onnx"
    )


def _float32_names() -> list[str]:
    """Return the names of the float32 models; the other files are smaller variants of these."""
    return [name for name in shipped() if "." not in name]
