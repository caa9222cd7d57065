"""Run a command and record what it does on one folder, the disk."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.powercut import strace
from tests.powercut.disk import Event, Tree, live
from tests.powercut.paths import RecordError
from tests.powercut.recorder import Recorder


@dataclass
class Recording:
    """What one run did."""

    events: list[Event]
    code: int
    """Exit code."""


def record(
    words: Sequence[str], disk: Path, streams: Mapping[str, Path], env: Mapping[str, str]
) -> Recording:
    """Run a command and record what it does in `disk`, an empty folder, and what it says.

    Args:
        words: the command.
        disk: the folder whose files are recorded.
        streams: files outside of `disk` whose lines are reports; `stdout` and `stderr` are written
            here, others by the command.
        env: environment of the command.

    Raises:
        RecordError: it wrote in a way that cannot be recorded, or the record is not complete.
    """
    log = disk.with_name(f"{disk.name}.strace")
    recorder = Recorder(disk, streams, Path.cwd())
    with streams["stdout"].open("wb") as out, streams["stderr"].open("wb") as err:
        done = subprocess.run(
            [*strace.command(log), *words], stdout=out, stderr=err, env=dict(env), check=False
        )
    if not log.exists():
        raise RecordError(f"strace failed: {streams['stderr'].read_text()}")
    for call in strace.read(log):
        recorder.add(call)
    log.unlink()
    wrong = differences(live(recorder.events), read_tree(disk))
    if wrong:
        raise RecordError(f"the record does not give what the run wrote: {', '.join(wrong[:5])}")
    return Recording(recorder.events, done.returncode)


def read_tree(folder: Path) -> Tree:
    """Return what a folder holds."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def write_tree(tree: Tree, folder: Path) -> None:
    """Write files into a new folder."""
    folder.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def differences(tree: Tree, other: Tree) -> list[str]:
    """Return the paths that two trees do not have in common."""
    absent = object()
    return [p for p in sorted({*tree, *other}) if tree.get(p, absent) != other.get(p, absent)]
