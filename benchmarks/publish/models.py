"""`python -m benchmarks models`: generate the table of shipped models from their manifests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.publish import tables
from benchmarks.records import RecordError
from srsdk import models
from srsdk.manifest import Manifest, read_manifest

BEGIN = "<!-- python -m benchmarks models: begin -->"
SETS = ("Set5", "Set14", "BSD100")
FORMS = ("", ".fp16", ".int8", ".int8.gpu")
"""Suffixes of a model's files: precision, and the processor that INT8 is for."""
PURPOSE = {
    "ae_x1": "noise and JPEG damage: `--denoise`, `--kind compressed`",
    "drawing_x4": "comics, charts, screenshots: `--kind drawing`",
    "gan_x2": "photographs, fidelity; the default of x2",
    "gan_x2_quality": "the same, four times the weights",
    "gan_x2_quality_texture": "the same, texture",
    "gan_x2_texture": "photographs, texture; `texture=` mixes it with `gan_x2`",
    "gan_x4": "photographs, fidelity; the default",
    "gan_x4_quality": "the same, two layers more, learned from a larger network",
    "gan_x4_quality_texture": "the same, texture",
    "gan_x4_texture": "photographs, texture; `texture=` mixes it with `gan_x4`",
    "realtime_x2": "video in real time: luma only, the default of `srsdk video`",
    "realworld_x4": "blurred, noisy and JPEG: `--kind realworld`",
    "vae_x4": "the mean of a distribution: samples and confidence",
}


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
        RecordError: a file without markers, or a shipped model that `PURPOSE` lacks.
    """
    text = published()
    if arguments.write is None:
        sys.stdout.write(text)
        return 0
    before = arguments.write.read_text(encoding="utf-8")
    after = tables.replaced(before, text, str(arguments.write), begin=BEGIN)
    arguments.write.write_text(after, encoding="utf-8")
    return 0


def published() -> str:
    """Return both tables: upscaling models and restoration models.

    Raises:
        RecordError: a shipped model that `PURPOSE` lacks.
    """
    names = [name for name in models.shipped() if "." not in name]
    unknown = [name for name in names if name not in PURPOSE]
    if unknown:
        raise RecordError(
            f"no purpose of {', '.join(unknown)}: add it to PURPOSE in benchmarks/publish/models.py"
        )
    manifests = {name: _manifest(name) for name in names}
    larger = [name for name in names if manifests[name].scale > 1]
    larger.sort(key=lambda name: manifests[name].scale)
    lines = [
        "| model | for | " + " | ".join(SETS) + " | INT8 costs | KB |",
        "|" + "---|" * (len(SETS) + 4),
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
    return f"| `{name}` | {PURPOSE[name]} | {scores} | {', '.join(costs)} | {_sizes(name)} |"


def _restorer_rows(name: str, manifest: Manifest) -> Iterator[str]:
    damages = list(manifest.scores)
    yield "| repair at the same size | for | " + " | ".join(damages) + " | INT8 costs | KB |"
    yield "|" + "---|" * (len(damages) + 4)
    scores = " | ".join(f"{manifest.scores[damage]['psnr_y_db']:.2f}" for damage in damages)
    costs = [
        f"{max(score['loss_db'] for score in _manifest(name + form).scores.values()):.3f}"
        for form in FORMS[2:]
        if _file(name, form)
    ]
    yield f"| `{name}` | {PURPOSE[name]} | {scores} | {', '.join(costs)} | {_sizes(name)} |"


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
