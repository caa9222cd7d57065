"""`gpu-check` without a GPU: sections, time, record, resuming, dry run; its network is right."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import srsdk
from benchmarks.cli import main
from benchmarks.gpu import catalog, check, children, record
from benchmarks.gpu.catalog import SECTIONS, Section
from benchmarks.gpu.job import ROOT, Setup
from benchmarks.gpu.needs import INGREDIENTS
from benchmarks.gpu.sections import _macs_per_pixel
from benchmarks.gpu.torch_engine import Nearest, load
from tests.conftest import make_picture
from tests.disks import small_disk

AUDIT_ORDER = ("versions", "tests", "memory", "neighbor_torch", "onnxruntime", "peers", "memcheck",
               "racecheck", "engines", "training")  # fmt: skip


def stand_in(name: str, seconds: float = 30, **options: Any) -> Section:
    """Return a section of `stand_ins`."""
    return Section(name, f"stand-in {name}", f"tests.benchmarks.gpu.stand_ins:{name}", seconds,
                   **options)  # fmt: skip


def ran(out: Path, *sections: Section, seconds: float = 100) -> dict[str, Any]:
    """Run sections on a new or existing record, and return what the file holds."""
    found = record.begin(out, resume=True, overwrite=False)
    check.run_sections(sections, Setup(out), found, seconds)
    text = (out / record.NAME).read_text(encoding="utf-8")
    return dict(json.loads(text)["sections"])


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(children.no_gpu() is None, reason="there is a GPU: run gpu-check")
def test_without_a_gpu_one_sentence_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written."""
    assert main(["gpu-check", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gpu-check needs an NVIDIA GPU: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_network_of_the_peers_is_the_shipped_one() -> None:
    """PyTorch's network gives the shipped file's picture, within 1 LSB."""
    picture = make_picture(60, 70)
    with srsdk.Upscaler("gan_x4", precision="fp32") as up:
        expected = up(picture)
    net = load("gan_x4", torch.float32, "cpu")
    with torch.inference_mode():
        result = net(torch.from_numpy(picture)[None])[0].numpy()
        twice = Nearest()(torch.from_numpy(picture)[None])[0].numpy()
    assert np.abs(result.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(twice, picture.repeat(2, axis=0).repeat(2, axis=1))
    assert 50_000 < _macs_per_pixel(net) < 200_000


def test_sections_fit_into_nine_minutes() -> None:
    """Names are unique, the order is the audit's, every function and ingredient exists."""
    names = [section.name for section in SECTIONS]
    assert len(set(names)) == len(names)
    assert [name for name in names if name in AUDIT_ORDER] == list(AUDIT_ORDER)
    assert sum(section.budget_s for section in SECTIONS) <= catalog.TOTAL_S < 540
    assert [section.name for section in SECTIONS if section.takes_rest] == [names[-1]]
    for section in SECTIONS:
        module, _, function = section.work.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert set(section.needs) <= set(INGREDIENTS)


def test_list_prints_budgets_and_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """Every section is listed; an unknown one is refused with those that exist."""
    assert main(["gpu-check", "--list", "--only", "memory,training"]) == 0
    printed = capsys.readouterr().out
    assert "memory " in printed
    assert "needs gpu, torch-cuda, train-data" in printed
    assert main(["gpu-check", "--list", "--only", "memory,memroy"]) == 2
    assert "no section memroy; there are versions, tests, memory" in capsys.readouterr().err


def test_a_section_that_dies_or_hangs_loses_only_itself(tmp_path: Path) -> None:
    """Its partial values and the reason are recorded; the others run; nothing stays behind."""
    began = time.monotonic()
    found = ran(tmp_path, stand_in("dies"), stand_in("hangs", 6), stand_in("raises"),
                stand_in("lacks"), stand_in("wrong"), stand_in("fine"))  # fmt: skip
    assert time.monotonic() - began < 60
    states = {name: entry["status"] for name, entry in found.items()}
    assert states == {"dies": "failed", "hangs": "stopped", "raises": "failed", "lacks": "missing",
                      "wrong": "failed", "fine": "done"}  # fmt: skip
    assert "SIGSEGV" in found["dies"]["reason"]
    assert found["dies"]["found"] == found["hangs"]["found"] == {"half": 1}
    assert found["hangs"]["reason"] == "not finished in 6 s"
    assert found["raises"]["reason"] == "RuntimeError: the driver said no"
    assert found["lacks"]["reason"] == "no such library here"
    assert found["wrong"]["reason"] == "does not hold: black is white"
    assert not any(is_alive(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    assert "the driver said no" in (tmp_path / children.LOG).read_text(encoding="utf-8")


def test_the_record_is_written_after_every_section(tmp_path: Path) -> None:
    """A section finds those before it in the file; the summary names results and failures."""
    found = ran(tmp_path, stand_in("wrong"), stand_in("fine"))
    assert found["fine"]["found"] == {"before": ["wrong"]}
    page = (tmp_path / "gpu-check.md").read_text(encoding="utf-8")
    assert "| fine | stand-in fine | done, 1 check(s) hold |" in page
    assert "| wrong | stand-in wrong | **failed**: does not hold: black is white |" in page
    assert "**does not hold**: black is white (got 0)" in page
    assert not list(tmp_path.glob(".*")), "temporary files"


def test_resume_repeats_what_is_not_done(tmp_path: Path) -> None:
    """A section that is done is skipped, others run again; one that takes the rest always does."""
    before = ran(tmp_path, stand_in("fine"), stand_in("wrong"))
    after = ran(tmp_path, stand_in("fine"), stand_in("wrong"))
    assert after["fine"] == before["fine"]
    assert after["wrong"]["seconds"] > 0
    rest = Section("fine", "rest", "tests.benchmarks.gpu.stand_ins:fine", 1, takes_rest=True)
    assert ran(tmp_path, rest)["fine"]["budget_s"] > 90


def test_a_record_is_not_replaced_by_accident(tmp_path: Path) -> None:
    """The flags are named; a damaged record is not continued."""
    record.save(tmp_path, record.begin(tmp_path, resume=False, overwrite=False))
    with pytest.raises(record.RecordError, match="--resume continues it, --overwrite starts again"):
        record.begin(tmp_path, resume=False, overwrite=False)
    (tmp_path / record.NAME).write_text('{"version": 2', encoding="utf-8")
    with pytest.raises(record.RecordError, match="is damaged"):
        record.begin(tmp_path, resume=True, overwrite=False)
    assert record.begin(tmp_path, resume=False, overwrite=True)["sections"] == {}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """One sentence, before any section runs; on a full disk the record before is kept."""
    (tmp_path / "file").touch()
    with pytest.raises(record.RecordError, match=r"cannot write .*: choose another --out"):
        ran(tmp_path / "file" / "out")
    with small_disk(tmp_path / "disk", "8k") as disk:
        record.save(disk, {"sections": {}})
        before = (disk / record.NAME).read_bytes()
        with pytest.raises(record.RecordError, match=r"cannot write .*: No space left"):
            record.save(disk, {"sections": {}, "text": "x" * 20_000})
        assert [path.name for path in disk.iterdir()] == [record.NAME]
        assert (disk / record.NAME).read_bytes() == before


def test_without_time_left_no_section_begins(tmp_path: Path) -> None:
    """It is recorded as stopped, and how to run it."""
    found = ran(tmp_path, stand_in("fine"), seconds=1)
    assert found["fine"]["status"] == "stopped"
    assert "--resume" in found["fine"]["reason"]


def test_sections_end_with_a_killed_command(tmp_path: Path) -> None:
    """Nothing holds the GPU after the command was killed: not the section, not its programs."""
    code = (
        "import sys; from pathlib import Path; from tests.benchmarks.gpu.test_check import *; "
        "ran(Path(sys.argv[1]), stand_in('hangs', 60))"
    )
    command = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 40
        while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_sections_inherit_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The caller's libraries come first, then those of NVIDIA's wheels; JAX takes no memory."""
    lib = tmp_path / "nvidia" / "cudnn" / "lib"
    lib.mkdir(parents=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", "mine")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = children.environment()
    assert found["LD_LIBRARY_PATH"].split(os.pathsep)[:2] == ["mine", str(lib)]
    assert found["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert found["ORT_DISABLE_TELEMETRY"] == "1"


def test_dry_run_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No GPU is needed; exit code 1 if more than the GPU is missing; nothing is written."""
    out = str(tmp_path / "out")
    assert main(["gpu-check", "--dry-run", "--only", "memory,tests", "--out", out]) == 0
    assert "tests: ready" in capsys.readouterr().out
    absent = str(tmp_path / "absent.engine")
    call = ["gpu-check", "--dry-run", "--only", "engines,training,pictures", "--out", out]
    assert main([*call, "--engine", absent]) == 1
    printed = capsys.readouterr().out
    assert f"engines: missing: no such engine: {absent}" in printed
    assert "no pictures to train on are given: --train-data DIR" in printed
    assert "pictures: ready" in printed
    assert list(tmp_path.iterdir()) == []
