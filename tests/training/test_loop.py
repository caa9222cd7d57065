"""Training: it learns, it resumes exactly, it fails clearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from training import checkpoint, networks
from training.checkpoint import load_weights
from training.cli import main
from training.data.pictures import DataError, Pair, Patches, load_pairs, make_pair
from training.evaluation.evaluate import network, score
from training.loop import Progress, TrainingError, train
from training.optimizers import learning_rate
from training.recipe.schema import NetworkRecipe, Recipe, recipe_from_dict

TINY = recipe_from_dict(
    {
        "name": "tiny",
        "scale": 2,
        "steps": 8,
        "save_every": 4,
        "evaluate_every": 4,
        "network": {"width": 8, "depth": 2},
        "data": {"patch_px": 12, "batch": 4},
        "optimizer": {"warm_up": 2},
    },
    source="test",
)


def made_pairs(scale: int = 2, count: int = 3) -> list[Pair]:
    """Return pairs made from drawn pictures."""
    return [make_pair(make_picture(64, 80, seed), scale, str(seed)) for seed in range(count)]


class Killed(Exception):  # noqa: N818 - stands for a signal
    """Raised in the middle of a run."""


def kill_at(step: int) -> object:
    """Return an `on_step` that kills the run at a step."""

    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return on_step


def changed(recipe: Recipe, **values: object) -> Recipe:
    """Return the recipe with other values."""
    return recipe_from_dict(recipe.to_dict() | values, source="test")


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed between checkpoints and resumed: bit-equal to a run that never stopped."""
    whole = train(TINY, made_pairs(), tmp_path / "whole")
    with pytest.raises(Killed):
        train(TINY, made_pairs(), tmp_path / "killed", on_step=kill_at(6))  # type: ignore[arg-type]
    resumed = train(TINY, made_pairs(), tmp_path / "killed")
    a, b = load_weights(whole)[0], load_weights(resumed)[0]
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_seed_decides(tmp_path: Path) -> None:
    """The same seed gives the same run; another seed gives another."""
    first = load_weights(train(TINY, made_pairs(), tmp_path / "a"))[0]
    again = load_weights(train(TINY, made_pairs(), tmp_path / "b"))[0]
    other = load_weights(train(changed(TINY, seed=1), made_pairs(), tmp_path / "c"))[0]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_it_learns(tmp_path: Path) -> None:
    """150 steps improve a new net by over 1 dB on the pictures it sees: it is not dead."""
    pairs = made_pairs()
    recipe = changed(TINY, steps=150, evaluate_every=150, save_every=150)
    weights = train(recipe, pairs, tmp_path, tests={"drawn": pairs})
    net = networks.build(recipe.network, 2)
    networks.warm_start(net, load_weights(weights)[0])
    before = networks.build(recipe.network, 2)
    gained = score(network(net), pairs, 2).psnr_y_db - score(network(before), pairs, 2).psnr_y_db
    assert gained > 1
    assert '"drawn": {"psnr_y_db":' in (tmp_path / "log.jsonl").read_text()


def test_a_warm_start_begins_as_the_smaller_net() -> None:
    """A x4 net from x2 weights gives the x2 picture, each pixel repeated."""
    small = networks.build(NetworkRecipe(width=8, depth=2), 2).eval()
    large = networks.build(NetworkRecipe(width=8, depth=2), 4).eval()
    networks.warm_start(large, small.state_dict())
    lr = torch.rand(1, 3, 9, 7)
    expected = small(lr).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(large(lr), expected)


def test_a_warm_start_from_another_architecture_is_refused() -> None:
    """Depth, width and scale must fit; the error names the difference."""
    net = networks.build(NetworkRecipe(width=8, depth=2), 4)
    deeper = networks.build(NetworkRecipe(width=8, depth=3), 2).state_dict()
    with pytest.raises(ValueError, match="another architecture"):
        networks.warm_start(net, deeper)
    wider = networks.build(NetworkRecipe(width=12, depth=2), 2).state_dict()
    with pytest.raises(ValueError, match=r"another architecture: convs\.\d"):
        networks.warm_start(net, wider)
    with pytest.raises(ValueError, match="cannot start a x4 net from a x3 one"):
        networks.warm_start(net, networks.build(NetworkRecipe(width=8, depth=2), 3).state_dict())


def test_a_new_net_is_alive() -> None:
    """Identity initialization: every layer passes a signal, and gets a gradient."""
    torch.manual_seed(0)
    net = networks.build(NetworkRecipe(), 2)
    loss = (net(torch.rand(2, 3, 24, 24)) - 0.5).abs().mean()
    loss.backward()
    assert all(float(p.grad.abs().max()) > 0 for p in net.parameters() if p.grad is not None)
    assert sum(parameter.numel() for parameter in net.parameters()) == 78_348


def test_the_schedule() -> None:
    """Linear warm-up, then cosine decay to a hundredth."""
    recipe = changed(TINY, steps=1000, optimizer={"learning_rate": 1.0, "warm_up": 100})
    rates = [learning_rate(recipe, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.98, abs=0.02)
    assert rates[-1] == pytest.approx(0.01, rel=0.01)
    assert rates[500] == pytest.approx(0.505, abs=0.01)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """The error names the step and the value."""
    recipe = changed(TINY, steps=40, optimizer={"learning_rate": 1e30, "warm_up": 0})
    with pytest.raises(TrainingError, match=r"step \d+: loss is (nan|inf)"):
        train(recipe, made_pairs(), tmp_path)


def test_a_run_is_not_continued_with_another_recipe(tmp_path: Path) -> None:
    """A folder belongs to one recipe."""
    train(TINY, made_pairs(), tmp_path)
    with pytest.raises(TrainingError, match="another recipe"):
        train(changed(TINY, seed=5), made_pairs(), tmp_path)


def test_patches_belong_together() -> None:
    """A high-resolution patch, average-pooled, resembles its low-resolution patch."""
    batch = Patches(made_pairs(), 16, 8, seed=3).draw()
    lr, hr = batch.lr, batch.hr
    assert lr.shape == (8, 3, 16, 16)
    assert hr.shape == (8, 3, 32, 32)
    means = torch.nn.functional.avg_pool2d(hr, 2)
    assert float((means - lr).abs().mean()) < 0.03
    assert lr.is_contiguous(memory_format=torch.channels_last)


def test_damaged_and_tiny_pictures_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is named and counted; a folder without usable pictures is an error."""
    Image.fromarray(make_picture(64, 64)).save(tmp_path / "good.png")
    Image.fromarray(make_picture(8, 8)).save(tmp_path / "tiny.png")
    (tmp_path / "text.png").write_text("no picture")
    pairs = load_pairs(tmp_path, 2, min_px=24)
    assert [pair.name for pair in pairs] == ["good"]
    assert "2 of 3 pictures skipped" in caplog.text
    (tmp_path / "good.png").unlink()
    with pytest.raises(DataError, match="none of 2 pictures is usable"):
        load_pairs(tmp_path, 2, min_px=24)


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    """Written under a temporary name first; damaged and missing files are named."""
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": torch.arange(3)}, {"step": 1})
    tensors, facts = checkpoint.load(path)
    assert torch.equal(tensors["a"], torch.arange(3))
    assert facts == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(checkpoint.CheckpointError, match="not a safetensors file"):
        checkpoint.load(path)
    with pytest.raises(checkpoint.CheckpointError, match="no such file"):
        checkpoint.load(tmp_path / "none")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a folder of pictures to weights; mistakes give a one-line error and exit code 1."""
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(make_picture(64, 64)).save(data / "a.png")
    recipe = tmp_path / "t.toml"
    recipe.write_text(
        'name = "t"\nscale = 2\nsteps = 2\n[network]\nwidth = 4\ndepth = 1\n'
        "[data]\npatch_px = 8\nbatch = 2\n"
    )
    call = [str(recipe), "--out", str(tmp_path / "run"), "--test", str(data)]
    assert main([*call, "--data", str(data)]) == 0
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    capsys.readouterr()
    assert main([*call, "--data", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([*call, "--data", str(tmp_path / "empty")]) == 1
    assert "no pictures in it" in capsys.readouterr().err


def test_evaluation_rounds_as_the_shipped_file_does() -> None:
    """A net with zero weights is nearest-neighbor: it repeats pixels exactly."""
    net = networks.build(NetworkRecipe(width=4, depth=1), 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    lr = make_picture(9, 11)
    expected = lr.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(network(net)(lr), expected)
