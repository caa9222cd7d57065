"""System calls become events."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from tests.powercut.disk import Name, Remove, Resize, Say, Sync, Write
from tests.powercut.paths import RecordError
from tests.powercut.recorder import Recorder
from tests.powercut.recording import read_tree, write_tree
from tests.powercut.strace import read
from tests.powercut.testing import needs_strace, recorded

pytestmark = pytest.mark.skipif(os.name != "posix", reason="paths are those of Linux")


def quoted(text: str) -> str:
    """Return a string as strace prints it."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def recorder(tmp_path: Path, log: str) -> Recorder:
    """Return the recorder of a log, in which `{DISK}` stands for the disk."""
    disk = tmp_path.resolve() / "disk"
    disk.mkdir()
    for name in ("", "/a", "/b", "/d"):
        log = log.replace(f"{{DISK{name}}}", quoted(f"{disk}{name}"))
    log = log.replace("{OUT}", quoted(str(disk.parent / "out")))
    path = tmp_path / "log"
    path.write_text(textwrap.dedent(log).lstrip())
    made = Recorder(disk, {"stdout": disk.parent / "out"}, tmp_path)
    for call in read(path):
        made.add(call)
    return made


def test_a_log(tmp_path: Path) -> None:
    """Positions follow `lseek` and duplicates; calls that failed do not count."""
    log = r"""
    1 openat(AT_FDCWD<\x2f>, "{DISK/a}", O_WRONLY|O_CREAT, 0666) = 3<{DISK/a}>
    1 write(3<{DISK/a}>, "\x61\x62\x63", 3) = 3
    1 dup(3<{DISK/a}>) = 4<{DISK/a}>
    1 write(4<{DISK/a}>, "\x64\x65", 2) = 1
    1 lseek(3<{DISK/a}>, 1, SEEK_SET) = 1
    1 writev(4<{DISK/a}>, [{iov_base="\x78", iov_len=1}, {iov_base="\x79", iov_len=1}], 2) = 2
    1 pwrite64(3<{DISK/a}>, "\x7a", 1, 7) = 1
    1 ftruncate(3<{DISK/a}>, 6) = 0
    1 rename("{DISK/b}", "{DISK/a}") = -1 ENOENT (No such file or directory)
    1 rename("{DISK/a}", "{DISK/b}") = 0
    1 mkdir("{DISK/d}", 0777) = 0
    1 unlink("{DISK/b}") = 0
    1 write(1<{OUT}>, "\x64\x6f\x6e\x65", 4) = 4
    1 +++ exited with 0 +++
    """
    assert recorder(tmp_path, log).events == [
        Name(1, 0, "a"),
        Write(1, 0, b"abc"),
        Write(1, 3, b"d"),
        Write(1, 1, b"xy"),
        Write(1, 7, b"z"),
        Resize(1, 6),
        Name(1, 0, "b", old=(0, "a")),
        Name(2, 0, "d", is_folder=True),
        Remove(0, "b"),
        Say("stdout", b"done"),
    ]


def test_threads(tmp_path: Path) -> None:
    """A sync covers only what had returned when it began."""
    log = r"""
    1 openat(AT_FDCWD<\x2f>, "{DISK/a}", O_WRONLY|O_CREAT, 0666) = 3<{DISK/a}>
    1 write(3<{DISK/a}>, "\x61", 1) = 1
    2 fsync(3<{DISK/a}> <unfinished ...>
    1 write(3<{DISK/a}>, "\x62", 1) = 1
    2 <... fsync resumed>) = 0
    2 fsync(5<{DISK}>) = 0
    """
    assert recorder(tmp_path, log).events[-2:] == [Sync(1, 2), Sync(0, 4)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "mmap(NULL, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{DISK/a}>, 0) = 0x7f",
            "through memory",
        ),
        ('rename("\\x2f\\x78", "{DISK/b}") = 0', "another place"),
        ('symlink("\\x78", "{DISK/b}") = 0', "symbolic link"),
        ('openat(AT_FDCWD<\\x2f>, "{DISK/b}", O_RDWR) = 3<{DISK/b}>', "never created"),
        ('write(3<{DISK/a}>, "\\x61"..., 9) = 9', "cut a string"),
        ("io_uring_setup(8, {flags=0}) = 9", "not recorded"),
    ],
)
def test_what_cannot_be_recorded_is_an_error(tmp_path: Path, line: str, why: str) -> None:
    """Silence would let a damaged file pass."""
    created = r'1 openat(AT_FDCWD<\x2f>, "{DISK/a}", O_RDWR|O_CREAT, 0666) = 3<{DISK/a}>'
    with pytest.raises(RecordError, match=why):
        recorder(tmp_path, f"{created}\n1 {line}\n")


WRITING = """
import os, shutil, subprocess, sys, threading
disk = sys.argv[1]
os.chdir(disk)
with open("a", "w") as file:
    file.write("hello")
    file.flush()
    os.fsync(file.fileno())
    file.seek(1)
    file.write("a")
with open("a", "a") as file:
    file.write(" world")
os.makedirs("b/ü")
shutil.copyfile("a", "b/ü/copy")
os.link("a", "b/second")
os.rename("b", "c")
os.truncate("a", 4)
threads = [threading.Thread(target=open(str(n), "w").write, args=["x" * n]) for n in range(9)]
for thread in threads:
    thread.start()
    thread.join()
subprocess.run(["cp", "a", "9"], check=True)
os.unlink("c/ü/copy")
os.rmdir("c/ü")
print("done")
"""


@needs_strace
def test_a_real_process(tmp_path: Path) -> None:
    """The events of threads and children give what the process wrote; `record` compares them."""
    events = recorded(WRITING, tmp_path)
    assert (tmp_path / "disk" / "a").read_bytes() == b"hall"
    assert Sync(1, 2) in events
    assert b"".join(e.data for e in events if isinstance(e, Say)) == b"done\n"


def test_trees(tmp_path: Path) -> None:
    """What is written is read back."""
    tree = {"a": b"1", "d": None, "d/b": b"", "d/e": None}
    write_tree(tree, tmp_path / "new")
    assert read_tree(tmp_path / "new") == tree
