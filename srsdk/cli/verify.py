"""`srsdk verify MODEL --sha256 HEX`: verify the SHA-256 of a model file."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

from srsdk import models
from srsdk.cli.arguments import MODEL_HELP
from srsdk.errors import ModelError, UsageError
from srsdk.formats.tensorrt_plan import hash_file
from srsdk.manifest import read_manifest
from srsdk.system.text import plain


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk verify`."""
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument(
        "--sha256",
        metavar="HEX",
        help="expected SHA-256 (default: read from MODEL.sha256 next to the file)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the file's hash in the format of `sha256sum` if it is the expected one.

    Raises:
        UsageError: no expected hash, or not a SHA-256.
        ModelError: no such file, another hash, or an invalid manifest.
    """
    path = models.find(arguments.model)
    expected = checked(arguments.sha256) if arguments.sha256 is not None else _adjacent_hash(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(
            f"{path} has SHA-256 {found}, expected {expected}; download it again from the source "
            "of the expected hash"
        )
    read_manifest(path)
    sys.stdout.write(f"{found}  {plain(str(path))}\n")
    return 0


def checked(text: str) -> str:
    """Check a SHA-256 and return it in lower case.

    Raises:
        UsageError: not 64 hexadecimal digits.
    """
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise UsageError(f"--sha256 {plain(text)}: expected 64 hexadecimal digits")
    return text.lower()


def _adjacent_hash(path: Path) -> str:
    note = hash_file(path)
    try:
        return checked(note.read_text(encoding="ascii")[:64])
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no expected hash for {path}: {note.name} next to it holds none; pass it with --sha256"
        ) from error
