"""Running training: several processes, a kill, a full disk, a dead net, and their messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from training import early_checks, networks, tensorboard
from training.checkpoint import load_weights
from training.cli import main
from training.data.pictures import Pair, make_pair
from training.early_checks import TrainingError, check_against_bicubic, dead_share
from training.loop import train
from training.recipe.schema import NetworkRecipe, read_recipe, recipe_from_dict

SMALL = """\
name = "small"
scale = 2
steps = 6
evaluate_every = 1
save_every = 2
bf16 = false
[network]
width = 4
depth = 1
[data]
pictures = "dead_leaves"
generated = 2
generated_px = 32
patch_px = 8
batch = 4
[optimizer]
warm_up = 2
"""


def environment(repository: Path) -> dict[str, str]:
    """Return the environment of a child process: this checkout, one thread."""
    return os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}


def write(tmp_path: Path, text: str = SMALL) -> Path:
    """Write a recipe."""
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def losses(run: Path) -> list[float]:
    """Return the loss of every step."""
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_two_processes_have_the_curve_of_one(tmp_path: Path, repository: Path) -> None:
    """`torchrun` with gloo: each makes half of every batch; losses and weights agree."""
    recipe = write(tmp_path)
    assert main([str(recipe), "--out", str(tmp_path / "one")]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    call = [*launch, "-m", "training", str(recipe), "--out", str(tmp_path / "two")]
    done = subprocess.run(
        call, cwd=tmp_path, env=environment(repository), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(two) == 6  # written by one process, not by both
    np.testing.assert_allclose(one, two, rtol=1e-5)
    a, b = (load_weights(tmp_path / run / "weights.safetensors")[0] for run in ("one", "two"))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-3, atol=1e-5)


def test_a_run_killed_by_the_system_resumes_to_the_same_bits(
    tmp_path: Path, repository: Path
) -> None:
    """SIGKILL after a checkpoint, then the same command: weights equal those of a whole run."""
    recipe = write(tmp_path, SMALL.replace("steps = 6", "steps = 100"))
    call = [sys.executable, "-m", "training", str(recipe), "--out", str(tmp_path / "killed")]
    with subprocess.Popen(
        call, cwd=tmp_path, env=environment(repository), stderr=subprocess.DEVNULL
    ) as child:
        last = tmp_path / "killed" / "last.safetensors"
        end = time.monotonic() + 100
        while not last.exists() and time.monotonic() < end:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert last.exists()
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    # threads change the order of sums: all use one
    threads = torch.get_num_threads()
    for run in ("killed", "whole"):
        assert main([str(recipe), "--out", str(tmp_path / run), "--threads", "1"]) == 0
    torch.set_num_threads(threads)
    a, b = (load_weights(tmp_path / run / "weights.safetensors")[0] for run in ("killed", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits of file sizes are POSIX's")
def test_a_full_disk_is_one_sentence(tmp_path: Path, repository: Path) -> None:
    """The checkpoint does not fit: a one-line error, and no partial file."""
    recipe = write(tmp_path)
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000));"
        "from training.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(recipe), "--out", str(tmp_path / "run")],
        env=environment(repository),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "last.safetensors: cannot be written" in done.stderr.splitlines()[-1]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.jsonl"]


def pairs(count: int = 2) -> list[Pair]:
    """Return smooth pictures, on which bicubic is good."""
    return [make_pair(make_picture(48, 48, seed), 2, str(seed)) for seed in range(count)]


def test_a_dead_net_is_found_early() -> None:
    """Far below bicubic, or most channels dead: the run stops and reports both."""
    torch.manual_seed(0)
    net = networks.build(NetworkRecipe(width=8, depth=2), 2)
    assert dead_share(net, [pair.lr for pair in pairs()]) < 0.5
    with torch.no_grad():
        for conv in list(net.convs)[:-1]:
            assert isinstance(conv.bias, torch.Tensor)
            conv.bias.fill_(-100)
    assert dead_share(net, [pair.lr for pair in pairs()]) == 1
    message = r"step 9: the net does not learn: .* dB against bicubic's .* 100% of the channels"
    with pytest.raises(TrainingError, match=message):
        check_against_bicubic(net, pairs(), 2, 9)
    check_against_bicubic(net, [], 2, 9)
    assert net.training


def test_the_check_runs_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, on the held-out pictures; those are scored as `validation`."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        early_checks,
        "check_against_bicubic",
        lambda net, held, scale, step: seen.append((len(held), step)),
    )
    table = {
        "name": "t",
        "scale": 2,
        "steps": 3,
        "check_step": 2,
        "network": {"width": 4, "depth": 1},
        "data": {"patch_px": 8, "batch": 2},
    }
    train(recipe_from_dict(table, source="t"), pairs(), tmp_path, holdout=pairs(1))
    assert seen == [(1, 2)]
    assert '"validation": {"psnr_y_db":' in (tmp_path / "log.jsonl").read_text()


def test_tensorboard_is_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it: a one-line error with the command; with it: losses, scores and pictures."""
    call = [str(write(tmp_path)), "--out", str(tmp_path / "run"), "--tensorboard"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(call) == 1
    assert "--tensorboard needs: pip install" in capsys.readouterr().err
    written: list[tuple[str, Any]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            written.append(("folder", folder))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, (value, step)))

        def add_image(self, name: str, picture: Any, step: int, dataformats: str) -> None:
            written.append((name, (picture.shape, dataformats)))

        def flush(self) -> None:
            pass

        def close(self) -> None:
            written.append(("closed", None))

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    log = tensorboard.Board(tmp_path)
    net = networks.build(NetworkRecipe(width=4, depth=1), 2)
    log.add(3, {"loss": 0.5}, {}, net, pairs())
    log.close()
    assert ("loss/loss", (0.5, 3)) in written
    assert ("sample/1", ((48, 3 * 48, 3), "HWC")) in written
    assert written[-1] == ("closed", None)


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags, modes, devices and foreign weights: an error each, those of usage in two lines."""
    recipe = write(tmp_path)
    adapt = tmp_path / "adapt.toml"
    adapt.write_text(SMALL.replace('name = "small"', 'name = "a"\nmode = "adapt"'))
    folder = tmp_path / "data"
    folder.mkdir()
    Image.fromarray(make_picture(40, 40)).save(folder / "a.png")
    out = ["--out", str(tmp_path / "run")]
    for call, code, message in (
        ([str(recipe)], 2, "--out is missing"),
        ([str(adapt), *out], 2, "mode adapt needs --start-from"),
        ([str(recipe), *out, "--device", "warp"], 2, "no such device; allowed: cpu, cuda"),
        ([str(recipe), *out, "--start-from", str(tmp_path / "none")], 1, "none: no such file"),
    ):
        assert main(call) == code
        lines = capsys.readouterr().err.strip().splitlines()
        assert message in lines[-code]
    other = recipe_from_dict(
        {"name": "o", "scale": 2, "steps": 1, "network": {"width": 8, "depth": 1}}
        | {"data": {"patch_px": 8, "batch": 2}},
        source="t",
    )
    foreign = train(other, pairs(), tmp_path / "other")
    assert main([str(recipe), *out, "--start-from", str(foreign)]) == 1
    assert "weights of another architecture: convs." in capsys.readouterr().err


def test_adapting_starts_from_the_given_net(tmp_path: Path) -> None:
    """Only low-resolution pictures: they are the truth, their reduction is the input."""
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.fromarray(make_picture(40, 40)).save(folder / "a.png")
    assert main([str(write(tmp_path)), "--out", str(tmp_path / "first")]) == 0
    text = SMALL.replace('name = "small"', 'name = "a"\nmode = "adapt"')
    text = text.replace('pictures = "dead_leaves"\n', "rescale_from = 0.6\n")
    text = text.replace("warm_up = 2", "warm_up = 0\nlearning_rate = 1e-12")
    recipe = tmp_path / "adapt.toml"
    recipe.write_text(text)
    start = tmp_path / "first" / "weights.safetensors"
    call = [str(recipe), "--data", str(folder), "--out", str(tmp_path / "adapted")]
    assert main([*call, "--start-from", str(start)]) == 0
    a = load_weights(start)[0]
    b = load_weights(tmp_path / "adapted" / "weights.safetensors")[0]
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=1e-6)


def test_show_prints_a_recipe_that_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every value, defaults included, below its explanation; reading it gives the same."""
    recipe = write(tmp_path)
    assert main(["--show", str(recipe)]) == 0
    shown = capsys.readouterr().out
    for line in (
        "[degradation.second]",
        "blur = 0.8",
        "# Smallest and largest factor.",
        "seed = 0",
    ):
        assert line in shown.splitlines()
    again = tmp_path / "again.toml"
    again.write_text(shown)
    assert read_recipe(again) == read_recipe(recipe)
