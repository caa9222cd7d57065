"""File-system differences of Windows, macOS and Linux: names, files in use, folders of a user.

docs/platforms.md lists what was run on which system.
"""

from __future__ import annotations

import os
import sys
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path

WINDOWS = os.name == "nt"
MACOS = sys.platform == "darwin"

_FORBIDDEN = frozenset('<>:"|?*')
_DEVICES = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10)))
)


def cache_folder() -> Path | None:
    """Return the folder for srsdk's caches of this user on this system; it may not exist.

    None: the user has no home directory, as in a container with an unknown user id.
    """
    return _user_folder("XDG_CACHE_HOME", ".cache", "Library/Caches")


def data_folder() -> Path | None:
    """Return the folder for what this user has fetched with srsdk, as `cache_folder`."""
    return _user_folder("XDG_DATA_HOME", ".local/share", "Library/Application Support")


def _user_folder(variable: str, linux: str, macos: str) -> Path | None:
    base = os.environ.get("LOCALAPPDATA" if WINDOWS else variable)
    if base and not MACOS:
        return Path(base) / "srsdk"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if WINDOWS:
        return home / "AppData" / "Local" / "srsdk"
    return home / (macos if MACOS else linux) / "srsdk"


def bad_name(name: str) -> str:
    """Return why a file cannot have this name on this system, or "".

    Windows itself reports no error: it writes `a:b.png` as a stream of the file `a`, and `nul.png`
    is a device, whatever the suffix.
    """
    if not WINDOWS:
        return ""
    wrong = sorted({c for c in name if c in _FORBIDDEN or ord(c) < 32})
    if wrong:
        return f"Windows does not allow {' or '.join(map(repr, wrong))} in file names"
    if name.endswith((".", " ")):
        return "Windows drops a dot or space at the end of a file name"
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        return "Windows reserves this name for a device"
    return ""


def folded(path: Path) -> str:
    """Return the same key for all paths that a case-insensitive file system treats as equal."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def ignores_case(folder: Path) -> bool:
    """Return whether a folder that exists or will be created ignores case (`A.png` is `a.png`)."""
    above = (folder, *folder.absolute().parents)
    existing = next((p for p in above if os.path.isdir(p)), folder)
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".Aa") as file:
            made = Path(file.name)
            return made.with_name(made.name.swapcase()).exists()
    except OSError:
        return WINDOWS or MACOS


def is_same_file(a: Path, b: Path) -> bool:
    """Return whether two paths lead to the same file; missing files are compared by path.

    Hard links count as two files: one can be replaced without the other.
    """
    # `resolve` raises on links in a circle
    a, b = Path(os.path.realpath(a)), Path(os.path.realpath(b))
    if a == b or folded(a) != folded(b):
        return a == b
    with suppress(OSError):
        return a.samefile(b)
    return False


def discard(path: Path) -> None:
    """Remove a temporary file, if it exists and the system permits.

    Windows cannot remove a file that a failed library still has open; the error to report is then
    the library's, not this one.
    """
    with suppress(PermissionError):
        path.unlink(missing_ok=True)
