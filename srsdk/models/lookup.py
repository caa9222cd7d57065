"""From a name to a model file: fetched models, then those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from srsdk.errors import ModelError
from srsdk.models import store
from srsdk.models.cards import CHECKPOINTS, PACKAGE_SUFFIX, Card
from srsdk.system.durable import digest_of


@dataclass(frozen=True)
class Located:
    """A model file that is ready to be opened, and what is known of it beside its own metadata."""

    path: Path
    """The `.onnx` or `.engine` file."""
    card: Card | None = None
    """Where it comes from; None: a shipped model, or a file of the caller's."""
    io: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What its package says that it reads and writes, as keyword arguments of `srsdk.IO`."""


def names() -> list[str]:
    """Return the names of all models that are not shipped; no package is imported."""
    from srsdk.models import plugins

    return sorted({*store.names(), *plugins.names()})


def card(name: str) -> Card | None:
    """Return the card of a model that is not shipped; None: there is none of this name.

    Raises:
        ModelError: its card or its package is broken.
    """
    # reading the metadata of all packages takes milliseconds: only if needed
    found = store.card(name)
    if found is not None:
        return found
    from srsdk.models import plugins

    return plugins.card(name)


def ready(found: Card, scale: int | None) -> Located:
    """Verify the SHA-256 of a model's file and return what can be opened.

    Raises:
        ModelError: another file than the card says, damaged, or a checkpoint.
        UsageError: a package of several models, and `scale` does not choose one.
    """
    store.verify(found)
    if found.path.suffix in CHECKPOINTS:
        raise checkpoint_error(found.name, found.path)
    if found.path.suffix == PACKAGE_SUFFIX:
        return packaged(found.path, scale, found)
    return Located(found.path, found)


def packaged(path: Path, scale: int | None, own: Card | None = None) -> Located:
    """Unpack a model of a darktable package and return what can be opened.

    Args:
        path: the package.
        scale: of the model, where it holds several.
        own: its card, with its SHA-256 verified; None: a file of the caller's.

    Raises:
        ModelError: damaged, for another task, or it cannot be unpacked.
        UsageError: several models, and `scale` does not choose one.
    """
    from srsdk.models.darktable import read_package, unpack

    package = read_package(path)
    member = package.choose(scale, own.member if own else "")
    try:
        digest = (own.sha256 if own else "") or digest_of(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    about = own or Card(name=package.file_name(member), origin="file", path=path, source=str(path))
    about = replace(
        about,
        sha256=digest,
        member=member,
        license=about.license or package.card.get("license", ""),
        author=about.author or package.card.get("author", ""),
        description=about.description or package.description,
        architecture=about.architecture or package.architecture,
        scale=about.scale or package.scale(member),
    )
    unpacked = unpack(package, member, digest)
    return Located(unpacked, about, MappingProxyType(package.io(member)))


def checkpoint_error(name: str, path: Path) -> ModelError:
    """Return the error for weights that are no model yet, with the command that exports them."""
    return ModelError(
        f"{name} holds PyTorch weights, which srsdk does not run: in a checkout of srsdk, "
        f"python -m export {path} -o models, then open the .onnx file that it writes"
    )
