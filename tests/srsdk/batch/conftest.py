"""Fixtures of the tests of folders: rights that even root does not have."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

NOBODY = 65534

Dropped = Callable[[], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def _not_verbose() -> None:
    """Undo `-v` of an earlier test, which would add lines."""
    logging.getLogger("srsdk").setLevel(logging.NOTSET)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike that of pytest, and in which all may write."""
    with tempfile.TemporaryDirectory(prefix="srsdk-rights-") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)
        for path, _, _ in os.walk(folder):
            os.chmod(path, 0o777)


@pytest.fixture
def unprivileged() -> Dropped:
    """Return a context in which this process has no more rights than an ordinary user.

    Skips on Windows, and where a user may not become another.
    """
    if os.name != "posix":
        pytest.skip("POSIX permissions")

    @contextmanager
    def dropped() -> Iterator[None]:
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            if is_root:
                os.seteuid(0)

    return dropped
