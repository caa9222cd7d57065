"""`srsdk verify`: verify the SHA-256 of models, or of any model file.

The hashes of the shipped models are in `srsdk/models/SHA256SUMS`, in the format of `sha256sum`.
In a checkout, `cd srsdk/models && sha256sum *.onnx > SHA256SUMS` writes it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from srsdk import models
from srsdk.cli.arguments import EXIT_FAILED, MODEL_HELP, known_model
from srsdk.cli.terminal import fail
from srsdk.errors import ModelError, UsageError
from srsdk.formats.files import check_regular
from srsdk.formats.tensorrt_plan import hash_file
from srsdk.manifest import read_manifest
from srsdk.models.cards import PACKAGE_SUFFIX
from srsdk.system.durable import digest_of
from srsdk.system.text import plain

SUMS = "SHA256SUMS"
"""Of the shipped models, beside them."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk verify`."""
    command.add_argument(
        "model",
        nargs="?",
        type=known_model,
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: all shipped models)",
    )
    command.add_argument("--all", action="store_true", help="verify all shipped models")
    command.add_argument(
        "--sha256",
        metavar="HEX",
        help="expected SHA-256 (default: for a shipped model, that of srsdk/models/SHA256SUMS; for "
        "a fetched one, that of its card; for a file, read from MODEL.sha256 next to it)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print hashes in the format of `sha256sum` if they are the expected ones.

    Raises:
        UsageError: no expected hash, or not a SHA-256.
        ModelError: no such file, another hash, or an invalid manifest.
    """
    if arguments.model is None:
        if arguments.sha256 is not None:
            raise UsageError("--sha256 needs a MODEL")
        return _verify_shipped(models.FOLDER)
    if arguments.all:
        raise UsageError("--all takes no MODEL")
    card = models.card(arguments.model)
    path = _path(arguments.model) if card is None else card.path
    if arguments.sha256 is not None:
        expected = checked(arguments.sha256)
    elif card is not None and card.sha256:
        expected = card.sha256
    elif card is None and models.is_name(arguments.model):
        expected = _expected(path, shipped_hashes(models.FOLDER))
    else:
        expected = _adjacent_hash(path)
    _verify(path, expected)
    return 0


def _path(model: str) -> Path:
    """Return the file that a name or path means; of a package the package itself."""
    path = Path(model)
    if path.suffix == PACKAGE_SUFFIX:
        check_regular(path)
        return path
    return models.find(model)


def _verify_shipped(folder: Path) -> int:
    """Verify all shipped models; each that is wrong or missing costs one line."""
    known = shipped_hashes(folder)
    code = 0
    for name in sorted({*known, *(path.name for path in folder.glob("*.onnx"))}):
        try:
            _verify(folder / name, _expected(folder / name, known))
        except ModelError as error:
            fail(str(error))
            code = EXIT_FAILED
    return code


def _verify(path: Path, expected: str) -> None:
    try:
        found = digest_of(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if found != expected:
        raise ModelError(
            f"{path} has SHA-256 {found}, expected {expected}; download it again from the source "
            "of the expected hash"
        )
    if path.suffix in models.SUFFIXES:
        read_manifest(path)
    sys.stdout.write(f"{found}  {plain(str(path))}\n")


def shipped_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the model files in a folder, by file name.

    Raises:
        ModelError: the list is missing or damaged.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / SUMS} cannot be read: install srsdk again") from error
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _expected(path: Path, known: dict[str, str]) -> str:
    if path.name not in known:
        raise ModelError(f"{path} is not one of the models that {SUMS} lists")
    return known[path.name]


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
