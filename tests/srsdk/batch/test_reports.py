"""A report gets whole lines, after those of earlier runs, and is never a file of the user's."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

import srsdk
from srsdk.batch import reports
from srsdk.cli.main import main
from tests.srsdk.batch.pictures import fill, lines

LINE = {"source": "a.png", "target": "out/a.png", "status": "done", "seconds": 0.5}
TEXT = f"{json.dumps(LINE)}\n"


def append(path: Path, *rows: dict[str, object]) -> None:
    """Write rows as a run does."""
    with reports.lines_to(path) as write:
        for row in rows:
            write(row)


@pytest.mark.parametrize(
    "content",
    [
        b"precious text",
        b"precious text\n",
        b"{}\n",
        b'{"source": "a", "target": "b"}',
        b'{"source": "a", "target": "b"}\n',
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        TEXT.encode() + b"and a note of mine\n",
        TEXT.encode() + b"{" * 100_000,
        b"x" * (3 << 20),
    ],
)
def test_other_files_are_not_appended_to(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text, pictures and other people's JSON are refused before any work and left as they are."""
    path = tmp_path / "notes.jsonl"
    path.write_bytes(content)
    fill(tmp_path / "in", "a.png")
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--report", str(path)]
    assert main(call) == 1
    assert "is not a report of srsdk" in capsys.readouterr().err
    assert path.read_bytes() == content
    assert not (tmp_path / "out").exists()
    with pytest.raises(srsdk.OutputError, match="choose another report="):
        append(path, LINE)


@pytest.mark.parametrize("before", ["", TEXT, TEXT * 3, TEXT * 20_000])
def test_a_report_is_continued(tmp_path: Path, before: str) -> None:
    """An empty file, and a report of earlier runs of any length."""
    path = tmp_path / "report.jsonl"
    path.write_text(before, encoding="ascii")
    append(path, LINE, LINE)
    assert path.read_text(encoding="ascii") == before + TEXT * 2


@pytest.mark.parametrize("whole", ["", TEXT])
def test_every_torn_line(tmp_path: Path, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a killed run tore its last line, the next run's lines are whole."""
    path = tmp_path / "report.jsonl"
    monkeypatch.setattr(reports, "SETTLE_S", 0)
    for end in range(1, len(TEXT)):
        path.write_text(whole + TEXT[:end], encoding="ascii")
        append(path, LINE)
        append(path, LINE)
        *_, first, second = path.read_text(encoding="ascii").splitlines()
        assert json.loads(first) == json.loads(second) == LINE


def test_a_line_torn_twice(tmp_path: Path) -> None:
    """A report whose last two runs were both killed is still a report."""
    path = tmp_path / "report.jsonl"
    path.write_text(TEXT + TEXT[:20] + "\n" + TEXT[:30], encoding="ascii")
    append(path, LINE)
    assert json.loads(path.read_text(encoding="ascii").splitlines()[-1]) == LINE


def test_each_line_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One system call each, gap included; the file is synced at the end, after the last line."""
    path = tmp_path / "report.jsonl"
    path.write_text(TEXT[:-1], encoding="ascii")
    calls: list[bytes] = []
    write, sync = os.write, os.fsync

    def note(handle: int, data: bytes) -> int:
        calls.append(data)
        return write(handle, data)

    def note_sync(handle: int) -> None:
        calls.append(b"sync")
        sync(handle)

    monkeypatch.setattr(os, "write", note)
    monkeypatch.setattr(os, "fsync", note_sync)
    append(path, LINE, LINE)
    assert calls == [f"\n{TEXT}".encode(), TEXT.encode(), b"sync"]


def test_two_runs_append_to_one_report(tmp_path: Path) -> None:
    """Lines of runs at the same time are never mixed."""
    path = tmp_path / "report.jsonl"
    rows = [LINE | {"error": "x" * length} for length in range(0, 8000, 80)]

    def run() -> None:
        for start in range(0, 100, 5):
            append(path, *rows[start : start + 5])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(lines(path)) == 400


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_pipes(tmp_path: Path) -> None:
    """A pipe that is read gets the lines; one that nobody reads is an error, not a wait."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(srsdk.OutputError, match="cannot be written"):
        append(path, LINE)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        append(path, LINE)
        assert os.read(reader, 1000) == TEXT.encode()
    finally:
        os.close(reader)
