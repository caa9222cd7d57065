"""`srsdk verify MODEL --sha256 HEX`: is this the file that somebody else speaks of?"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

from srsdk import models
from srsdk._plan import hash_file
from srsdk.errors import ModelError, UsageError
from srsdk.manifest import read_manifest
from srsdk.terminal import plain


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk verify`."""
    command.add_argument("model", help="a shipped model's name or the path of a file")
    command.add_argument(
        "--sha256",
        metavar="HEX",
        help="what the file's must be; without it, the hash beside the file (MODEL.sha256) counts",
    )


def show(arguments: argparse.Namespace) -> int:
    """Print the file's hash, in the form of `sha256sum`, if it is the expected one.

    Raises:
        UsageError: nothing to compare with, or no hash.
        ModelError: no such file, its manifest is wrong, or it is another file.
    """
    path = models.find(arguments.model)
    expected = checked(arguments.sha256) if arguments.sha256 is not None else _beside(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(
            f"{path} is not the file that is meant: its SHA-256 is {found}, expected {expected}; "
            "get it again from where the expected hash comes from"
        )
    read_manifest(path)
    sys.stdout.write(f"{found}  {plain(str(path))}\n")
    return 0


def checked(text: str) -> str:
    """Return a SHA-256 in lower case.

    Raises:
        UsageError: it is none.
    """
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise UsageError(f"--sha256 {plain(text)}: expected 64 hexadecimal digits")
    return text.lower()


def _beside(path: Path) -> str:
    note = hash_file(path)
    try:
        return checked(note.read_text(encoding="ascii")[:64])
    except (OSError, ValueError) as error:
        raise UsageError(
            f"nothing to compare {path} with: no hash in {note.name} beside it; give it by --sha256"
        ) from error
