"""What to fetch: arguments of `srsdk fetch`, checked before any connection is opened."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from srsdk import models
from srsdk.errors import ModelError, UsageError
from srsdk.formats.files import check_regular
from srsdk.models import plugins
from srsdk.models.cards import CHECKPOINTS, RUNNABLE, check_name
from srsdk.models.download import check_url
from srsdk.models.entries import Entry, is_entry, read_entry
from srsdk.system.durable import digest_of

KINDS = ", ".join((*RUNNABLE, *CHECKPOINTS))
"""Suffixes of the files that can be fetched."""
WHERE_HASHES_ARE = (
    "the page that offers the file shows it (openmodeldb.info, GitHub, Hugging Face: SHA-256), or "
    "its author tells it"
)


@dataclass(frozen=True)
class Wanted:
    """What to fetch, once arguments and entry are put together."""

    name: str
    """Name of the model."""
    source: str
    """URL or path of the file."""
    is_url: bool
    """Whether `source` is a URL."""
    suffix: str
    """Of the file; empty: the answer has to say."""
    sha256: str
    """Expected hash."""
    entry: Entry | None
    """The entry that names it."""


def wanted(name: str, source: str, sha256: str | None) -> Wanted:
    """Check the arguments of `fetch` without a connection.

    Raises:
        UsageError: a bad name, URL or hash, or no hash: shows the command that has one.
        ModelError: no such file, or a file of no known kind.
    """
    check_name(name, taken=models.shipped())
    if sha256 is not None and not _is_hash(sha256):
        raise UsageError(f"the SHA-256 is {sha256!r}, expected 64 hexadecimal digits")
    if name in plugins.names():
        raise UsageError(f"{name!r} is the name of a model of an installed package: choose another")
    digest = (sha256 or "").lower()
    if "://" in source:
        check_url(source)
        return _checked(Wanted(name, source, True, suffix_of(urlsplit(source).path), digest, None))
    path = Path(source)
    if is_entry(path):
        return _checked(_of_entry(name, path, digest))
    check_regular(path)
    if path.suffix not in (*RUNNABLE, *CHECKPOINTS):
        raise ModelError(f"{path}: expected a name ending in {KINDS}, or an entry (.json)")
    return _checked(Wanted(name, str(path.absolute()), False, path.suffix, digest, None))


def suffix_of(path: str) -> str:
    """Return the suffix of a URL's path if it is one of a model, else ""."""
    found = Path(unquote(path)).suffix.lower()
    return found if found in (*RUNNABLE, *CHECKPOINTS) else ""


def _of_entry(name: str, path: Path, digest: str) -> Wanted:
    entry = read_entry(path)
    if digest and entry.sha256 not in ("", digest):
        raise UsageError(
            f"--sha256 is {digest}, but {path} says {entry.sha256}: omit it, or correct the entry"
        )
    known = digest or entry.sha256
    if not entry.urls:
        stated = f" --license {shlex.quote(entry.license)}" if entry.license else ""
        raise ModelError(
            f"{path} links to pages and no files ({', '.join(entry.pages) or 'none'}): download it "
            f"in a browser, then srsdk fetch {name} --from FILE --sha256 {known or 'HEX'}{stated}"
        )
    check_url(entry.urls[0])
    return Wanted(name, entry.urls[0], True, entry.suffix, known, entry)


def _checked(what: Wanted) -> Wanted:
    """Refuse what has no hash; that of a file is computed, so that it can be compared."""
    if what.sha256:
        return what
    if what.is_url:
        raise UsageError(
            f"--sha256 is required and nothing was fetched: {WHERE_HASHES_ARE}; then: srsdk fetch "
            f"{what.name} --from {shlex.quote(what.source)} --sha256 HEX"
        )
    try:
        found = digest_of(Path(what.source))
    except OSError as error:
        raise ModelError(f"{what.source} cannot be read: {error.strerror}") from error
    raise UsageError(
        f"--sha256 is required: {WHERE_HASHES_ARE}; {what.source} has {found}; if that is the "
        f"same: srsdk fetch {what.name} --from {shlex.quote(what.source)} --sha256 {found}"
    )


def _is_hash(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdefABCDEF" for c in text)
