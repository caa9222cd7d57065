"""`srsdk doctor`: check the installation and suggest fixes."""

from __future__ import annotations

import argparse
import json
import sys

from srsdk import doctor
from srsdk.cli.arguments import EXIT_FAILED


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk doctor`."""
    command.add_argument(
        "--model", metavar="MODEL", help="check this model file in every backend instead"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show versions, devices and backends, and the command that fixes each problem."""
    one = arguments.model is not None
    checks = doctor.examine_model(arguments.model) if one else doctor.examine()
    if arguments.json:
        sys.stdout.write(json.dumps([check.to_dict() for check in checks], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(str(check) for check in checks) + "\n")
    works = any(check.works for check in checks) if one else doctor.can_upscale(checks)
    return 0 if works else EXIT_FAILED
