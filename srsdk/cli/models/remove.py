"""`srsdk remove NAME`: remove a model that `srsdk fetch` has stored."""

from __future__ import annotations

import argparse
import sys

from srsdk import models
from srsdk.cli.parser import nearest
from srsdk.errors import OutputError, UsageError
from srsdk.models import plugins, store


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk remove`."""
    command.add_argument("name", metavar="NAME", help="name of a fetched model")


def run(arguments: argparse.Namespace) -> int:
    """Remove a model and its card.

    Raises:
        UsageError: no model of this name was fetched.
        OutputError: a file cannot be removed.
    """
    name = arguments.name
    known = store.names()
    if name not in known:
        raise UsageError(_why_not(name, known))
    with store.changing(name) as folder:
        try:
            store.remove(name)
        except OSError as error:
            raise OutputError(f"{name!r} cannot be removed: {error.strerror}") from error
    sys.stdout.write(f"removed {name} from {folder}\n")
    return 0


def _why_not(name: str, known: list[str]) -> str:
    if name in models.shipped():
        return f"{name!r} is a shipped model, which stays"
    if packages := plugins.packages(name):
        return f"{name!r} belongs to {' and '.join(packages)}: uninstall that with pip"
    listed = f"; fetched: {', '.join(known)}" if known else "; none was"
    return f"no model {name!r} was fetched{nearest(name, known) or listed}"
