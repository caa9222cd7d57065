"""The files and folders of the disk by path, while a run is recorded."""

from __future__ import annotations

import os
from pathlib import Path

from tests.powercut.disk import ROOT


class RecordError(Exception):
    """A run wrote in a way that cannot be recorded."""


class Paths:
    """Numbers of files and folders.

    Args:
        disk: the folder that is recorded.
    """

    def __init__(self, disk: Path) -> None:
        self._disk = os.path.realpath(disk)
        self.entries: dict[int, dict[str, int]] = {ROOT: {}}
        """Names in each folder."""
        self.count = 0
        """Files and folders so far, without the root."""

    def new_node(self) -> int:
        """Return the number of a new file or folder."""
        self.count += 1
        return self.count

    def is_below(self, path: str) -> bool:
        """Whether a path is the disk or on it."""
        return path == self._disk or path.startswith(f"{self._disk}/")

    def find(self, path: str) -> int | None:
        """Return the file or folder with a path, None if it is not on the disk."""
        if not self.is_below(path):
            return None
        node = ROOT
        for name in Path(path).relative_to(self._disk).parts:
            if name not in self.entries.get(node, {}):
                return None
            node = self.entries[node][name]
        return node

    def place(self, path: str) -> tuple[int, str] | None:
        """Return folder and name of a path, None if it is not on the disk."""
        if path == self._disk or not self.is_below(path):
            return None
        parent = self.find(os.path.dirname(path))
        if parent is None:
            raise RecordError(f"the folder of {path} was never created")
        return parent, os.path.basename(path)
