"""Test resumed videos: nothing damaged is trusted, and nobody else's file is touched."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import srsdk
from srsdk.cli.main import main
from srsdk.system import durable
from srsdk.video import parts, pipeline, transcode
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip

FRAMES, LENGTH = 44, 8
STOP = 34
"""After four finished parts, within the fifth."""


@pytest.fixture(scope="module")
def up() -> Iterator[srsdk.Upscaler]:
    """Open a real Upscaler once; a single thread gives the same bytes each time."""
    with srsdk.Upscaler("gan_x2", threads=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten parts so that each clip has several."""
    monkeypatch.setattr(parts, "PART_FRAMES", LENGTH)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a clip with audio."""
    return clips.make(tmp_path_factory.mktemp("source") / "in.mkv", Clip(frames=FRAMES))


@pytest.fixture(scope="module")
def undisturbed(source: Path, up: srsdk.Upscaler) -> list[tuple[float, bytes]]:
    """Return the packets of a run without interruption: FFV1, so the same pixels byte for byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_FRAMES", LENGTH)
        run(up, source, source.with_name("whole.mkv"))
    return clips.packets(source.with_name("whole.mkv"), "video")


def run(up: srsdk.Upscaler, source: Path, target: Path, **options: Any) -> transcode.Report:
    """Upscale losslessly."""
    return transcode.upscale(up, source, target, codec="ffv1", **options)


def stop_after(frames: int) -> Callable[[int, int], None]:
    """Return a progress callback that behaves like Ctrl-C."""

    def progress(done: int, _: int) -> None:
        if done >= frames:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def stopped(up: srsdk.Upscaler, source: Path, tmp_path: Path) -> Path:
    """Interrupt a run after four parts and return its folder of parts."""
    with pytest.raises(KeyboardInterrupt):
        run(up, source, tmp_path / "out.mkv", progress=stop_after(STOP))
    folder = tmp_path / ".out.mkv.parts"
    assert [path.name for path in sorted(folder.glob("*.nut"))] == [
        f"{number:06d}.nut" for number in range(4)
    ]
    return folder


def cut(folder: Path) -> None:
    """Keep 60 % of a part."""
    path = folder / "000001.nut"
    os.truncate(path, path.stat().st_size * 6 // 10)


def zeros(folder: Path) -> None:
    """Fill a part with zeros, as a power cut does."""
    path = folder / "000000.nut"
    path.write_bytes(bytes(path.stat().st_size))


def one_bit(folder: Path) -> None:
    """Change one bit in the middle of a part."""
    path = folder / "000002.nut"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def deleted(folder: Path) -> None:
    """Delete a part."""
    (folder / "000001.nut").unlink()


def without_record(folder: Path) -> None:
    """Delete a part's record, as if the power had failed before it was written."""
    (folder / "000001.json").unlink()


def swapped(folder: Path) -> None:
    """Swap two parts with their records."""
    for suffix in ("nut", "json"):
        a, b, c = (folder / f"{name}.{suffix}" for name in ("000000", "000001", "x"))
        a.rename(c)
        b.rename(a)
        c.rename(b)


def of_another_run(folder: Path) -> None:
    """Put in a part whose record is valid, but belongs to a run with other settings."""
    record = durable.read_record(folder / "000003.json")
    durable.write_record(folder / "000003.json", {**record, "run": "0" * 64})


def claims_nothing(folder: Path) -> None:
    """Put in a record that is intact and of the wrong type."""
    durable.write_record(folder / "000001.json", [1, 2])


DAMAGE: dict[Callable[[Path], None], int] = {
    cut: 1,
    zeros: 1,
    one_bit: 1,
    deleted: 1,
    without_record: 1,
    swapped: 2,
    of_another_run: 1,
    claims_nothing: 1,
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_parts_are_computed_again(
    damage: Callable[[Path], None],
    stopped: Path,
    up: srsdk.Upscaler,
    source: Path,
    undisturbed: list[tuple[float, bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those and only those, which is said, and the result is that of an undisturbed run."""
    damage(stopped)
    target = stopped.with_name("out.mkv")
    done: list[int] = []
    with caplog.at_level(logging.WARNING, "srsdk"):
        report = run(up, source, target, resume=True, progress=lambda at, _: done.append(at))
    bad = DAMAGE[damage]
    assert f"{bad} of 4 parts are damaged or missing; their frames, up to {bad * 8}" in caplog.text
    assert report.computed == FRAMES - (4 - bad) * LENGTH
    assert done == list(range((4 - bad) * LENGTH + 1, FRAMES + 1))
    assert report.frames == FRAMES
    assert clips.packets(target, "video") == undisturbed
    assert clips.times(target) == clips.times(source)
    assert sorted(path.name for path in target.parent.iterdir()) == ["out.mkv"]


def test_an_intact_run_warns_of_nothing(
    stopped: Path, up: srsdk.Upscaler, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Parts that match their records are not computed again."""
    with caplog.at_level(logging.WARNING, "srsdk"):
        report = run(up, source, stopped.with_name("out.mkv"), resume=True)
    assert report.computed == FRAMES - 4 * LENGTH
    assert caplog.text == ""


def test_a_part_with_an_impossible_number(
    stopped: Path, up: srsdk.Upscaler, source: Path, undisturbed: list[tuple[float, bytes]]
) -> None:
    """A name with a number of any size costs no time, and is removed."""
    for suffix in ("nut", "json"):
        (stopped / f"999999999999999.{suffix}").write_bytes(b"")
    report = run(up, source, stopped.with_name("out.mkv"), resume=True)
    assert report.computed == FRAMES - 4 * LENGTH
    assert clips.packets(stopped.with_name("out.mkv"), "video") == undisturbed
    assert not stopped.exists()


def test_a_stop_while_a_hole_is_filled(
    stopped: Path, up: srsdk.Upscaler, source: Path, undisturbed: list[tuple[float, bytes]]
) -> None:
    """The partial file ends before the next hole; the good parts behind it are kept."""
    deleted(stopped)
    target = stopped.with_name("out.mkv")
    with pytest.raises(KeyboardInterrupt):
        run(up, source, target, resume=True, progress=stop_after(3 * LENGTH + 2))
    shown = clips.times(target.with_name("out.partial.mkv"))
    assert LENGTH + 2 <= len(shown) < FRAMES
    assert shown == clips.times(source)[: len(shown)]
    run(up, source, target, resume=True)
    assert clips.packets(target, "video") == undisturbed


def test_frames_that_are_missing_are_noticed(
    stopped: Path, up: srsdk.Upscaler, source: Path
) -> None:
    """A file that holds fewer frames than the records say is no success, and the parts stay."""
    record = durable.read_record(stopped / "000003.json")
    # as if a part had been cut before its hash was computed
    short = stopped / "000000.nut"
    data = short.read_bytes()
    (stopped / "000003.nut").write_bytes(data[: len(data) * 6 // 10])
    facts = {
        "bytes": (stopped / "000003.nut").stat().st_size,
        "sha256": durable.digest_of(stopped / "000003.nut"),
    }
    durable.write_record(stopped / "000003.json", {**record, **facts})
    target = stopped.with_name("out.mkv")
    with pytest.raises(srsdk.SrsdkError, match=r"would hold|cannot be"):
        run(up, source, target, resume=True)
    assert not target.exists()
    assert (stopped / "000002.nut").exists()


STATES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "changed": lambda data: data.replace(b"ffv1", b"ffv2"),
    "not a record": lambda _: b'{"source": 1}',
    "a list": lambda _: durable.pack(b"[1]"),
    "a number": lambda _: durable.pack(b"1"),
    "brackets": lambda _: b"[" * 100_000,
    "brackets in a record": lambda _: durable.pack(b"[" * 100_000),
    "not text": lambda _: durable.pack(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", STATES)
def test_a_damaged_state(
    damage: str, stopped: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged run.json is an error of two lines that names --force, and --force works."""
    state = stopped / "run.json"
    state.write_bytes(STATES[damage](state.read_bytes()))
    target = stopped.with_name("out.mkv")
    call = ["video", str(source), str(target), "--model", "gan_x2", "--codec", "ffv1"]
    assert main([*call, "--resume"]) == 2
    _, error, usage = capsys.readouterr().err.splitlines()
    assert "run.json is damaged or missing; --force" in error
    assert usage.startswith("usage: ")
    assert main([*call, "--force"]) == 0
    assert sorted(path.name for path in target.parent.iterdir()) == ["out.mkv"]


def test_a_state_without_a_run(stopped: Path, up: srsdk.Upscaler, source: Path) -> None:
    """Parts whose run.json is gone are neither resumed nor deleted without --force."""
    (stopped / "run.json").unlink()
    target = stopped.with_name("out.mkv")
    for options in ({"resume": True}, {}):
        with pytest.raises(srsdk.UsageError, match="overwrite=True"):
            run(up, source, target, **options)
    assert (stopped / "000000.nut").exists()
    assert run(up, source, target, overwrite=True).computed == FRAMES


def test_the_key_names_the_length_of_parts(
    stopped: Path, up: srsdk.Upscaler, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with other parts is not resumed."""
    assert durable.read_record(stopped / "run.json")["part_frames"] == LENGTH
    monkeypatch.setattr(parts, "PART_FRAMES", 5)
    with pytest.raises(
        srsdk.UsageError, match=r"made with part_frames 8, this run has 5; overwrite=True"
    ):
        run(up, source, stopped.with_name("out.mkv"), resume=True)


def test_a_partial_file_of_the_users(tmp_path: Path, up: srsdk.Upscaler, source: Path) -> None:
    """A file named like the partial file is neither deleted nor replaced without --force."""
    target, precious = tmp_path / "out.mkv", tmp_path / "out.partial.mkv"
    precious.write_text("precious")
    with pytest.raises(srsdk.OutputError, match=r"out\.partial\.mkv exists; overwrite=True"):
        run(up, source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.partial.mkv"]
    run(up, source, target, overwrite=True)
    assert precious.read_text() == "precious"


def test_a_partial_file_that_appears_later(
    tmp_path: Path, up: srsdk.Upscaler, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of somebody else that appears during the run is kept, and so is a target."""
    target, precious = tmp_path / "out.mkv", tmp_path / "out.partial.mkv"

    def progress(done: int, _: int) -> None:
        if done == 20:
            precious.write_text("precious")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(up, source, target, progress=progress)
    assert precious.read_text() == "precious"
    assert "is kept as it is" in caplog.text
    precious.unlink()
    with pytest.raises(srsdk.OutputError, match="exists; overwrite=True"):
        run(
            up, source, target, resume=True,
            progress=lambda done, _: target.write_text("other") and None,
        )  # fmt: skip
    assert target.read_text() == "other"
    report = run(up, source, target, resume=True, overwrite=True)
    assert (report.frames, report.computed) == (FRAMES, 0)


def test_a_partial_file_that_was_edited(stopped: Path, up: srsdk.Upscaler, source: Path) -> None:
    """A partial file that the user has changed since is the user's; with --force it is left."""
    target = stopped.with_name("out.mkv")
    partial = target.with_name("out.partial.mkv")
    partial.write_text("edited")
    with pytest.raises(srsdk.OutputError, match="partial"):
        run(up, source, target, resume=True)
    assert run(up, source, target, resume=True, overwrite=True).computed < FRAMES
    assert partial.read_text() == "edited"


def test_a_source_named_like_the_partial_file(
    tmp_path: Path, up: srsdk.Upscaler, source: Path
) -> None:
    """The run never writes over its own source, not even with --force."""
    own = tmp_path / "out.partial.mkv"
    own.write_bytes(source.read_bytes())
    with pytest.raises(srsdk.UsageError, match="choose another target"):
        run(up, own, tmp_path / "out.mkv", overwrite=True)
    assert own.read_bytes() == source.read_bytes()


def test_a_folder_of_the_users(tmp_path: Path, up: srsdk.Upscaler, source: Path) -> None:
    """A folder named like that of the parts is not deleted, not even with --force."""
    target, folder = tmp_path / "out.mkv", tmp_path / ".out.mkv.parts"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(srsdk.OutputError, match=r"holds 'thesis\.txt'.*move it away"):
            run(up, source, target, **options)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    folder.rmdir()
    folder.write_text("a file")
    with pytest.raises(srsdk.OutputError, match="is not a folder; move it away"):
        run(up, source, target, overwrite=True)
    assert folder.read_text() == "a file"


def test_a_file_of_the_users_among_the_parts(
    stopped: Path, up: srsdk.Upscaler, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """--force refuses, --resume finishes, and the file is still there."""
    (stopped / "notes.txt").write_text("precious")
    target = stopped.with_name("out.mkv")
    with pytest.raises(srsdk.OutputError, match=r"notes\.txt"):
        run(up, source, target, overwrite=True)
    run(up, source, target, resume=True)
    assert [path.name for path in stopped.iterdir()] == ["notes.txt"]
    assert "stays, because it holds notes.txt" in caplog.text


def test_two_runs_on_one_target(tmp_path: Path, up: srsdk.Upscaler, source: Path) -> None:
    """The second is refused, with any option, and the first is not disturbed."""
    target = tmp_path / "out.mkv"
    refused: list[str] = []

    def other() -> None:
        for options in ({}, {"resume": True}, {"overwrite": True}):
            try:
                run(up, source, target, **options)
            except srsdk.UsageError as error:
                refused.append(str(error))

    def progress(done: int, _: int) -> None:
        if done == 12:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    assert run(up, source, target, progress=progress).frames == FRAMES
    assert len(refused) == 3
    assert all("another run writes into" in text for text in refused)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv"]


OTHER = """
import sys
from srsdk.cli.main import main
sys.exit(main())
"""


def test_another_process_on_the_target(tmp_path: Path, up: srsdk.Upscaler, source: Path) -> None:
    """A second process is refused with exit code 2 and an error of two lines."""
    target = tmp_path / "out.mkv"
    call = [sys.executable, "-c", OTHER, "video", str(source), str(target), "--force"]
    found: list[subprocess.CompletedProcess[str]] = []

    def progress(done: int, _: int) -> None:
        if done == 12:
            found.append(subprocess.run(call, capture_output=True, text=True, timeout=120))

    assert run(up, source, target, progress=progress).frames == FRAMES
    assert found[0].returncode == 2
    assert found[0].stderr.count("\n") == 3
    assert "another run writes into" in found[0].stderr.splitlines()[1]


@pytest.mark.parametrize("stop", [0, STOP])
def test_resume_is_offered_only_where_it_helps(
    stop: int,
    tmp_path: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C before the first frame leaves nothing, and no advice to continue."""
    execute = pipeline.Pipeline.execute

    def interrupted(self: Any, _: Any) -> None:
        if not stop:
            raise KeyboardInterrupt
        execute(self, stop_after(stop))

    monkeypatch.setattr(pipeline.Pipeline, "execute", interrupted)
    call = ["video", str(source), str(tmp_path / "out.mkv"), "--model", "gan_x2"]
    assert main(call) == 130
    assert ("--resume" in capsys.readouterr().err) == bool(stop)
    left = [".out.mkv.parts", "out.partial.mkv"] if stop else []
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_refused_thread(
    tmp_path: Path, up: srsdk.Upscaler, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that starts no thread is an error with a fix, and nothing is left behind."""
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("srsdk-encode"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = threading.active_count()
    with pytest.raises(srsdk.BackendError, match="ulimit -u"):
        run(up, source, tmp_path / "out.mkv")
    assert threading.active_count() <= before
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(parts, "PART_FRAMES", LENGTH)
    assert run(up, source, tmp_path / "out.mkv").frames == FRAMES


def test_a_record_says_what_a_part_holds(stopped: Path) -> None:
    """Length, SHA-256 and number of frames, in a record that itself has a length and a hash."""
    for number in range(4):
        path = stopped / f"{number:06d}.nut"
        record = json.loads(durable.unpack(path.with_suffix(".json").read_bytes()))
        assert record["bytes"] == path.stat().st_size
        assert record["sha256"] == durable.digest_of(path)
        assert (record["part"], record["frames"]) == (number, LENGTH)
