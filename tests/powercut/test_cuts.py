"""Power cuts of real runs; the long test is `python -m tests.powercut all --cuts 1000`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import networks
from tests.conftest import make_picture
from tests.faults.runs import Digests, Run
from tests.powercut.case import Case, PowerCuts
from tests.powercut.testing import needs_strace

pytestmark = needs_strace


def pixels(folder: Path) -> Digests:
    """Return the pixels of the pictures in the output folder."""
    found = {}
    for path in sorted((folder / "out").glob("[!.]*")):
        with Image.open(path) as image:
            found[path.name] = image.tobytes().hex()
    return found


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    """Whenever the power fails, reported pictures are there and the command completes the rest."""
    (tmp_path / "in").mkdir()
    for seed in range(3):
        Image.fromarray(make_picture(24, 20, seed)).save(tmp_path / "in" / f"{seed}.png")
    model = networks.nearest(tmp_path / "nearest.onnx")
    words = [sys.executable, "-m", "srsdk", "upscale", str(tmp_path / "in"), "--model", str(model)]
    run = Run([*words, "--threads", "1", "-o"], [], "out", pixels)
    test = PowerCuts(Case(run, reports=True), tmp_path / "cuts", random.Random(0))
    test.run(cuts=60, reruns=2)
    assert test.problems == []
    assert test.count["promises"] > 20
    assert test.count["cuts"] == 60


UNSAFE = """
import os, sys
os.makedirs(sys.argv[1], exist_ok=True)
for name in "ab":
    path = os.path.join(sys.argv[1], name)
    if not os.path.exists(path):
        temporary = os.path.join(sys.argv[1], "." + name)
        with open(temporary, "w") as file:
            file.write(name * 1000)
            file.flush()
            SYNC
        os.replace(temporary, path)
    print("wrote", path, flush=True)
"""


def contents(folder: Path) -> Digests:
    """Return all files."""
    return {path.name: path.read_text() for path in sorted((folder / "out").glob("?"))}


@pytest.mark.parametrize("sync", ["pass", "os.fsync(file.fileno())"])
def test_what_is_not_synced_is_found(tmp_path: Path, sync: str) -> None:
    """A program that only renames damages files; one that syncs only files still loses names."""
    script = UNSAFE.replace("SYNC", sync)
    run = Run([sys.executable, "-c", script], [], "out", contents)
    test = PowerCuts(Case(run), tmp_path, random.Random(1))
    test.run(cuts=100, reruns=10)
    assert test.count["lost"] > 10
    assert (test.count["damaged"] > 10) == (test.count["failed reruns"] > 0) == (sync == "pass")
