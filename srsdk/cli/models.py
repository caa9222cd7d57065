"""`srsdk models`: list the shipped models or the models in a folder."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from srsdk import models
from srsdk.errors import ModelError
from srsdk.manifest import Manifest, read_manifest
from srsdk.system.text import plain


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk models`."""
    command.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=models.FOLDER,
        metavar="FOLDER",
        help="folder of model files (default: the shipped models)",
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """List the models of a folder with their scores, sizes and licenses."""
    if not arguments.folder.is_dir():
        raise ModelError(f"{arguments.folder}: no such folder")
    # reading a named pipe would block forever
    files = [
        path
        for path in sorted(arguments.folder.iterdir())
        if path.suffix in models.SUFFIXES and path.is_file()
    ]
    if not files:
        raise ModelError(f"{arguments.folder} contains no model files")
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
    by_licence: dict[str, list[str]] = {}
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
        by_licence.setdefault(manifest.licence or "not stated", []).append(path.stem)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(
            [*(f"{cell:<{width}}" for cell, width in zip(row[:4], widths, strict=True)), row[4]]
        )
        for row in rows
    ]
    lines += [f"license of {', '.join(names)}: {licence}" for licence, names in by_licence.items()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _kinds() -> Iterator[str]:
    for kind, by_scale in models.DEFAULTS.items():
        names = " or ".join(" + ".join(chain) for chain in by_scale.values())
        yield f"for --kind {kind}: {names}\n"


def _shown(lines: str) -> str:
    return "".join(f"{plain(line)}\n" for line in lines.split("\n")[:-1])
