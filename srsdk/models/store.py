"""The user's models: files that were fetched, each with a card beside it.

A model exists once its card does: the card is written last and removed first.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srsdk.errors import ModelError, OutputError
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX, hash_file
from srsdk.models.cards import CHECKPOINTS, RUNNABLE, Card
from srsdk.system.durable import (
    create_private,
    digest_of,
    make_private,
    rename,
    replacing,
    sync_folder,
)
from srsdk.system.locks import acquire
from srsdk.system.paths import data_folder, discard

VARIABLE = "SRSDK_MODELS"
"""Environment variable that sets another folder; empty: no fetched models."""
CARD_SUFFIX = ".json"
MAX_CARD_BYTES = 1 << 16
_TEXTS = ("source", "sha256", "license", "author", "description", "architecture", "fetched")


def folder() -> Path | None:
    """Return the folder of fetched models; it may not exist.

    None: the user wants none, or has no home directory.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    data = data_folder()
    return None if data is None else data / "models"


def writable_folder() -> Path:
    """Return the folder of fetched models, and create it for this user only.

    Raises:
        OutputError: there is none, or it cannot be created.
    """
    found = folder()
    if found is None:
        raise OutputError(f"there is no folder for models: set {VARIABLE}=FOLDER")
    try:
        make_private(found)
    except OSError as error:
        raise OutputError(
            f"{found} cannot be created: {error.strerror}; set {VARIABLE} to another folder"
        ) from error
    return found


def names() -> list[str]:
    """Return the names of all fetched models, sorted.

    Raises:
        ModelError: the folder cannot be read.
    """
    found = folder()
    try:
        if found is None or not found.is_dir():
            return []
        return sorted(
            path.stem
            for path in found.iterdir()
            if path.suffix == CARD_SUFFIX and not path.name.startswith(".")
        )
    except OSError as error:
        raise ModelError(f"{found} cannot be read: {error.strerror}") from error


def card(name: str) -> Card | None:
    """Return the card of a fetched model; None: no model of this name was fetched.

    Raises:
        ModelError: the card is damaged, or other users can write in the folder.
    """
    home = folder()
    if home is None or name not in names():
        return None
    _refuse_open_folder(home)
    path = home / f"{name}{CARD_SUFFIX}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _parsed(name, home, content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{path} is damaged: {error or type(error).__name__}; srsdk remove {name}, then fetch "
            "it again"
        ) from error


@contextmanager
def changing(name: str) -> Iterator[Path]:
    """Keep other processes from changing a model; yield the folder, which is created.

    Raises:
        OutputError: the folder cannot be written, or another process changes this model.
    """
    home = writable_folder()
    try:
        lock = acquire(home / f".{name}.lock")
    except OSError as error:
        raise OutputError(
            f"{home} cannot be written: {error.strerror}; set {VARIABLE} to another folder"
        ) from error
    if lock is None:
        raise OutputError(f"another process is fetching {name!r}: wait for it, then try again")
    try:
        yield home
    finally:
        lock.release()


def save(new: Card, temporary: Path) -> None:
    """Move a complete file to its name and write its card, replacing a model of this name.

    Args:
        new: the card; its path is where the file goes.
        temporary: the file, in the same folder.

    Raises:
        OSError: the disk is full, or the files cannot be written; no file of this name is left.
    """
    values = {**asdict(new), "path": new.path.name}
    with replacing(new.path.with_name(f"{new.name}{CARD_SUFFIX}")) as written:
        with create_private(written) as file:
            file.write(f"{json.dumps(values, indent=1)}\n".encode())
        remove(new.name)
        try:
            if new.path.suffix == PLAN_SUFFIX:
                # engines are checked against it when they are opened
                with replacing(hash_file(new.path)) as note, create_private(note) as file:
                    file.write(f"{new.sha256}  {new.path.name}\n".encode("ascii"))
            rename(temporary, new.path)
        except BaseException:
            discard(new.path)
            discard(hash_file(new.path))
            raise


def remove(name: str) -> bool:
    """Remove a fetched model and its card, even if these are damaged.

    Returns:
        Whether there was one.

    Raises:
        OSError: a file cannot be removed.
    """
    home = folder()
    if home is None or name not in names():
        return False
    (home / f"{name}{CARD_SUFFIX}").unlink()
    sync_folder(home)
    for suffix in (*RUNNABLE, *CHECKPOINTS):
        path = home / f"{name}{suffix}"
        path.unlink(missing_ok=True)
        hash_file(path).unlink(missing_ok=True)
    return True


def verify(found: Card) -> None:
    """Check that a file is still the one that its card describes, if the card has its SHA-256.

    Raises:
        ModelError: missing, unreadable, or another file.
    """
    if not found.sha256:
        return
    try:
        digest = digest_of(found.path)
    except OSError as error:
        raise ModelError(f"{found.path} cannot be read: {error.strerror}") from error
    if found.sha256 != digest:
        again = (
            f"srsdk fetch {found.name} --from {found.source} --sha256 {found.sha256} --force"
            if found.origin == "fetched"
            else f"install {found.source} again"
        )
        raise ModelError(
            f"{found.path} has SHA-256 {digest}, expected {found.sha256}: it was changed; {again}"
        )


def _refuse_open_folder(home: Path) -> None:
    if os.name == "posix" and home.stat().st_mode & stat.S_IWOTH:
        raise ModelError(
            f"the models in {home} are not opened: every user can write there; chmod o-w {home}"
        )


def _parsed(name: str, home: Path, content: bytes) -> Card:
    """Check a card; it may name no file outside of the folder."""
    if len(content) > MAX_CARD_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, expected at most {MAX_CARD_BYTES:,}")
    values: Any = json.loads(content)
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    if values["name"] != name:
        raise ValueError(f"its name is {values['name']!r}")
    path = Path(str(values["path"]))
    if path.stem != name or path.suffix not in (*RUNNABLE, *CHECKPOINTS) or len(path.parts) > 1:
        raise ValueError(f"its path is {str(path)!r}")
    return Card(
        name=name,
        origin="fetched",
        path=home / path,
        scale=_whole(values.get("scale")),
        channels=_whole(values.get("channels")),
        size_bytes=_whole(values.get("size_bytes")) or 0,
        member=str(values.get("member", "")),
        **{key: str(values.get(key, "")) for key in _TEXTS},
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
