"""`srsdk tune MODEL`: find the fastest way to run a model on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from srsdk import models
from srsdk.autotune.cache import Choice
from srsdk.autotune.trials import tuned
from srsdk.cli.arguments import MODEL_HELP, known_model
from srsdk.engines.backends import BACKENDS
from srsdk.system.user_cache import folder


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk tune`."""
    command.add_argument("model", type=known_model, metavar="MODEL", help=MODEL_HELP)
    command.add_argument(
        "--backend",
        choices=("auto", *BACKENDS),
        default="auto",
        help="inference library (default: auto)",
    )
    command.add_argument(
        "--device",
        choices=("auto", "cpu"),
        default="auto",
        help="auto: all devices that OpenVINO has here, if it is the backend; cpu: the CPU alone "
        "(default: auto)",
    )
    command.add_argument("--threads", type=int, help="CPU threads (default: chosen by the backend)")
    command.add_argument(
        "--force", action="store_true", help="measure again, even if a result is cached"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure unless a result is cached; print the measurements and the choice."""
    choice = tuned(
        models.find(arguments.model),
        backend=arguments.backend,
        threads=arguments.threads,
        again=arguments.force,
        any_device=arguments.device == "auto",
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
    cached = f"cached in {folder()}" if folder() else "not cached: no cache folder"
    lines.append(f"{choice}: {choice.file}, tiles up to {side}x{side} ({cached})")
    return "\n".join(lines) + "\n"
