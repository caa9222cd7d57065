"""The runner of corpora: what it calls each outcome, and that it can be stopped and continued."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srsdk import models
from tests.corpora.__main__ import main
from tests.corpora.files import identify, paths

MISBEHAVING = "tests.corpora.misbehaving"
BUDGET = ["--budget-seconds", "2", "--memory-mb", "200", "--calls", MISBEHAVING]


def _records(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text(encoding="ascii").splitlines()
    return {record["path"]: record for record in map(json.loads, lines)}


def _folder(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


def test_pictures_models_and_other_files_go_through_the_public_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good files are done, the others refused; nothing is left; what was tried is not repeated."""
    folder, out = _folder(tmp_path, "notes.txt", "damaged.onnx"), tmp_path / "out.jsonl"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    (folder / "sub").mkdir()
    (folder / "sub" / "cut.png").write_bytes((folder / "a.png").read_bytes()[:900])
    shutil.copy(models.find("gan_x2"), folder / "model.onnx")
    command = [str(folder), "--out", str(out), "--jobs", "1"]

    assert main(command) == 0
    records = _records(out)
    assert {path: record["outcome"] for path, record in records.items()} == {
        "a.png": "done",
        "damaged.onnx": "refused",
        "model.onnx": "done",
        "notes.txt": "refused",
        "sub/cut.png": "refused",
    }
    assert records["model.onnx"]["kind"] == "model"
    assert records["sub/cut.png"]["type"] == "PictureError"
    assert "| all | 5 | 2 | 3 |" in capsys.readouterr().out

    out.write_bytes(out.read_bytes() + b'{"path": "no')
    assert main(command) == 0
    assert len(out.read_text(encoding="ascii").splitlines()) == 6
    assert "| all | 5 | 2 | 3 |" in capsys.readouterr().out


def test_a_video_is_upscaled(tmp_path: Path) -> None:
    """A video goes through `srsdk.video.upscale`, and its parts do not stay."""
    av = pytest.importorskip("av")
    folder, out = _folder(tmp_path, "damaged.mp4"), tmp_path / "out.jsonl"
    with av.open(str(folder / "v.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for shade in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 60 * shade, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert main([str(folder), "--out", str(out), "--jobs", "1"]) == 0
    assert {path: record["outcome"] for path, record in _records(out).items()} == {
        "damaged.mp4": "refused",
        "v.mkv": "done",
    }


@pytest.mark.slow
def test_each_outcome_has_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Crashes, hangs, foreign errors and files left behind are told apart; the rest goes on."""
    expected = {
        "aborts": "crashed",
        "changed": "left behind",
        "crashed": "crashed",
        "done": "done",
        "exited": "crashed",
        "foreign": "foreign",
        "hangs": "slow",
        "late": "late",
        "left": "left behind",
        "noisy": "done",
        "refused": "refused",
        "slow": "slow",
        "unreadable": "unreadable",
    }
    folder, out = _folder(tmp_path, *(f"{name}.png" for name in expected)), tmp_path / "out"
    assert main([str(folder), "--out", str(out), "--jobs", "2", *BUDGET]) == 1
    records = {Path(path).stem: record for path, record in _records(out).items()}
    assert {name: record["outcome"] for name, record in records.items()} == expected
    assert records["foreign"]["error"] == "two"
    assert "_foreign" in records["foreign"]["calls"][0]["where"]
    assert records["noisy"]["calls"][0]["noise_bytes"] > 20
    text = capsys.readouterr().out
    assert "foreign: ValueError two" in text
    assert "left.png" in text


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.slow
def test_leaks_and_memory_are_findings(tmp_path: Path) -> None:
    """Descriptors that grow at each call, memory over the limit; but not what is opened once."""
    expected = {"leaked": "leaked", "opens": "done", "large": "over memory", "huge": "foreign"}
    folder, out = _folder(tmp_path, *(f"{name}.png" for name in expected)), tmp_path / "out"
    assert main([str(folder), "--out", str(out), "--jobs", "1", *BUDGET]) == 1
    records = {Path(path).stem: record for path, record in _records(out).items()}
    assert {name: record["outcome"] for name, record in records.items()} == expected
    assert records["huge"]["type"] == "MemoryError"
    assert records["large"]["peak_mb"] > 250


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path, repository: Path) -> None:
    """Ctrl-C ends the run and its children with exit code 130; the same command continues."""
    folder, out = _folder(tmp_path, "a.png", "hangs.png", "z.png"), tmp_path / "out"
    command = [str(folder), "--out", str(out), "--jobs", "1"]
    slow = ["--budget-seconds", "200", "--calls", MISBEHAVING]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.corpora", *command, *slow],
        cwd=repository,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        end_s = time.monotonic() + 60
        while not out.exists() and time.monotonic() < end_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "| all | 1 | 1 |" in stdout
    assert list(_records(out)) == ["a.png"]
    assert not list(tmp_path.glob("srsdk-corpora-*"))
    assert main([*command, "--budget-seconds", "0.5", "--calls", MISBEHAVING]) == 1
    assert list(_records(out)) == ["a.png", "hangs.png", "z.png"]


def test_pipes_and_dangling_links_are_listed(tmp_path: Path) -> None:
    """What is no regular file is tried too, and never opened to identify it."""
    folder = _folder(tmp_path, "a.png")
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "dangling.png").symlink_to("nowhere.png")
    closed: list[OSError] = []
    found = list(paths(folder, closed.append))
    assert found == ["a.png", "dangling.png", "pipe.mp4"]
    assert [identify(folder, path).kind for path in found] == ["picture", "picture", "video"]
    assert identify(folder, "pipe.mp4").sha256 == ""
    list(paths(folder / "missing", closed.append))
    assert len(closed) == 1


def test_a_child_that_does_not_start_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is reported as tried when the model cannot be opened."""
    folder, out = _folder(tmp_path, "a.png"), tmp_path / "out"
    assert main([str(folder), "--out", str(out), "--model", "no_such_model"]) == 2
    assert "no_such_model" in capsys.readouterr().err
    assert not out.exists()
