"""Fetch a model into the user's folder: from a file, a URL, or an entry of openmodeldb.

The SHA-256 of the file must be known. The file is written under a hidden name, compared, synced and
only then renamed; whatever goes wrong leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from srsdk.errors import ModelError, OutputError, TargetExistsError, UsageError
from srsdk.formats.files import check_regular, opened
from srsdk.manifest import read_manifest
from srsdk.models import store
from srsdk.models.cards import PACKAGE_SUFFIX, RUNNABLE, Card
from srsdk.models.darktable import read_package
from srsdk.models.download import BLOCK_BYTES, Body, open_url
from srsdk.models.wanted import KINDS, Wanted, suffix_of
from srsdk.system.durable import create_private
from srsdk.system.paths import discard

MAX_BYTES = 2_000_000_000
"""Largest file that is fetched unless the caller allows more."""
Report = Callable[[int, int], None]
"""Takes (bytes done, bytes in all; 0: not known)."""


def fetch(
    what: Wanted,
    *,
    license_text: str = "",
    author: str = "",
    scale: int | None = None,
    force: bool = False,
    max_bytes: int = MAX_BYTES,
    report: Report | None = None,
) -> Card:
    """Store a file as a model of the user, and return its card.

    Args:
        what: from `wanted`.
        license_text: license of the weights; empty: what entry, package or manifest say.
        author: who made it; empty: what entry or package say.
        scale: which model of a darktable package that holds several.
        force: replace a model of this name.
        max_bytes: largest file.
        report: called while bytes arrive.

    Raises:
        TargetExistsError: there is a model of this name, and `force` is not given.
        ModelError: no connection, another hash, too large, or no model.
        OutputError: the folder cannot be written.
    """
    with store.changing(what.name) as home:
        if not force and what.name in store.names():
            raise TargetExistsError(
                f"there is a model {what.name!r} already: force=True replaces it; or choose "
                "another name"
            )
        temporary = home / f".{os.urandom(8).hex()}.tmp"
        made = [temporary]
        try:
            with _opened(what, max_bytes) as (blocks, total, suffix, is_page):
                size = _write(blocks, temporary, what, max_bytes, total, report, is_page)
            # readers of models look at the suffix
            made.append(temporary.with_suffix(f".tmp{suffix}"))
            temporary.rename(made[-1])
            card = _described(what, home / f"{what.name}{suffix}", made[-1], scale)
            card = replace(
                card,
                size_bytes=size,
                license=license_text or card.license,
                author=author or card.author,
            )
            store.save(card, made[-1])
        except OSError as error:
            raise OutputError(f"{home} cannot be written: {error.strerror or error}") from error
        finally:
            for path in made:
                discard(path)
        return card


@contextmanager
def _opened(what: Wanted, max_bytes: int) -> Iterator[tuple[Iterator[bytes], int, str, bool]]:
    """Yield content, announced size, suffix, and whether it is a web page."""
    if not what.is_url:
        size = check_regular(Path(what.source))
        _check_size(what, size, max_bytes)
        yield _blocks(Path(what.source)), size, what.suffix, False
        return
    with open_url(what.source) as body:
        _check_size(what, body.size_bytes, max_bytes)
        suffix = what.suffix or _suffix_in(body)
        if not suffix:
            raise ModelError(
                f"{what.source} does not say what kind of file it is, expected a name ending in "
                f"{KINDS}: download it, then pass it with --from FILE"
            )
        yield body.blocks(), body.size_bytes, suffix, body.is_page


def _blocks(path: Path) -> Iterator[bytes]:
    # a generator of its own: errors of the disk that is written to are not its errors
    with opened(path, "a model") as (file, _):
        while block := file.read(BLOCK_BYTES):
            yield block


def _write(
    blocks: Iterator[bytes],
    temporary: Path,
    what: Wanted,
    max_bytes: int,
    total: int,
    report: Report | None,
    is_page: bool,
) -> int:
    """Write the content and compare its hash; return its size in bytes."""
    digest, done = hashlib.sha256(), 0
    with create_private(temporary) as file:
        for block in blocks:
            done += len(block)
            _check_size(what, done, max_bytes)
            digest.update(block)
            file.write(block)
            if report is not None:
                report(done, total)
    if digest.hexdigest() != what.sha256:
        page = "; it is a web page: download the file in a browser" if is_page else ""
        raise ModelError(
            f"{what.source} has SHA-256 {digest.hexdigest()} ({done:,} bytes), expected "
            f"{what.sha256}: nothing was kept{page}"
        )
    return done


def _described(what: Wanted, target: Path, file: Path, scale: int | None) -> Card:
    """Check that a file is what its suffix says, and return its card."""
    today = datetime.now(UTC).date().isoformat()
    base = Card(
        name=what.name,
        origin="fetched",
        path=target,
        source=what.source,
        sha256=what.sha256,
        fetched=today,
    )
    if (entry := what.entry) is not None:
        base = replace(
            base,
            license=entry.license,
            author=entry.author,
            description=entry.description or entry.title,
            architecture=entry.architecture,
            scale=entry.scale,
            channels=entry.channels,
        )
    try:
        if target.suffix == PACKAGE_SUFFIX:
            return _of_package(base, file, scale)
        manifest = read_manifest(file) if target.suffix in RUNNABLE else None
    except ModelError as error:
        # the file is known by the name that the user gave, not by its hidden one
        raise ModelError(str(error).replace(str(file), what.source)) from error
    if manifest is None:
        return base
    return replace(
        base,
        license=base.license or manifest.licence,
        scale=manifest.scale,
        channels=manifest.channels,
    )


def _of_package(base: Card, file: Path, scale: int | None) -> Card:
    package = read_package(file)
    try:
        member = package.choose(scale)
    except UsageError as error:
        scales = " or ".join(f"scale={each}" for each in sorted(package.scales()))
        raise UsageError(
            f"{base.source} holds {' and '.join(package.models)}: add {scales or 'scale=...'}"
        ) from error
    return replace(
        base,
        member=member,
        license=base.license or package.card.get("license", ""),
        author=base.author or package.card.get("author", ""),
        description=base.description or package.description,
        architecture=package.architecture,
        scale=package.scale(member),
        channels=3,
    )


def _check_size(what: Wanted, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ModelError(
            f"{what.source} has {size:,} bytes or more, expected at most {max_bytes:,}: raise the "
            "limit with --max-size if you trust it"
        )


def _suffix_in(body: Body) -> str:
    return suffix_of(urlsplit(body.final_url).path) or suffix_of(body.file_name)
