"""`srsdk info MODEL`: show the metadata of a model file."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import srsdk
from srsdk import models
from srsdk.autotune.forms import int8_file
from srsdk.cli.arguments import MODEL_HELP, known_model
from srsdk.cli.models import provenance
from srsdk.errors import ModelError
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX, read_plan_header
from srsdk.manifest import Manifest, read_manifest
from srsdk.models.cards import CHECKPOINTS, PACKAGE_SUFFIX
from srsdk.models.catalog import PURPOSES
from srsdk.models.terms import in_words, may_be_shipped
from srsdk.system.text import plain


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk info`."""
    command.add_argument("model", type=known_model, metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the metadata of a model file."""
    values, manifest = _values(arguments.model)
    licenses = values.get("training_licenses", ())
    values["may_be_shipped"] = may_be_shipped(values.get("licence", ""), licenses)
    if arguments.json:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        sys.stdout.write(table(flat(values, manifest)))
    return 0


def _values(model: str) -> tuple[dict[str, Any], Manifest | None]:
    """Return all that is known of a model, and its manifest; None: weights, or a package."""
    if Path(model).suffix == PACKAGE_SUFFIX:
        return provenance.of_package(Path(model)), None
    card = models.card(model)
    if card is not None and card.path.suffix in CHECKPOINTS:
        about = {"file": str(card.path), "bytes": card.size_bytes, "name": card.name}
        return {**about, "scale": card.scale, **provenance.of_card(card)}, None
    located = models.locate(model)
    path, manifest = located.path, read_manifest(located.path)
    if manifest is None:
        if path.suffix == PLAN_SUFFIX:
            raise ModelError(
                f"{path} carries no manifest; from a checkout of srsdk, `python -m export` builds "
                "engines that do"
            )
        with srsdk.Upscaler(model) as up:
            manifest = up.manifest
    values = {"file": str(path), "bytes": path.stat().st_size, **manifest.to_dict()}
    if located.card is not None:
        values |= provenance.of_card(located.card)
    is_shipped = models.is_name(model) and located.card is None
    if is_shipped:
        name = path.stem.partition(".")[0]
        values["purpose"] = PURPOSES.get(name, "")
        values["training_licenses"] = manifest.training_licenses
    int8 = int8_file(path) if is_shipped else None
    if int8 is not None:
        values["auto_on_cpu"] = int8.name
    header = read_plan_header(path) if path.suffix == PLAN_SUFFIX else None
    if header is not None:
        values["plan"] = asdict(header)
    return values, manifest


def table(rows: list[tuple[str, str]]) -> str:
    """Return a two-column text table, with terminal control characters escaped."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"{plain(name):<{width}}  {plain(value)}\n" for name, value in rows)


def flat(values: dict[str, Any], manifest: Manifest | None) -> list[tuple[str, str]]:
    """Return all values as (name, value) rows; nested tables follow the plain values."""
    shown = {
        **values,
        "training_licenses": ", ".join(values.get("training_licenses", ())) or "not stated",
        "may_be_shipped": in_words(values.get("may_be_shipped")),
    }
    rows = [(name, str(value)) for name, value in shown.items() if not isinstance(value, dict)]
    if manifest is None:
        return rows
    for name, score in manifest.scores.items():
        rows.append((name, ", ".join(f"{key} {value:g}" for key, value in score.items())))
    if (probe := manifest.probe) is not None:
        height, width = probe.size_px
        limits = f"{probe.min_psnr_db:g} dB or more and {probe.max_lsb} levels or fewer"
        rows.append(("probe", f"{width}x{height}: {limits} from the float32 network"))
    for name, value in values.get("plan", {}).items():
        rows.append((f"plan header: {name}", str(value)))
    if manifest.tiling_db:
        by_overlap = (f"{db:g} dB at {px} px" for px, db in manifest.tiling_db.items())
        rows.append(("tiles against the whole", ", ".join(by_overlap) + " of overlap"))
    for name, value in manifest.inputs.items():
        low_high = manifest.input_ranges.get(name)
        allowed = f", {low_high[0]:g} to {low_high[1]:g}" if low_high else ""
        rows.append((f"input {name}", f"{value:g} by default{allowed}"))
    rows += [(f"network {name}", text) for name, text in manifest.io.items()]
    rows += [(f"built with {name}", version) for name, version in manifest.built_with.items()]
    return rows
