"""What `srsdk info` shows of a model beside its manifest: where it comes from, and its terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srsdk.models.cards import Card, license_note
from srsdk.models.darktable import read_package

_TEXTS = ("origin", "source", "author", "description", "architecture", "fetched", "sha256")


def of_card(card: Card) -> dict[str, Any]:
    """Return what is known of a model that is not shipped; only what is stated."""
    values = {name: getattr(card, name) for name in _TEXTS if getattr(card, name)}
    if card.member:
        values["package"] = f"{card.path}: {card.member}.onnx"
    if card.license:
        values["licence"] = card.license
    if note := license_note(card.license):
        values["licence_note"] = note
    return values


def of_package(path: Path) -> dict[str, Any]:
    """Return what a darktable package says of itself; no network is opened.

    Raises:
        ModelError: damaged, or for a task that srsdk has no use for.
    """
    package = read_package(path)
    stated = {name: text for name, text in package.card.items() if text and name != "license"}
    named = {f"model {each}": package.io(each) for each in package.models}
    note = license_note(package.card.get("license", ""))
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "name": package.id,
        "description": package.description,
        "task": package.task,
        "architecture": package.architecture,
        "scales": sorted(package.scales()),
        "licence": package.card.get("license", ""),
        **({"licence_note": note} if note else {}),
        **stated,
        **{
            name: ", ".join(f"{key} {value}" for key, value in io.items())
            for name, io in named.items()
        },
    }
