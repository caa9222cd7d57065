"""`srsdk tune MODEL`: show what is fastest here, measuring it if need be."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from srsdk import models
from srsdk.engines import BACKENDS
from srsdk.tune import tuned
from srsdk.tune_cache import Choice, folder


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk tune`."""
    command.add_argument("model", help="a shipped model's name or the path of a file")
    command.add_argument("--backend", choices=("auto", *BACKENDS), default="auto")
    command.add_argument("--threads", type=int, help="CPU threads of the backend")
    command.add_argument("--force", action="store_true", help="measure again")
    command.add_argument("--json", action="store_true", help="machine-readable")


def show(arguments: argparse.Namespace) -> int:
    """Print what was measured and what is chosen."""
    choice = tuned(
        models.find(arguments.model),
        backend=arguments.backend,
        threads=arguments.threads,
        again=arguments.force,
    )
    text = json.dumps(asdict(choice), indent=2) + "\n" if arguments.json else _table(choice)
    sys.stdout.write(text)
    return 0


def _table(choice: Choice) -> str:
    lines = [
        f"{trial.name:<6} {trial.ms:8.1f} ms  {trial.parity_db:5.1f} dB  {trial.why}".rstrip()
        for trial in choice.trials
    ]
    lines += [f"tile {size:<9} {ms:8.1f} ms" for size, ms in choice.tiles_ms.items()]
    side = round(choice.tile_budget_px**0.5)
    lines.append(f"{choice}: {choice.file}, tiles up to {side}x{side} (kept in {folder()})")
    return "\n".join(lines) + "\n"
