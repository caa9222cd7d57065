"""Windows and macOS behavior, simulated on the system that runs the tests."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import srsdk
from srsdk.autotune import settings
from srsdk.batch import jobs, storage
from srsdk.cli.main import main
from srsdk.engines.compiled import kernel_cache
from srsdk.image import encode
from srsdk.models import store
from srsdk.scheduling import waiting
from srsdk.system import memory, paths, user_cache
from tests import networks


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate Windows, as far as `srsdk.system.paths` determines it."""
    monkeypatch.setattr(paths, "WINDOWS", True)


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every folder case-insensitive."""
    monkeypatch.setattr(jobs, "ignores_case", lambda _: True)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a:b.png", "not allow ':'"),
        ("what?.png", r"not allow '\?'"),
        ("line\n.png", "file names"),
        ("NUL.png", "device"),
        ("com1.tar.png", "device"),
        ("aux .png", "device"),
    ],
)
def test_a_name_that_windows_does_not_have(tmp_path: Path, name: str, why: str) -> None:
    """Rejected before any work, with the reason; Windows would write it elsewhere."""
    with pytest.raises(srsdk.OutputError, match=why):
        encode.check_target(tmp_path / name, overwrite=False)


@pytest.mark.usefixtures("windows")
def test_names_that_windows_has() -> None:
    """Names that only look like devices are files; a final dot or space is dropped."""
    for name in ("console.png", "com10.png", "a b.png", "größe.png", "nul_.png"):
        assert paths.bad_name(name) == ""
    assert "end of a file name" in paths.bad_name("a.png ")


def test_every_name_is_one_elsewhere(tmp_path: Path) -> None:
    """Other systems accept names that Windows refuses."""
    for name in ("a:b.png", "nul.png"):
        encode.check_target(tmp_path / name, overwrite=False)
        assert paths.bad_name(name) == ""


@pytest.mark.usefixtures("folding")
def test_two_names_of_one_file(tmp_path: Path) -> None:
    """If case is ignored, two sources do not overwrite each other's result."""
    sources = [tmp_path / "a" / "Photo.png", tmp_path / "b" / "PHOTO.png"]
    with pytest.raises(
        srsdk.UsageError, match=r"both be written to .*: the file system ignores case"
    ):
        jobs.plan(sources, tmp_path / "out")
    accents = [tmp_path / "a" / "caf\u00e9.png", tmp_path / "b" / "cafe\u0301.png"]
    with pytest.raises(srsdk.UsageError, match="both be written to"):
        jobs.plan(accents, tmp_path / "out")


def test_two_names_of_two_files(tmp_path: Path) -> None:
    """If the folder is case-sensitive, both are written."""
    if paths.ignores_case(tmp_path):
        pytest.skip("this folder is case-insensitive")
    sources = [tmp_path / "a" / "Photo.png", tmp_path / "b" / "PHOTO.png"]
    assert len(jobs.plan(sources, tmp_path / "out").jobs) == 2
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing can be written, the system's default is assumed."""

    def refuse(**_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    for is_mac in (True, False):
        monkeypatch.setattr(paths, "MACOS", is_mac)
        assert paths.ignores_case(tmp_path) is (is_mac or paths.WINDOWS)


def test_one_file_by_two_names(tmp_path: Path) -> None:
    """Names that differ only in case are compared as files; other hard links count as two files."""
    one = tmp_path / "a.png"
    one.write_bytes(b"x")
    for name in ("A.png", "b.png"):
        os.link(one, tmp_path / name)
    assert paths.is_same_file(one, tmp_path / "A.png")
    assert not paths.is_same_file(one, tmp_path / "b.png")
    assert not paths.is_same_file(one, tmp_path / "c.png")
    assert paths.is_same_file(tmp_path / "c.png", tmp_path / "x" / ".." / "c.png")


def test_caches_lie_where_the_system_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All caches use the system's folder on all three systems, or the variable that moves them."""
    for name in ("SRSDK_CACHE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for on_windows, on_mac, expected in (
        (True, False, tmp_path / "AppData" / "Local" / "srsdk"),
        (False, True, tmp_path / "Library" / "Caches" / "srsdk"),
        (False, False, tmp_path / ".cache" / "srsdk"),
    ):
        monkeypatch.setattr(paths, "WINDOWS", on_windows)
        monkeypatch.setattr(paths, "MACOS", on_mac)
        assert user_cache.folder() == expected
        file = kernel_cache.cache_file(b"", "1", "gpu", "1")
        assert file is not None
        assert file.parent == expected / "rtx"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert user_cache.folder() == tmp_path / "x" / "srsdk"
    monkeypatch.setattr(paths, "WINDOWS", True)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert user_cache.folder() == tmp_path / "local" / "srsdk"


def test_fetched_models_lie_where_the_system_keeps_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all three systems, or where the variable moves them; an empty one means nowhere."""
    for name in ("SRSDK_MODELS", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for on_windows, on_mac, expected in (
        (True, False, tmp_path / "AppData" / "Local" / "srsdk" / "models"),
        (False, True, tmp_path / "Library" / "Application Support" / "srsdk" / "models"),
        (False, False, tmp_path / ".local" / "share" / "srsdk" / "models"),
    ):
        monkeypatch.setattr(paths, "WINDOWS", on_windows)
        monkeypatch.setattr(paths, "MACOS", on_mac)
        assert store.folder() == expected
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "x"))
    assert store.folder() == tmp_path / "x" / "srsdk" / "models"
    for value, moved in ((str(tmp_path / "y"), tmp_path / "y"), ("", None)):
        monkeypatch.setenv("SRSDK_MODELS", value)
        assert store.folder() == moved


def test_a_file_that_is_still_open_hides_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Windows cannot remove an open temporary file, the original error is reported."""

    def in_use(_: Path, **__: bool) -> None:
        raise PermissionError(13, "in use by another process")

    def write() -> None:
        with encode.replacing(tmp_path / "a.png") as temporary:
            temporary.write_bytes(b"half")
            raise OSError("disk full")

    monkeypatch.setattr(Path, "unlink", in_use)
    with pytest.raises(srsdk.OutputError, match="disk full"):
        write()


def test_addresses_have_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows paths get forward slashes for Arrow and the ledger; a drive is not a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sep", "\\")
    assert storage.absolute("in\\a.png") == f"{tmp_path}/in/a.png"
    assert storage.name("C:\\in\\a.png") == "a.png"
    assert storage.join("C:\\out", "b", "a.png") == "C:/out/b/a.png"
    assert storage.join("s3://bucket/out/?k=v", "a.png") == "s3://bucket/out/a.png?k=v"
    assert storage.is_local("C://in/a.png")
    assert not storage.is_local("s3://bucket/a.png")


def test_the_program_stops_by_every_signal_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Break on Windows is handled like SIGTERM; missing signals are skipped."""
    monkeypatch.setattr(sys, "argv", ["srsdk", "models"])
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)}
    stand_in = signal.SIGINT  # exists on all systems
    try:
        signal.signal(stand_in, signal.SIG_IGN)
        monkeypatch.setattr(signal, "SIGBREAK", stand_in, raising=False)
        assert main() == 0
        handler = signal.getsignal(stand_in)
        assert callable(handler)
        with pytest.raises(KeyboardInterrupt):
            handler(stand_in, None)
        monkeypatch.delattr(signal, "SIGBREAK")
        monkeypatch.delattr(signal, "SIGTERM")
        assert main() == 0
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def test_a_pipe_with_a_code_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the output's encoding cannot represent is escaped, without a traceback."""
    networks.nearest(tmp_path / "\u7d75.onnx")
    before = signal.getsignal(signal.SIGTERM)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "cp1252"))
    monkeypatch.setattr(sys, "argv", ["srsdk", "models", str(tmp_path)])
    try:
        assert main() == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert b"\\u7d75.onnx" in raw.getvalue()


def test_no_wait_is_without_an_end() -> None:
    """On Windows Ctrl-C does not interrupt a wait, so waits have a timeout and repeat."""
    waits: list[float | None] = []

    class Slow(Future[int]):
        def result(self, timeout: float | None = None) -> int:
            waits.append(timeout)
            if len(waits) == 3:
                self.set_result(7)
            return super().result(0)

    assert waiting.result_of(Slow()) == 7
    assert waits == [waiting.TICK_S] * 3
    failed: Future[int] = Future()
    failed.set_exception(srsdk.DeadlineExceeded("late"))
    with pytest.raises(srsdk.DeadlineExceeded):
        waiting.result_of(failed)


def test_the_demo_waits_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo waits with a timeout, repeatedly, until Ctrl-C."""
    waited: list[float | None] = []

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            if len(waited) == 3:
                raise KeyboardInterrupt
            return False

    class Page:
        def __enter__(self) -> str:
            return "http://127.0.0.1:7860"

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("srsdk.serving.demo.serve", lambda *_, **__: Page())
    monkeypatch.setattr("srsdk.cli.demo.threading.Event", Ended)
    assert main(["demo"]) == 130
    assert waited == [waiting.TICK_S] * 3


def test_memory_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The minimum of free memory, the commit limit and the address space."""
    values = {"free": 8 << 30, "free_page": 3 << 30, "free_virtual": 100 << 30}

    class Kernel:
        answers = 1

        def GlobalMemoryStatusEx(self, reference: Any) -> int:  # noqa: N802 - as Windows calls it
            status = reference._obj
            assert status.length == ctypes.sizeof(status)
            for name, value in values.items():
                setattr(status, name, value)
            return self.answers

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Kernel())
    assert memory._windows() == 3 << 30
    monkeypatch.setattr(Kernel, "answers", 0)
    assert memory._windows() is None


def test_memory_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the physical memory, or None if that is unknown."""
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 16384}.__getitem__)
    assert memory.available_bytes() == 1000 * 16384 // 2
    monkeypatch.delattr(os, "sysconf")
    assert memory.available_bytes() is None


def test_cores_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without affinity (Windows, macOS) all cores are counted."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert settings.cpu_count() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert settings.cpu_count() == 1
