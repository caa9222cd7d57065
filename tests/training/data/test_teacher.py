"""Distillation: the teacher's self-ensemble, its cache, its patches, its loss term."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from training import checkpoint, networks
from training.checkpoint import load_weights
from training.cli import main
from training.data import batches, teacher
from training.data.batches import Folders
from training.data.pictures import DataError, Pair, Patches, make_pair
from training.losses import pixel as losses
from training.objectives.terms import Terms
from training.recipe.schema import RecipeError, recipe_from_dict

TABLE: dict[str, Any] = {
    "name": "t",
    "scale": 2,
    "network": {"width": 4, "depth": 1},
    "data": {"patch_px": 8, "batch": 4, "holdout": 0.0},
    "loss": {"luma": 2.0, "teacher": 1.0},
}


def weights(path: Path, seed: int = 0, **changes: object) -> Path:
    """Write an untrained teacher."""
    recipe = recipe_from_dict(TABLE | {"network": {"width": 6, "depth": 2}} | changes, source="t")
    torch.manual_seed(seed)
    net = networks.for_recipe(recipe)
    checkpoint.save(path, net.state_dict(), {"recipe": recipe.to_dict(), "step": 0})
    return path


def fill(folder: Path) -> Path:
    """Write two pictures."""
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(make_picture(40, 56, seed)).save(folder / f"{seed}.png")
    return folder


def test_the_self_ensemble_is_the_mean_and_commutes_with_flips(tmp_path: Path) -> None:
    """Against the eight flips by numpy; a flipped input gives the flipped output."""
    net = networks.build(recipe_from_dict(TABLE, source="t").network, 2)
    lr = make_picture(12, 17)
    total = np.zeros((24, 34, 3))
    for turns in range(4):
        for mirror in (False, True):
            seen = np.rot90(lr[::-1] if mirror else lr, turns)
            x = torch.from_numpy(seen.copy()).permute(2, 0, 1)[None] / 255.0
            made = np.rot90(net(x)[0].permute(1, 2, 0).detach().numpy(), -turns)
            total += made[::-1] if mirror else made
    expected = np.rint((total / 8).clip(0, 1) * 255)
    got = teacher.self_ensemble(net, lr)
    assert got.shape == (24, 34, 3)
    assert np.abs(got - expected).max() <= 1  # a half rounds either way
    np.testing.assert_array_equal(teacher.self_ensemble(net, lr[::-1]), got[::-1])
    np.testing.assert_array_equal(teacher.self_ensemble(net, lr.swapaxes(0, 1)), got.swapaxes(0, 1))


def test_the_pictures_are_made_once(tmp_path: Path) -> None:
    """Cached by inputs and weights; others get another file."""
    pairs = [make_pair(make_picture(40, 56, seed), 2) for seed in range(2)]
    store, first = tmp_path / "cache", weights(tmp_path / "a.safetensors")
    made = teacher.add_teacher_outputs(pairs, first, 2, store)
    (kept,) = store.iterdir()
    written = kept.stat().st_mtime_ns
    again = teacher.add_teacher_outputs(pairs, first, 2, store)
    assert kept.stat().st_mtime_ns == written
    net = networks.for_recipe(recipe_from_dict(load_weights(first)[1]["recipe"], source="t"))
    networks.warm_start(net, load_weights(first)[0])
    for pair, one, two in zip(pairs, made, again, strict=True):
        assert one.teacher is not None
        assert two.teacher is not None
        np.testing.assert_array_equal(one.teacher, teacher.self_ensemble(net, pair.lr))
        np.testing.assert_array_equal(one.teacher, two.teacher)
        np.testing.assert_array_equal(one.hr, pair.hr)
    teacher.add_teacher_outputs(pairs, weights(tmp_path / "b.safetensors", 1), 2, store)
    teacher.add_teacher_outputs(pairs[:1], first, 2, store)
    assert len(list(store.iterdir())) == 3


def test_a_stop_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file under the final name nor a temporary one."""
    pairs = [make_pair(make_picture(40, 56, seed), 2) for seed in range(2)]
    whole = teacher.self_ensemble

    def once(net: Any, lr: np.ndarray) -> np.ndarray:
        monkeypatch.setattr(teacher, "self_ensemble", stopped)
        return whole(net, lr)

    def stopped(*_: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(teacher, "self_ensemble", once)
    with pytest.raises(KeyboardInterrupt):
        teacher.add_teacher_outputs(
            pairs, weights(tmp_path / "a.safetensors"), 2, tmp_path / "cache"
        )
    assert list((tmp_path / "cache").iterdir()) == []


def test_patches_of_the_teacher_lie_where_those_of_the_truth_do() -> None:
    """With the truth as teacher both are equal; without a teacher there is none."""
    pairs = [make_pair(make_picture(40, 56, seed), 2) for seed in range(2)]
    same = [Pair(pair.name, pair.lr, pair.hr, pair.hr) for pair in pairs]
    batch, bare = Patches(same, 8, 4, 0).draw(), Patches(pairs, 8, 4, 0).draw()
    assert batch.teacher is not None
    assert torch.equal(batch.teacher, batch.hr)
    assert bare.teacher is None
    assert torch.equal(bare.hr, batch.hr)


def test_the_term_is_that_of_the_truth_once_more(tmp_path: Path) -> None:
    """`pixel` and `luma` with their weights, against the teacher's picture."""
    recipe = recipe_from_dict(TABLE, source="t")
    folders = Folders(fill(tmp_path / "data"), None, tmp_path / "cache", weights(tmp_path / "w"))
    batch = batches.build(recipe, folders).source.draw()
    assert batch.teacher is not None
    sr = torch.rand_like(batch.hr)
    pixel = torch.mean(torch.abs(sr - batch.teacher))
    luma = losses.luma_distance(sr, batch.teacher)
    torch.testing.assert_close(Terms(recipe)(sr, batch)["teacher"], pixel + 2 * luma)
    with pytest.raises(ValueError, match=r"there are no teacher pictures: see --teacher"):
        Terms(recipe)(sr, dataclasses.replace(batch, teacher=None))


def test_a_taught_run_repeats_itself(tmp_path: Path) -> None:
    """Two runs by the command are equal; the teacher loss is in the log."""
    text = """
name = "t"
scale = 2
steps = 3
evaluate_every = 1
bf16 = false
check_step = 0
network = { width = 4, depth = 1 }
data = { patch_px = 8, batch = 4 }
loss = { teacher = 1.0 }
"""
    (tmp_path / "r.toml").write_text(text)
    call = [str(tmp_path / "r.toml"), "--data", str(fill(tmp_path / "data"))]
    call += ["--teacher", str(weights(tmp_path / "w")), "--cache", str(tmp_path / "cache")]
    call += ["--test", str(tmp_path / "data"), "--out"]
    for run in ("a", "b"):
        assert main([*call, str(tmp_path / run)]) == 0
    journal = (tmp_path / "a" / "log.jsonl").read_text()
    assert journal == (tmp_path / "b" / "log.jsonl").read_text()
    assert '"teacher": ' in journal


def test_mistakes_are_said_before_any_work(tmp_path: Path) -> None:
    """No teacher, one of another scale, inputs that a teacher cannot process beforehand."""
    recipe = recipe_from_dict(TABLE, source="t")
    data = fill(tmp_path / "data")
    with pytest.raises(DataError, match="needs --teacher WEIGHTS: the network to learn from"):
        batches.build(recipe, Folders(data, None, tmp_path / "cache"))
    other = weights(tmp_path / "w", scale=3)
    with pytest.raises(DataError, match=r"family 'gan', x3, expected a teacher of .* x2"):
        batches.build(recipe, Folders(data, None, tmp_path / "cache", other))
    for change in (
        {"mode": "paired"},
        {"data": {"rescale_from": 0.5}},
        {"degradation": {"kind": "realworld"}},
        {"corrupt": {"noise_max": 25.0}},
    ):
        with pytest.raises(RecipeError, match=r"teacher = 1.0, allowed: over 0 only in mode"):
            recipe_from_dict(TABLE | change, source="t")
    with pytest.raises(RecipeError, match=r"loss.teacher = 1.0, allowed: 0 without pixel or luma"):
        recipe_from_dict(TABLE | {"loss": {"teacher": 1.0, "pixel": 0.0}}, source="t")
