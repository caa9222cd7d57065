"""`python -m benchmarks models`: generate the table of shipped models from their manifests."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.publish import tables
from srsdk import models
from srsdk.manifest import Manifest, read_manifest
from srsdk.models.catalog import PURPOSES
from srsdk.models.terms import in_words, may_be_shipped

BEGIN = "<!-- python -m benchmarks models: begin -->"
SETS = ("Set5", "Set14", "BSD100")
FORMS = ("", ".fp16", ".int8", ".int8.gpu")
"""Suffixes of a model's files: precision, and the processor that INT8 is for."""
CHOSEN_BY = {
    "ae_x1": "`--denoise`, `--kind compressed`",
    "realtime_x2": "`srsdk video`",
    "realtime_x4": "`srsdk video --scale 4`",
    "realworld_x2": "`--kind realworld`",
    "realworld_x4": "`--kind realworld`",
}
"""What chooses a model that is not named, beside the defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `models`."""
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=ROOT / "docs" / "models.md",
        metavar="FILE",
        help="replace the table in FILE (docs/models.md) instead of printing it",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables, or write them between the markers of a file.

    Raises:
        RecordError: a file without markers.
    """
    tables.show(published(), arguments.write, begin=BEGIN)
    return 0


def published() -> str:
    """Return both tables: upscaling models and restoration models."""
    names = [name for name in models.shipped() if "." not in name]
    manifests = {name: _manifest(name) for name in names}
    larger = [name for name in names if manifests[name].scale > 1]
    larger.sort(key=lambda name: manifests[name].scale)
    lines = [
        "| model | for | " + " | ".join(SETS) + " | INT8 costs | KB | may be shipped |",
        "|" + "---|" * (len(SETS) + 5),
        *(_upscaler_row(name, manifests[name]) for name in larger),
    ]
    for name in names:
        if manifests[name].scale == 1:
            lines += ["", *_restorer_rows(name, manifests[name])]
    return "\n".join(lines) + "\n"


def _upscaler_row(name: str, manifest: Manifest) -> str:
    scores = " | ".join(
        f"{manifest.scores[test]['psnr_y_db']:.2f} / {manifest.scores[test]['ssim_y']:.4f}"
        for test in SETS
    )
    costs = []
    for form in FORMS[2:]:
        if _file(name, form):
            found = _manifest(name + form).scores
            costs.append(f"{max(found[test]['loss_db'] for test in SETS):.3f}")
    cells = (_purpose(name), scores, ", ".join(costs), _sizes(name), _terms(name, manifest))
    return f"| `{name}` | {' | '.join(cells)} |"


def _restorer_rows(name: str, manifest: Manifest) -> Iterator[str]:
    damages = list(manifest.scores)
    heads = ("repair at the same size", "for", *damages, "INT8 costs", "KB", "may be shipped")
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    scores = " | ".join(f"{manifest.scores[damage]['psnr_y_db']:.2f}" for damage in damages)
    costs = [
        f"{max(score['loss_db'] for score in _manifest(name + form).scores.values()):.3f}"
        for form in FORMS[2:]
        if _file(name, form)
    ]
    cells = (_purpose(name), scores, ", ".join(costs), _sizes(name), _terms(name, manifest))
    yield f"| `{name}` | {' | '.join(cells)} |"


def _terms(name: str, manifest: Manifest) -> str:
    """Return whether the model may be shipped in a product."""
    return in_words(may_be_shipped(manifest.licence, manifest.training_licenses))


def _purpose(name: str) -> str:
    text = PURPOSES[name].replace("texture=", "`texture=`")
    return f"{text} ({CHOSEN_BY[name]})" if name in CHOSEN_BY else text


def _sizes(name: str) -> str:
    found = [_file(name, form) for form in FORMS]
    return ", ".join(f"{path.stat().st_size / 1000:,.0f}" for path in found if path)


def _file(name: str, form: str) -> Path | None:
    path = models.FOLDER / f"{name}{form}.onnx"
    return path if path.is_file() else None


def _manifest(name: str) -> Manifest:
    manifest = read_manifest(models.find(name))
    assert manifest is not None  # a test checks it for every shipped file
    return manifest
