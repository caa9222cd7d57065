"""Record the system calls of a command, its threads and its children, with strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = """
open openat openat2 creat write pwrite64 writev pwritev pwritev2 truncate ftruncate fallocate rename
renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir fsync fdatasync
sync syncfs lseek mmap copy_file_range sendfile splice dup dup2 dup3 fcntl chdir fchdir
io_uring_setup
"""
LONGEST = 100_000_000
"""Bytes of one write that are recorded."""
_LINE = re.compile(r"(\d+) +(.*)\n")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_WHOLE = re.compile(r"(\w+)\((.*)\) += (.*)")
_UNFINISHED = " <unfinished ...>"
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass(frozen=True)
class Call:
    """A system call that returned."""

    pid: int
    name: str
    arguments: str
    """As strace prints them, strings as hex."""
    result: str
    after: int
    """Number of calls that had returned when this one began."""


def command(log: Path) -> list[str]:
    """Return the start of a command line that records the rest of it."""
    # `?`: not every processor has every call; -y: the path of each descriptor; -xx: strings as hex
    trace = ",".join(f"?{name}" for name in CALLS.split())
    options = ["-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", str(LONGEST), "-e", "signal=none"]
    return ["strace", *options, "-e", f"trace={trace}", "-o", str(log)]


def why_missing() -> str:
    """Return why strace cannot record here, or ""."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        words = [*command(log), "touch", f"{folder}/made"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"strace does not start: {error}"
        if done.returncode or not any("O_CREAT" in call.arguments for call in read(log)):
            return f"strace does not work here: {done.stderr.strip()[-200:]}"
    return ""


def read(log: Path) -> Iterator[Call]:
    """Yield the calls of a log in the order in which they returned."""
    pending: dict[str, tuple[str, int]] = {}
    count = 0
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            match = _LINE.fullmatch(line)
            if match is None:
                continue  # the last line of a killed process
            pid, text = match.groups()
            if text.endswith(_UNFINISHED):
                pending[pid] = text.removesuffix(_UNFINISHED), count
                continue
            resumed = _RESUMED.fullmatch(text)
            begun, after = pending.pop(pid, ("", count)) if resumed else ("", count)
            whole = _WHOLE.fullmatch(begun + resumed[1] if resumed else text)
            if whole is not None:
                yield Call(int(pid), whole[1], whole[2], whole[3], after)
                count += 1


def strings(text: str) -> list[bytes]:
    """Return all strings in arguments.

    Raises:
        ValueError: a string was cut.
    """
    found = []
    for match in _STRING.finditer(text):
        if match[2]:
            raise ValueError(f"strace cut a string after {len(match[1]) // 4} bytes")
        found.append(unhex(match[1]))
    return found


def unhex(text: str) -> bytes:
    r"""Return the bytes of `\x61\x62`."""
    return bytes.fromhex(text.replace("\\x", ""))


def split(arguments: str) -> Sequence[str]:
    """Return arguments separated by commas; those of arrays too."""
    return [part.strip() for part in arguments.split(",")]
