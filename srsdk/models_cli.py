"""`srsdk models` and `srsdk info MODEL`: what the model files say of themselves."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import srsdk
from srsdk import models
from srsdk._plan import PLAN_SUFFIX, read_plan_header
from srsdk.errors import ModelError
from srsdk.manifest import Manifest, read_manifest
from srsdk.terminal import plain


def add_info_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk info`."""
    command.add_argument("model", help="a shipped model's name or the path of a file")
    command.add_argument("--json", action="store_true", help="machine-readable")


def add_models_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk models`."""
    command.add_argument(
        "folder", nargs="?", type=Path, default=models.FOLDER, help="the shipped ones, or a folder"
    )
    command.add_argument("--json", action="store_true", help="machine-readable")


def show(arguments: argparse.Namespace) -> int:
    """List the models of a folder with their scores, sizes and terms."""
    if not arguments.folder.is_dir():
        raise ModelError(f"{arguments.folder}: no such folder")
    # a pipe would be waited for for ever
    files = [
        path
        for path in sorted(arguments.folder.iterdir())
        if path.suffix in models.SUFFIXES and path.is_file()
    ]
    if not files:
        raise ModelError(f"{arguments.folder} holds no model file")
    known = [(path, read_manifest(path)) for path in files]
    if arguments.json:
        listed = [
            {
                **(manifest.to_dict() if manifest else {}),
                "model": path.stem,
                "bytes": path.stat().st_size,
            }
            for path, manifest in known
        ]
        sys.stdout.write(json.dumps(listed, indent=2) + "\n")
    else:
        sys.stdout.write(_shown(_list(known)))
        if arguments.folder == models.FOLDER:
            sys.stdout.write("".join(_kinds()))
    return 0


def _list(known: list[tuple[Path, Manifest | None]]) -> str:
    rows = [("MODEL", "SCALE", "PRECISION", "KIB", "PSNR-Y, dB")]
    terms: dict[str, list[str]] = {}
    for path, manifest in known:
        kib = f"{path.stat().st_size / 1024:.0f}"
        if manifest is None:
            rows.append((path.name, "?", "?", kib, "carries no manifest"))
            continue
        scores = ", ".join(
            f"{name} {score['psnr_y_db']:.2f}"
            for name, score in manifest.scores.items()
            if "psnr_y_db" in score
        )
        rows.append((path.stem, f"x{manifest.scale}", manifest.precision, kib, scores))
        terms.setdefault(manifest.licence or "not stated", []).append(path.stem)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(
            [*(f"{cell:<{width}}" for cell, width in zip(row[:4], widths, strict=True)), row[4]]
        )
        for row in rows
    ]
    lines += [f"terms of {', '.join(names)}: {licence}" for licence, names in terms.items()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _kinds() -> Iterator[str]:
    for kind, by_scale in models.DEFAULTS.items():
        names = " or ".join(" + ".join(chain) for chain in by_scale.values())
        yield f"for --kind {kind}: {names}\n"


def info(arguments: argparse.Namespace) -> int:
    """Show what a model file says of itself."""
    path = models.find(arguments.model)
    manifest = read_manifest(path)
    if manifest is None:
        if path.suffix == PLAN_SUFFIX:
            raise ModelError(f"{path} carries no manifest; engines of `python -m export` do")
        with srsdk.Upscaler(path) as up:
            manifest = up.manifest
    values = {"file": str(path), "bytes": path.stat().st_size, **manifest.to_dict()}
    header = read_plan_header(path) if path.suffix == PLAN_SUFFIX else None
    if header is not None:
        values["plan"] = asdict(header)
    if arguments.json:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        sys.stdout.write(table(flat(values, manifest)))
    return 0


def _shown(lines: str) -> str:
    return "".join(f"{plain(line)}\n" for line in lines.split("\n")[:-1])


def table(rows: list[tuple[str, str]]) -> str:
    """Return two columns; nothing in them can steer a terminal."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"{plain(name):<{width}}  {plain(value)}\n" for name, value in rows)


def flat(values: dict[str, Any], manifest: Manifest) -> list[tuple[str, str]]:
    """Return all values as rows, those of tables behind the others."""
    rows = [(name, str(value)) for name, value in values.items() if not isinstance(value, dict)]
    for name, score in manifest.scores.items():
        rows.append((name, ", ".join(f"{key} {value:g}" for key, value in score.items())))
    if (probe := manifest.probe) is not None:
        height, width = probe.size_px
        promise = f"{probe.min_psnr_db:g} dB or more and {probe.max_lsb} levels or fewer"
        rows.append(("probe", f"{width}x{height}: {promise} from the float32 network"))
    for name, value in values.get("plan", {}).items():
        rows.append((f"plan header: {name}", str(value)))
    rows += [(f"built with {name}", version) for name, version in manifest.built_with.items()]
    return rows
