"""Test folders: the tree is kept, existing results are skipped, a bad file costs one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.batch import folder, jobs
from srsdk.batch.jobs import Job
from srsdk.cli.main import main
from srsdk.cli.pictures import tally
from srsdk.cli.terminal import Lines, clock
from srsdk.scheduling.context import Progress
from tests.conftest import make_picture
from tests.srsdk.batch.pictures import double, fill, lines, tree


def test_the_tree_is_kept(tmp_path: Path) -> None:
    """`-r` keeps the folder structure and ignores hidden files and files that are no pictures."""
    root = tmp_path / "in"
    fill(root, "a.png", "b/a.png", "b/c/d.jpg", ".hidden/x.png", ".y.png")
    (root / "b" / "notes.txt").write_text("no picture")
    call = ["upscale", str(root), "-o", str(tmp_path / "out"), "--scale", "2"]
    assert main([*call, "-r"]) == 0
    assert tree(tmp_path / "out") == ["a.png", "b/a.png", "b/c/d.jpg"]
    with Image.open(tmp_path / "out" / "b" / "c" / "d.jpg") as image:
        assert image.size == (20, 16)


def test_without_r_only_the_folder_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a folder that holds only folders, the message names -r."""
    fill(tmp_path / "in", "b/a.png")
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    assert "-r includes subfolders" in capsys.readouterr().err


def test_results_inside_the_source_are_no_sources(tmp_path: Path) -> None:
    """`srsdk upscale -r . -o out` twice does not upscale its own results."""
    fill(tmp_path, "a.png", "b/c.png")
    for _ in range(2):
        assert main(["upscale", str(tmp_path), "-r", "-o", str(tmp_path / "out")]) == 0
    assert tree(tmp_path / "out") == ["a.png", "b/c.png"]


def test_existing_results_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run upscales what is missing; `--force` upscales everything."""
    fill(tmp_path / "in", "a.png", "b.png", "c.png")
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    call += ["--report", str(tmp_path / "report.jsonl")]
    assert main(call) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "srsdk: 3 done, 0 failed"
    (tmp_path / "out" / "b.png").unlink()
    (tmp_path / "out" / "c.png").write_bytes(b"precious")
    assert main(call) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "srsdk: 1 done, 2 skipped, 0 failed"
    assert (tmp_path / "out" / "c.png").read_bytes() == b"precious"
    assert main([*call, "--force"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "srsdk: 3 done, 0 failed"
    status = [line["status"] for line in lines(tmp_path / "report.jsonl")]
    assert status == ["done"] * 3 + ["skipped", "done", "skipped"] + ["done"] * 3


def test_a_bad_file_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is on the terminal and in the report; the others equal a run of one at a time."""
    names = [f"{index:02}.png" for index in range(9)]
    fill(tmp_path / "in", *names)
    (tmp_path / "in" / "04.png").write_text("not a picture")
    report = tmp_path / "report.jsonl"
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--scale", "2"]
    assert main([*call, "--jobs", "4", "--report", str(report)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2
    assert "04.png is not a picture" in error[0]
    assert error[1] == "srsdk: 8 done, 1 failed"
    rows = lines(report)
    assert [Path(line["source"]).name for line in rows] == names
    assert [line["status"] for line in rows].count("failed") == 1
    assert "not a picture" in rows[4]["error"]
    with srsdk.Upscaler("gan_x2") as up:
        for name in [*names[:4], *names[5:]]:
            with Image.open(tmp_path / "out" / name) as image:
                expected = up(tmp_path / "in" / name)
                assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


def test_each_failure_names_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the error itself says `the picture`, as too little memory does."""
    fill(tmp_path / "in", "a.png", "b.png")
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--scale", "2"]
    assert main([*call, "--max-memory", "20000"]) == 1
    a, b, last = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'in' / 'a.png'}: " in a
    assert f"{tmp_path / 'in' / 'b.png'}: " in b
    assert last == "srsdk: 0 done, 2 failed"


def test_jobs_overlap_and_keep_their_order(tmp_path: Path) -> None:
    """As many jobs as threads run at the same time; outcomes come in the order of the jobs."""
    together = threading.Barrier(3, timeout=120)

    def work(job: Job, _: Progress | None) -> None:
        together.wait()
        if job.source.name == "4":
            raise srsdk.PictureError("bad")

    planned = [Job(tmp_path / str(n), tmp_path / "out" / str(n)) for n in range(9)]
    outcomes = list(folder.run(planned, work, threads=3, skip=False))
    assert [outcome.job for outcome in outcomes] == planned
    assert [outcome.status for outcome in outcomes] == ["done"] * 4 + ["failed"] + ["done"] * 4


def test_closing_stops_within_one_tile(tmp_path: Path) -> None:
    """Running jobs stop through their progress callback; the others never start."""
    begun: list[Job] = []
    running, ended = threading.Event(), threading.Event()

    def work(job: Job, progress: Progress | None) -> None:
        begun.append(job)
        if job.source.name == "0":
            return
        assert progress is not None
        running.set()
        try:
            for tile in range(10_000):
                progress(tile, 10_000)
                time.sleep(0.002)
        finally:
            ended.set()

    planned = [Job(tmp_path / str(n), tmp_path / "out" / str(n)) for n in range(50)]
    outcomes = folder.run(planned, work, threads=2, skip=False)
    next(outcomes)
    assert running.wait(120)
    outcomes.close()
    assert ended.is_set()
    assert len(begun) <= 4


def test_what_finished_behind_an_unfinished_job(tmp_path: Path) -> None:
    """Closing early gives the outcomes of jobs that ended while an earlier one had not."""
    others = threading.Semaphore(0)

    def work(job: Job, progress: Progress | None) -> None:
        assert progress is not None
        while job.source.name == "0":
            progress(0, 1)
            time.sleep(0.002)
        others.release()
        if job.source.name == "2":
            raise srsdk.PictureError("bad")

    planned = [Job(tmp_path / str(n), tmp_path / "out" / str(n)) for n in range(4)]
    late: list[folder.Outcome] = []
    outcomes = folder.run(planned, work, threads=4, skip=False, late=late.extend)

    def stop(*signals: object) -> None:
        for _ in range(3):
            assert others.acquire(timeout=60)
        time.sleep(0.05)  # the threads store their outcomes
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGINT, stop)
    try:
        threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            next(outcomes)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert [(outcome.job, outcome.status) for outcome in late] == [
        (planned[1], "done"),
        (planned[2], "failed"),
        (planned[3], "done"),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_counts_what_is_finished(tmp_path: Path) -> None:
    """Small pictures behind a large one are in the summary and in the report."""
    names = [f"{index}.png" for index in range(1, 5)]
    fill(tmp_path / "in", *names)
    Image.fromarray(make_picture(600, 800)).save(tmp_path / "in" / "0.png")
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    call = ["upscale", str(tmp_path / "in"), "-o", str(out), "--report", str(report)]
    process = subprocess.Popen(
        [sys.executable, "-m", "srsdk", *call, "--jobs", "3", "--kind", "realworld"],
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(3000):
        if all((out / name).exists() for name in names[:2]):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    made = [name for name in names if (out / name).exists()]
    assert not (out / "0.png").exists()
    assert f"srsdk: {len(made)} done, 0 failed, {5 - len(made)} not finished" in error
    assert [Path(line["source"]).name for line in lines(report)] == made == names[:2]


def test_any_error_of_the_system_costs_one_job(tmp_path: Path) -> None:
    """An OSError of a job is its own failure; a source that disappears in mid-run is one too."""
    fill(tmp_path / "in", "a.png", "b.png", "c.png")

    def work(job: Job, _: Progress | None) -> None:
        if job.source.name == "a.png":
            (tmp_path / "in" / "c.png").unlink()
            raise OSError(28, "No space left on device")
        double(job)

    plan = jobs.plan([tmp_path / "in"], tmp_path / "out")
    outcomes = list(folder.run(plan.jobs, work, threads=1, skip=True))
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "failed"]
    assert outcomes[0].error == f"{tmp_path / 'in' / 'a.png'}: No space left on device"
    assert "no such file" in outcomes[2].error


def test_a_refused_thread_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the system starts no more threads, the run ends with the fix, and leaves none."""
    fill(tmp_path / "in", "a.png", "b.png")
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("srsdk-files"):
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    assert "ulimit -u" in capsys.readouterr().err
    assert tree(tmp_path / "out") == []


def test_no_more_threads_than_jobs(tmp_path: Path) -> None:
    """`--jobs 10000` for two pictures starts two threads."""
    fill(tmp_path / "in", "a.png", "b.png")
    plan, most = jobs.plan([tmp_path / "in"], tmp_path / "out"), []

    def work(job: Job, _: Progress | None) -> None:
        most.append(sum(t.name.startswith("srsdk-files") for t in threading.enumerate()))
        double(job)

    assert len(list(folder.run(plan.jobs, work, threads=10_000, skip=True))) == 2
    assert max(most) == 2


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    """Started together on the same sources: each result is right, and nothing is left behind."""
    names = [f"{index:02}.png" for index in range(12)]
    fill(tmp_path / "in", *names)
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    call = [sys.executable, "-m", "srsdk", "upscale", str(tmp_path / "in"), "-o", str(out)]
    call += ["--scale", "2", "--compare", "--report", str(report), "--jobs", "2"]
    processes = [subprocess.Popen(call, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    for process, error in zip(processes, errors, strict=True):
        # a picture that the other one finished just now exists
        assert process.returncode == 0 or "exists; --force" in error
        assert "Traceback" not in error
    assert tree(out) == sorted([*names, *(f"{name[:2]}_compare.png" for name in names)])
    assert not list(out.glob(".*"))
    rows = lines(report)
    assert len(rows) == 24
    assert {Path(row["target"]).name for row in rows if row["status"] == "done"} == set(names)
    with srsdk.Upscaler("gan_x2") as up:
        for name in names:
            with Image.open(out / name) as image:
                expected = up(tmp_path / "in" / name)
                assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_a_line_is_written(tmp_path: Path) -> None:
    """It comes when the outcome is reported: no line is lost, and none is there twice."""
    found = [folder.Outcome(Job(tmp_path / name, tmp_path / name), "done", 0.0) for name in "abc"]
    counted = tally.Tally(jobs.Plan([outcome.job for outcome in found]), single=False)
    rows: list[str] = []

    def interrupted(line: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        rows.append(line["source"])

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        counted.add(found[:1], interrupted)
    assert signal.getsignal(signal.SIGINT) is handler
    counted.add(found, lambda line: rows.append(line["source"]))
    assert rows == [str(tmp_path / name) for name in "abc"]
    assert counted.count["done"] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_a_line_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report into a pipe that nobody reads does not keep the program from being stopped."""
    monkeypatch.setattr(tally, "HOLD_S", 0.0)
    found = [folder.Outcome(Job(tmp_path, tmp_path), "done", 0.0)]
    counted = tally.Tally(jobs.Plan([found[0].job]), single=False)
    after = []

    def blocked(_: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        after.append(1)

    with pytest.raises(KeyboardInterrupt):
        counted.add(found, blocked)
    assert not after


AT_THE_END = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), int(sys.argv[1]))  # the last that runs
from srsdk.cli.main import main
sys.argv[1:] = ["models"]
sys.exit(main() + 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_ends(number: int) -> None:
    """The exit code stays: a second Ctrl-C often comes when the work is already stopped."""
    call = [sys.executable, "-c", AT_THE_END, str(int(number))]
    process = subprocess.run(call, capture_output=True, text=True, check=False, timeout=120)
    assert (process.returncode, process.stderr) == (9, "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("with_signal", "times"), [("SIGINT", 1), ("SIGINT", 2), ("SIGTERM", 1), ("SIGKILL", 1)]
)
def test_signals(tmp_path: Path, with_signal: str, times: int) -> None:
    """A stopped run leaves only complete pictures, and counts them; the next run does the rest."""
    names = [f"{index:03}.png" for index in range(60)]
    (tmp_path / "in").mkdir()
    for index, name in enumerate(names):
        Image.fromarray(make_picture(90, 120, seed=index)).save(tmp_path / "in" / name)
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    call = ["upscale", str(tmp_path / "in"), "-o", str(out), "--report", str(report)]
    process = subprocess.Popen(
        [sys.executable, "-m", "srsdk", *call], stderr=subprocess.PIPE, text=True
    )
    for _ in range(1200):
        if out.is_dir() and len(list(out.glob("0*.png"))) >= 3:
            break
        time.sleep(0.02)
    for _ in range(times):
        process.send_signal(getattr(signal, with_signal))
        time.sleep(0.01)
    _, error = process.communicate(timeout=300)
    if with_signal != "SIGKILL":
        assert process.returncode == {"SIGINT": 130, "SIGTERM": 143}[with_signal], error
        made = len(list(out.glob("0*.png")))
        assert error.splitlines() == [
            f"srsdk: {made} done, 0 failed, {60 - made} not finished",
            "srsdk: stopped",
        ]
        assert len(lines(report)) == made
        assert not list(out.glob(".*"))
    for path in out.glob("0*.png"):
        with Image.open(path) as image:
            image.load()
            assert image.size == (480, 360)
    assert all(line["status"] == "done" for line in lines(report))
    before = len(list(out.glob("0*.png")))
    assert before >= 3
    assert main(call) == 0
    assert len(list(out.glob("0*.png"))) == 60
    status = [line["status"] for line in lines(report)]
    assert status.count("skipped") == before


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines show speed and remaining time; an earlier run does not count toward the speed."""
    show = Lines("film.mkv", "frame", every_s=0.0)
    show(1000, 1200)
    time.sleep(0.02)
    show(1001, 1200)
    assert "film.mkv: 1001 of 1200 frames, " in capsys.readouterr().err
    show(1002, 0)
    assert "left" not in capsys.readouterr().err
    assert [clock(seconds) for seconds in (0, 75.2, 3675)] == ["0:00", "1:15", "1:01:15"]


def test_jobs_must_be_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse rejects it with exit code 2."""
    with pytest.raises(SystemExit) as error:
        main(["upscale", "a", "-o", "b", "--jobs", "0"])
    assert error.value.code == 2
    assert "positive whole number" in capsys.readouterr().err


def test_a_library_s_warning_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`srsdk: warning: ...` appears once per code line, not three lines for each picture."""
    fill(tmp_path / "in", *[f"{index}.png" for index in range(6)])
    code = (
        "import sys, warnings\n"
        "from srsdk.cli.main import main\n"
        "from srsdk.image import decode\n"
        "read = decode.read\n"
        "def warn(path, *more, **options):\n"
        "    warnings.warn('this file is odd')\n"
        "    return read(path, *more, **options)\n"
        "decode.read = warn\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    call = [sys.executable, "-c", code, "upscale", str(tmp_path / "in"), "-o", str(tmp_path / "o")]
    result = subprocess.run(call, capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stderr.splitlines() == [
        "srsdk: warning: this file is odd",
        "srsdk: 6 done, 0 failed",
    ]
