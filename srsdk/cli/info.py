"""`srsdk info MODEL`: show the metadata of a model file."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

import srsdk
from srsdk import models
from srsdk.autotune.forms import int8_file
from srsdk.cli.arguments import MODEL_HELP, known_model
from srsdk.errors import ModelError
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX, read_plan_header
from srsdk.manifest import Manifest, read_manifest
from srsdk.models.catalog import PURPOSES
from srsdk.system.text import plain


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk info`."""
    command.add_argument("model", type=known_model, metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the metadata of a model file."""
    path = models.find(arguments.model)
    manifest = read_manifest(path)
    if manifest is None:
        if path.suffix == PLAN_SUFFIX:
            raise ModelError(
                f"{path} carries no manifest; from a checkout of srsdk, `python -m export` builds "
                "engines that do"
            )
        with srsdk.Upscaler(path) as up:
            manifest = up.manifest
    values = {"file": str(path), "bytes": path.stat().st_size, **manifest.to_dict()}
    is_shipped = models.is_name(arguments.model)
    if is_shipped:
        values["purpose"] = PURPOSES.get(path.stem.partition(".")[0], "")
    int8 = int8_file(path) if is_shipped else None
    if int8 is not None:
        values["auto_on_cpu"] = int8.name
    header = read_plan_header(path) if path.suffix == PLAN_SUFFIX else None
    if header is not None:
        values["plan"] = asdict(header)
    if arguments.json:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        sys.stdout.write(table(flat(values, manifest)))
    return 0


def table(rows: list[tuple[str, str]]) -> str:
    """Return a two-column text table, with terminal control characters escaped."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"{plain(name):<{width}}  {plain(value)}\n" for name, value in rows)


def flat(values: dict[str, Any], manifest: Manifest) -> list[tuple[str, str]]:
    """Return all values as (name, value) rows; nested tables follow the plain values."""
    rows = [(name, str(value)) for name, value in values.items() if not isinstance(value, dict)]
    for name, score in manifest.scores.items():
        rows.append((name, ", ".join(f"{key} {value:g}" for key, value in score.items())))
    if (probe := manifest.probe) is not None:
        height, width = probe.size_px
        limits = f"{probe.min_psnr_db:g} dB or more and {probe.max_lsb} levels or fewer"
        rows.append(("probe", f"{width}x{height}: {limits} from the float32 network"))
    for name, value in values.get("plan", {}).items():
        rows.append((f"plan header: {name}", str(value)))
    rows += [(f"built with {name}", version) for name, version in manifest.built_with.items()]
    return rows
