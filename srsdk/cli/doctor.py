"""`srsdk doctor`: check the installation and suggest fixes."""

from __future__ import annotations

import argparse
import json
import sys

from srsdk import doctor
from srsdk.cli.arguments import EXIT_FAILED


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk doctor`."""
    command.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show versions, devices and backends, and the command that fixes each problem."""
    checks = doctor.examine()
    if arguments.json:
        sys.stdout.write(json.dumps([check.to_dict() for check in checks], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(str(check) for check in checks) + "\n")
    return 0 if doctor.can_upscale(checks) else EXIT_FAILED
