"""`srsdk models`: list all models that have a name, or the models in a folder."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from srsdk import models
from srsdk.cli.terminal import one_line
from srsdk.cli.wording import for_command_line
from srsdk.errors import ModelError
from srsdk.manifest import Manifest, read_manifest
from srsdk.models.cards import license_note
from srsdk.models.catalog import PURPOSES, ModelInfo, list_models
from srsdk.models.terms import in_words, may_be_shipped

WIDTH = 100
"""Columns of the list."""
GROUPS: Mapping[str, Callable[[ModelInfo], bool]] = {
    "restoration": lambda model: model.scale == 1,
    "video": lambda model: "video" in model.purpose,
    "photographs": lambda _: True,
}
"""What models are for; a model belongs to the first group that it fits."""
ORDER = ("photographs", "video", "restoration")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk models`."""
    command.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=models.FOLDER,
        metavar="FOLDER",
        help="folder of model files (default: the shipped models and those that were fetched or "
        "belong to installed packages)",
    )
    command.add_argument(
        "--all", action="store_true", help="one line for each file, with its precision and size"
    )
    command.add_argument("--json", action="store_true", help="print JSON, one object for each file")


def run(arguments: argparse.Namespace) -> int:
    """List models with what they are for, or the files of a folder."""
    is_shipped = arguments.folder == models.FOLDER
    known = list_models() if is_shipped else []
    shipped = [model for model in known if model.origin == "shipped"]
    others = [model for model in known if model.origin != "shipped"]
    if is_shipped and not arguments.all and not arguments.json:
        lines = [*_models(shipped), "", *_choices(), "", *_hints(shipped), *_others(others)]
    else:
        files = _files(arguments.folder)
        if arguments.json:
            listed = [_described(path, manifest, is_shipped) for path, manifest in files]
            listed += [_fetched(model) for model in others]
            sys.stdout.write(json.dumps(listed, indent=2) + "\n")
            return 0
        lines = [*_table(files), *_others(others)]
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines))
    return 0


def _files(folder: Path) -> list[tuple[Path, Manifest | None]]:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    # reading a named pipe would block forever
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in models.SUFFIXES and path.is_file()
    ]
    if not files:
        raise ModelError(f"{folder} contains no model files")
    return [(path, read_manifest(path)) for path in files]


def _models(known: Sequence[ModelInfo]) -> Iterator[str]:
    """Yield one line for each model, grouped by what they are for and by scale."""
    groups: dict[tuple[int, int], list[ModelInfo]] = {}
    for model in known:
        group = next(name for name, fits in GROUPS.items() if fits(model))
        groups.setdefault((ORDER.index(group), -(model.scale or 0)), []).append(model)
    rows = {model.name: _row(model) for model in known}
    head = ("MODEL", "FOR", "PRECISIONS", "PSNR-Y, Set5", "SHIP")
    widths = [max(len(row[at]) for row in (head, *rows.values())) for at in range(len(head))]
    yield _line(head, widths)
    for (group_index, scale), members in sorted(groups.items()):
        yield f"{ORDER[group_index]}, x{-scale}"
        yield from (_line(rows[model.name], widths) for model in members)


def _row(model: ModelInfo) -> tuple[str, ...]:
    # the heading of the group says "photographs"
    about = for_command_line(model.purpose).removeprefix("photographs, ")
    about = about.removeprefix("photographs; ").removesuffix(" photographs")
    precisions = " ".join(name for name in model.precisions if name != "int8.gpu")
    score = _score(model.psnr_y_db)
    return model.name, about, precisions, score, in_words(model.may_be_shipped)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))


def _score(scores: Mapping[str, float]) -> str:
    """Return the score on the first set in dB; for one that is not Set5 as it is, with which."""
    for name, value in scores.items():
        condition = name.removeprefix("Set5").strip()
        return f"{value:.2f}" + (f" ({condition})" if condition else "")
    return ""


def _choices() -> Iterator[str]:
    for kind, by_scale in models.DEFAULTS.items():
        names = " or ".join(" + ".join(chain) for chain in by_scale.values())
        yield f"for --kind {kind}: {names}"
    for quality, names_by_scale in models.VIDEO.items():
        yield f"for video --quality {quality}: {' or '.join(names_by_scale.values())}"


def _others(known: Sequence[ModelInfo]) -> Iterator[str]:
    """Yield two lines for each model that is not shipped, grouped by where they come from."""
    for origin, title in (("fetched", "fetched"), ("package", "of installed packages")):
        members = [model for model in known if model.origin == origin]
        if members:
            yield ""
            yield title
        for model in members:
            scale = f"x{model.scale}" if model.scale else "x?"
            note = license_note(model.license)
            terms = note or model.license
            yield f"  {model.name}  {scale}  {one_line(terms)}"[:WIDTH]
            yield f"    may be shipped: {in_words(model.may_be_shipped)}"
            yield f"    {one_line(model.source)}"


def _fetched(model: ModelInfo) -> dict[str, object]:
    """Return a model that is not shipped as plain values."""
    return {
        "model": model.name,
        "origin": model.origin,
        "source": model.source,
        "scale": model.scale,
        "channels": model.channels,
        "licence": model.license,
        "training_licenses": model.training_licenses,
        "may_be_shipped": model.may_be_shipped,
        "purpose": model.purpose,
        "bytes": model.size_bytes,
    }


def _hints(known: Sequence[ModelInfo]) -> Iterator[str]:
    by_license: dict[str, list[str]] = {}
    for model in known:
        by_license.setdefault(_short(model.license), []).append(model.name)
    for name, members in by_license.items():
        which = "all weights" if len(by_license) == 1 else ", ".join(members)
        yield from _wrapped(f"license of {which}: {name}")
    yield "SHIP: whether it may be shipped in a product, by the licenses of the weights and of all"
    yield "  pictures that they were learned from: srsdk info NAME; the rule: docs/licenses.md"
    yield "every file with its size: srsdk models --all"


def _short(license_text: str) -> str:
    """Return the SPDX identifier at the start of a license text."""
    return (license_text.split() or ["not stated"])[0].rstrip(";,")


def _table(known: Iterable[tuple[Path, Manifest | None]]) -> Iterator[str]:
    """Yield one line for each file, then the licenses."""
    rows = [("MODEL", "SCALE", "PRECISION", "KIB", "PSNR-Y, dB")]
    by_license: dict[str, list[str]] = {}
    for path, manifest in known:
        kib = f"{path.stat().st_size / 1024:.0f}"
        if manifest is None:
            rows.append((one_line(path.name), "?", "?", kib, "carries no manifest"))
            continue
        scores = ", ".join(
            f"{name} {score['psnr_y_db']:.2f}"
            for name, score in manifest.scores.items()
            if "psnr_y_db" in score
        )
        name = one_line(path.stem)
        rows.append((name, f"x{manifest.scale}", manifest.precision, kib, one_line(scores)))
        names = by_license.setdefault(one_line(manifest.licence) or "not stated", [])
        if (model := name.partition(".")[0]) not in names:
            names.append(model)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:4], widths, strict=True)]
        line = "  ".join([*cells, row[4]])
        yield line if len(line) <= WIDTH else f"{line[: WIDTH - 5].rpartition(',')[0]}, ..."
    for text, names in by_license.items():
        yield from _wrapped(f"license of {', '.join(names)}: {text}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def _described(path: Path, manifest: Manifest | None, is_shipped: bool) -> dict[str, object]:
    values: dict[str, object] = {**(manifest.to_dict() if manifest else {}), "model": path.stem}
    name = path.stem.partition(".")[0]
    if is_shipped:
        values["purpose"] = PURPOSES.get(name, "")
    if manifest is not None:
        values["training_licenses"] = manifest.training_licenses
        values["may_be_shipped"] = may_be_shipped(manifest.licence, manifest.training_licenses)
    return {**values, "bytes": path.stat().st_size}
