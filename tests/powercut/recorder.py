"""Turn recorded system calls into events on one folder, the disk."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.powercut import strace
from tests.powercut.disk import ROOT, Event, Name, Remove, Resize, Say, Sync, Write, live
from tests.powercut.paths import Paths, RecordError

_FD = re.compile(r"(AT_FDCWD|-?\d+)(?:<((?:\\x[0-9a-f]{2})*)>)?(\(deleted\))?")
_NUMBER = re.compile(r"-?\d+")


class Recorder:
    """Follows names, descriptors and positions through the calls of one run.

    Args:
        disk: the folder to record.
        streams: see `record`.
        cwd: current folder of the command.
    """

    def __init__(self, disk: Path, streams: Mapping[str, Path], cwd: Path) -> None:
        self.events: list[Event] = []
        self._paths = Paths(disk)
        self._streams = {os.path.realpath(path): name for name, path in streams.items()}
        self._cwd: defaultdict[int, str] = defaultdict(lambda: str(cwd))
        self._sizes: dict[int, int] = {}
        self._positions: dict[tuple[str, int], list[int]] = {}
        """Write positions by descriptor and file; duplicates share one. -1: at the end of file."""
        self._copied: defaultdict[tuple[str, str], int] = defaultdict(int)
        """Bytes copied from each descriptor and path without an offset."""
        self._began_ns = time.time_ns()
        self._marks: list[int] = []
        """Number of events after each call."""

    def add(self, call: strace.Call) -> None:
        """Add the events of one call.

        Raises:
            RecordError: this kind of call cannot be recorded.
        """
        if not call.result.startswith(("-1", "?")):
            handler = _HANDLERS[call.name]
            try:
                handler(self, call)
            except (KeyError, IndexError, ValueError) as error:
                shown = f"{call.name}({call.arguments[:400]}) = {call.result}"
                raise RecordError(f"{shown}: {error!r}") from error
        self._marks.append(len(self.events))

    def open(self, call: strace.Call) -> None:
        """`open`, `openat`, `creat`: a new name, a cut file, a new position."""
        match = _FD.match(call.result)
        path = _path_of(match)
        if match is not None:
            self._copied.pop((match[1], path), None)
        if path in self._streams or (node := self._paths.find(path)) == ROOT:
            return
        creates = call.name == "creat" or "O_CREAT" in call.arguments
        if "O_TMPFILE" in call.arguments and self._paths.is_below(path):
            raise RecordError(f"{path}: a file without a name")
        if node is None:
            place = self._paths.place(path)
            if place is None:
                return
            if not creates:
                raise RecordError(f"{path} is opened but was never created")
            node = self._name(self._paths.new_node(), place, is_folder=False)
        if node in self._paths.entries:
            return
        if (call.name == "creat" or "O_TRUNC" in call.arguments) and self._sizes[node]:
            self._resize(node, 0)
        at = -1 if "O_APPEND" in call.arguments else 0
        assert match is not None
        self._positions[match[1], node] = [at]

    def write(self, call: strace.Call) -> None:
        """`write`, `writev`, `pwrite64` and the like."""
        match = _FD.match(call.arguments)
        path, count = _path_of(match), _number(call.result)
        stream, node = self._streams.get(path), self._paths.find(path)
        if (stream is None and node is None) or (match is not None and match[3]):
            return
        data = b"".join(strace.strings(call.arguments))[:count]
        if stream is not None:
            self.events.append(Say(stream, data))
            return
        assert node is not None
        assert match is not None
        if call.name.startswith("pwrite"):
            offset = int(strace.split(call.arguments)[-2 if call.name == "pwritev2" else -1])
            self._write(node, offset, data)
        else:
            self._write_on(match[1], node, data)

    def copy(self, call: strace.Call) -> None:
        """`sendfile` and `copy_file_range`: what was copied is read from its source."""
        found = list(_FD.finditer(call.arguments))
        out, source = (1, 0) if call.name == "copy_file_range" else (0, 1)
        fds = [match for match in found if match[2] is not None]
        if len(fds) < 2 or (node := self._paths.find(_path_of(fds[out]))) is None:
            return
        path, count = _path_of(fds[source]), _number(call.result)
        offset = re.search(r"\[(\d+)\]", call.arguments)
        if offset is not None and call.name != "sendfile":
            raise RecordError(f"{call.name} with an offset")
        # reads are not recorded; if there were any, `record` finds the difference
        at = int(offset[1]) if offset else self._copied[fds[source][1], path]
        self._copied[fds[source][1], path] += 0 if offset else count
        within = self._paths.find(path)
        if within is None and Path(path).stat().st_mtime_ns > self._began_ns:
            raise RecordError(f"{call.name} from {path}, which is not on the disk and was changed")
        content = Path(path).read_bytes() if within is None else self._content(within)
        self._write_on(fds[out][1], node, content[at : at + count])

    def resize(self, call: strace.Call) -> None:
        """`ftruncate`, `truncate` and `fallocate`."""
        words = strace.split(call.arguments)
        if call.name == "truncate":
            node = self._paths.find(self._absolute(call, strace.strings(call.arguments)[0]))
        else:
            node = self._paths.find(_path_of(_FD.match(call.arguments)))
        if node is None:
            return
        if call.name != "fallocate":
            self._resize(node, int(words[-1]))
        elif words[1] == "0":
            self._resize(node, max(self._sizes[node], int(words[2]) + int(words[3])))
        elif words[1] != "FALLOC_FL_KEEP_SIZE":
            raise RecordError(f"fallocate with {words[1]}")

    def rename(self, call: strace.Call) -> None:
        """`rename` and its relatives."""
        old, new = map(self._paths.place, self._named(call))
        if old is None and new is None:
            return
        if old is None or new is None or "RENAME_EXCHANGE" in call.arguments:
            raise RecordError("a rename from or to another place")
        node = self._paths.entries[old[0]].pop(old[1])
        self._paths.entries[new[0]][new[1]] = node
        self.events.append(Name(node, *new, old=old, is_folder=node in self._paths.entries))

    def link(self, call: strace.Call) -> None:
        """`link` and `linkat`: a second name."""
        old, new = map(self._paths.place, self._named(call))
        if new is None:
            return
        if old is None:
            raise RecordError("a link from another place")
        self._name(self._paths.entries[old[0]][old[1]], new, is_folder=False)

    def symlink(self, call: strace.Call) -> None:
        """`symlink`: not supported on the disk."""
        if self._paths.place(self._named(call)[-1]) is not None:
            raise RecordError("a symbolic link")

    def make_folder(self, call: strace.Call) -> None:
        """`mkdir` and `mkdirat`."""
        place = self._paths.place(self._named(call)[0])
        if place is not None:
            self._name(self._paths.new_node(), place, is_folder=True)

    def remove(self, call: strace.Call) -> None:
        """`unlink`, `rmdir` and `unlinkat`."""
        place = self._paths.place(self._named(call)[0])
        if place is not None:
            del self._paths.entries[place[0]][place[1]]
            self.events.append(Remove(*place))

    def sync(self, call: strace.Call) -> None:
        """`fsync` and `fdatasync`: what had returned before they began is safe."""
        covers = self._marks[call.after - 1] if call.after else 0
        if call.name in ("sync", "syncfs"):
            nodes = range(self._paths.count + 1)
        else:
            node = self._paths.find(_path_of(_FD.match(call.arguments)))
            nodes = range(0) if node is None else range(node, node + 1)
        self.events += [Sync(node, covers) for node in nodes]

    def seek(self, call: strace.Call) -> None:
        """`lseek`."""
        match = _FD.match(call.arguments)
        node = self._paths.find(_path_of(match))
        if match is not None and node is not None and node not in self._paths.entries:
            cell = self._positions.setdefault((match[1], node), [0])
            cell[0] = cell[0] if cell[0] < 0 else _number(call.result)

    def map(self, call: strace.Call) -> None:
        """`mmap`: writing through memory would not be seen."""
        words = strace.split(call.arguments)
        shared = "MAP_SHARED" in words[3] and "PROT_WRITE" in words[2]
        if shared and self._paths.find(_path_of(_FD.match(words[4]))) is not None:
            raise RecordError(f"{_path_of(_FD.match(words[4]))} is written through memory")

    def duplicate(self, call: strace.Call) -> None:
        """`dup` and `fcntl(F_DUPFD)`: a second descriptor with the same position."""
        if call.name == "fcntl" and "F_DUPFD" not in call.arguments:
            return
        old, new = _FD.match(call.arguments), _FD.match(call.result)
        node = self._paths.find(_path_of(old))
        if old is None or new is None or node is None or node in self._paths.entries:
            return
        self._positions[new[1], node] = self._positions.setdefault((old[1], node), [0])

    def change_folder(self, call: strace.Call) -> None:
        """`chdir` and `fchdir`."""
        if call.name == "fchdir":
            self._cwd[call.pid] = _path_of(_FD.match(call.arguments))
        else:
            self._cwd[call.pid] = self._absolute(call, strace.strings(call.arguments)[0])

    def refuse(self, call: strace.Call) -> None:
        """Calls that write in ways that are not recorded."""
        places = [_path_of(match) for match in _FD.finditer(call.arguments) if match[2]]
        if call.name == "io_uring_setup" or any(map(self._paths.is_below, places)):
            raise RecordError(f"{call.name} is not recorded")

    def _named(self, call: strace.Call) -> list[str]:
        """Return the absolute paths of all names in a call's arguments."""
        bases = [_path_of(match) for match in _FD.finditer(call.arguments) if match[2] is not None]
        names = strace.strings(call.arguments)
        if len(bases) != len(names):
            return [self._absolute(call, name) for name in names]
        return [
            os.path.normpath(os.path.join(base, os.fsdecode(name)))
            for base, name in zip(bases, names, strict=True)
        ]

    def _absolute(self, call: strace.Call, name: bytes) -> str:
        return os.path.normpath(os.path.join(self._cwd[call.pid], os.fsdecode(name)))

    def _name(self, node: int, place: tuple[int, str], *, is_folder: bool) -> int:
        self._paths.entries[place[0]][place[1]] = node
        if is_folder:
            self._paths.entries[node] = {}
        else:
            self._sizes.setdefault(node, 0)
        self.events.append(Name(node, *place, is_folder=is_folder))
        return node

    def _write_on(self, fd: str, node: int, data: bytes) -> None:
        """Write at a descriptor's position."""
        cell = self._positions.setdefault((fd, node), [0])
        self._write(node, self._sizes[node] if cell[0] < 0 else cell[0], data)
        cell[0] = cell[0] if cell[0] < 0 else cell[0] + len(data)

    def _write(self, node: int, offset: int, data: bytes) -> None:
        self.events.append(Write(node, offset, data))
        self._sizes[node] = max(self._sizes[node], offset + len(data))

    def _resize(self, node: int, size: int) -> None:
        self.events.append(Resize(node, size))
        self._sizes[node] = size

    def _content(self, node: int) -> bytes:
        named = Name(node, ROOT, "copied")
        changes = [e for e in self.events if isinstance(e, Write | Resize) and e.node == node]
        return live([named, *changes])["copied"] or b""


def _path_of(match: re.Match[str] | None) -> str:
    """Return the path of a descriptor, "" where it has none."""
    return os.fsdecode(strace.unhex(match[2])) if match and match[2] else ""


def _number(result: str) -> int:
    match = _NUMBER.match(result)
    assert match is not None, result
    return int(match[0])


_R = Recorder
_HANDLERS: dict[str, Callable[[Recorder, strace.Call], None]] = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), _R.open),
    **dict.fromkeys(("write", "writev", "pwrite64", "pwritev", "pwritev2"), _R.write),
    **dict.fromkeys(("sendfile", "copy_file_range"), _R.copy),
    **dict.fromkeys(("truncate", "ftruncate", "fallocate"), _R.resize),
    **dict.fromkeys(("rename", "renameat", "renameat2"), _R.rename),
    **dict.fromkeys(("link", "linkat"), _R.link),
    **dict.fromkeys(("symlink", "symlinkat"), _R.symlink),
    **dict.fromkeys(("mkdir", "mkdirat"), _R.make_folder),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), _R.remove),
    **dict.fromkeys(("fsync", "fdatasync", "sync", "syncfs"), _R.sync),
    **dict.fromkeys(("dup", "dup2", "dup3", "fcntl"), _R.duplicate),
    **dict.fromkeys(("chdir", "fchdir"), _R.change_folder),
    **dict.fromkeys(("splice", "io_uring_setup"), _R.refuse),
    "lseek": _R.seek,
    "mmap": _R.map,
}
