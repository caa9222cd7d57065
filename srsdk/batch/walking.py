"""Find the pictures below a folder; what cannot be read is reported, and the walk goes on."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Walk:
    """One walk over a folder, and what it could not do."""

    top: Path
    wanted: Callable[[str], bool]
    """Whether a file's name is one to yield."""
    recursive: bool = False
    without: Path | None = None
    """A folder to leave out, such as that of the results."""
    problems: dict[Path, str] = field(default_factory=dict)
    """A message for each folder and file that could not be read."""
    notes: list[str] = field(default_factory=list)
    """A message for each link that is not followed."""
    unwanted: Counter[str] = field(default_factory=Counter)
    """Number of files that were not wanted, by suffix in lower case."""

    def __iter__(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the regular files in order, those of a folder before those of its subfolders.

        Hidden files and folders belong to other programs or are leftovers of a killed run.
        """
        # links are not followed: below the top, each folder has one path
        top = os.path.realpath(self.top)
        without = "" if self.without is None else os.path.realpath(self.without)
        pending = [self.top]
        # no recursion: folders can be nested more deeply than Python's calls
        while pending:
            folder = pending.pop()
            if folder != self.top and os.path.join(top, folder.relative_to(self.top)) == without:
                continue
            below: list[Path] = []
            for name, kind in self._entries(folder):
                path = folder / name
                if kind == "folder":
                    below.append(path)
                elif kind == "link":
                    self.notes.append(f"{path} is a link to a folder, which is not followed")
                elif not self.wanted(name):
                    self.unwanted[path.suffix.lower()] += 1
                elif (facts := self._facts(path)) is not None:
                    yield path, facts
            if self.recursive:
                pending += reversed(below)

    def _entries(self, folder: Path) -> list[tuple[str, str]]:
        """Return name and kind of all in a folder: a `folder`, a `link` to one, or a `file`."""
        try:
            with os.scandir(folder) as entries:
                found = [(each.name, self._kind(each)) for each in entries if each.name[0] != "."]
        except OSError as error:
            self.problems[folder] = f"{folder} cannot be read: {error.strerror}"
            return []
        return sorted((name, kind) for name, kind in found if kind)

    def _kind(self, entry: os.DirEntry[str]) -> str:
        try:
            if entry.is_dir(follow_symlinks=False):
                return "link" if _is_junction(entry) else "folder"
        except OSError as error:
            self.problems[Path(entry.path)] = f"{entry.path} cannot be read: {error.strerror}"
            return ""
        # without -r no folder is entered, linked or not
        linked = self.recursive and entry.is_symlink() and os.path.isdir(entry.path)
        return "link" if linked else "file"

    def _facts(self, path: Path) -> os.stat_result | None:
        """Return size and time of a regular file, or None for anything else."""
        try:
            facts = path.stat()
        except FileNotFoundError:
            if os.path.islink(path):
                self.notes.append(f"{path} is a link to a file that does not exist")
            else:
                self.problems[path] = f"{path} cannot be read: it has disappeared"
            return None
        except OSError as error:
            self.problems[path] = f"{path} cannot be read: {error.strerror}"
            return None
        return facts if stat.S_ISREG(facts.st_mode) else None


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is a link of Windows to another folder."""
    if os.name != "nt":
        return False
    tag = getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0)
    return tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
