"""Mode `noisy`: neighbors, the noise's sigma and clipped mean, and runs without clean pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from tests.conftest import Picture
from tests.training.runs import assert_resumes_exactly, tiny
from training import objectives
from training.data import batches
from training.data.batches import Folders
from training.data.corruption import add_noise
from training.data.pictures import Batch, Pair, Patches
from training.objectives.noisy import Noisy, clipped_mean, neighbors, noise_sigma, renoised
from training.recipe.schema import Recipe, RecipeError

SIGMA = 25.0


def recipe(**tables: object) -> Recipe:
    """Return a small recipe of the mode."""
    data = {"patch_px": 32, "batch": 4}
    every: dict[str, Any] = {"family": "ae", "scale": 1, "mode": "noisy", "data": data, **tables}
    return tiny(every.pop("family"), every.pop("scale"), **every)


def clean_picture(seed: int) -> Picture:
    """Return soft shapes without texture, (64, 80, 3)."""
    small = np.random.default_rng((seed, 1)).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((80, 64), Image.Resampling.BICUBIC))


def noisy_pairs(count: int = 3) -> list[Pair]:
    """Return noisy pictures as a folder of them is read: their truth is not known."""
    made = []
    for seed in range(count):
        picture = add_noise(clean_picture(seed), SIGMA, np.random.default_rng(seed))
        made.append(Pair(str(seed), picture, picture))
    return made


def test_neighbors_share_a_cell_and_an_edge() -> None:
    """Each pixel of both pictures comes from its own cell, and its two are beside each other."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(12.0), indexing="ij")
    first, second = neighbors(torch.stack([rows, columns])[None])
    assert first.shape == second.shape == (1, 2, 4, 6)
    for half in (first, second):
        assert torch.equal(half[0, 0] // 2, torch.arange(4.0)[:, None].expand(4, 6))
        assert torch.equal(half[0, 1] // 2, torch.arange(6.0).expand(4, 6))
    assert bool(((first - second).abs().sum(dim=1) == 1).all())


def test_all_pairs_are_drawn_equally_often() -> None:
    """Eight ordered pairs, on cells whose pixels are numbered."""
    torch.manual_seed(0)
    cells = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(64, 64)[None, None]
    first, second = neighbors(cells)
    counts = torch.bincount((first * 4 + second).long().flatten(), minlength=16)
    assert int((counts > 0).sum()) == 8
    assert int(counts[counts > 0].min()) > 64 * 64 / 8 * 0.8


@pytest.mark.parametrize("sigma", [5.0, 25.0, 50.0])
def test_sigma_is_found(sigma: float) -> None:
    """Within a tenth on a picture with edges, and half a level where there is none."""
    picture = np.full((128, 128, 3), 128, np.uint8)
    picture[:, 40:] = 100
    noise = add_noise(picture, sigma, np.random.default_rng(0))
    x = torch.from_numpy(noise).permute(2, 0, 1)[None] / 255
    assert float(noise_sigma(x)) * 255 == pytest.approx(sigma, rel=0.1)
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert float(noise_sigma(flat)) == pytest.approx(1 / 255)


def test_the_clipped_mean_is_that_of_many_files() -> None:
    """Against the mean over noise that is cut off at 0 and 255, and its limits."""
    levels = torch.tensor([0.0, 10.0, 128.0, 250.0, 255.0]) / 255
    sigma = torch.full((1, 1, 1, 1), SIGMA / 255)
    noise = torch.randn(400_000, 1, generator=torch.Generator().manual_seed(0)) * SIGMA / 255
    expected = (levels + noise).clamp(0, 1).mean(dim=0)
    found = clipped_mean(levels.view(1, 1, 1, -1), sigma).flatten()
    torch.testing.assert_close(found, expected, atol=6e-4, rtol=0)
    outside = clipped_mean(torch.tensor([[[[-2.0, 3.0]]]]), sigma).flatten()
    torch.testing.assert_close(outside, torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)


def test_noise_is_added_as_in_a_file() -> None:
    """Of the sigma of each picture, in whole levels, cut off at black and white."""
    torch.manual_seed(0)
    clean = torch.full((2, 3, 100, 100), 0.5)
    clean[1] = 1.0
    noisy = renoised(clean, torch.tensor([10.0, 40.0]).view(2, 1, 1, 1) / 255)
    assert float((noisy[0] - clean[0]).std()) * 255 == pytest.approx(10, rel=0.03)
    assert float((noisy[1] == 1).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(noisy[1].max()) == 1.0
    torch.testing.assert_close(noisy * 255, (noisy * 255).round())


@pytest.mark.parametrize("step", [0, 99])
def test_the_clean_picture_is_not_looked_at(step: int) -> None:
    """A step of either part is the same whatever `hr` holds."""
    losses = []
    for fill in (0.0, 1.0):
        torch.manual_seed(0)
        learn = objectives.build(recipe(steps=100))
        assert isinstance(learn, Noisy)
        torch.manual_seed(1)
        batch = Batch(torch.rand(4, 3, 32, 32), torch.full((4, 3, 32, 32), fill))
        losses.append(learn.step(batch, step)["loss"])
    assert losses[0] == losses[1]


def test_what_teaches_is_settled_when_it_begins_to() -> None:
    """The averaged weights follow the network in the first part and stay in the second."""
    learn = objectives.build(recipe(steps=4))
    assert isinstance(learn, Noisy)
    seen = []
    for step in range(4):
        learn.step(Batch(torch.rand(4, 3, 32, 32), torch.zeros(4, 3, 32, 32)), step)
        seen.append(torch.cat([p.flatten().clone() for p in learn._teacher.parameters()]))
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert torch.equal(seen[2], seen[3])


@pytest.mark.parametrize("self_training", [0.0, 0.5])
def test_it_learns_from_noisy_pictures_alone(self_training: float) -> None:
    """After some steps the network removes noise from a picture that it has not seen."""
    torch.manual_seed(0)
    tables = {
        "optimizer": {"kind": "muon", "warm_up": 10, "learning_rate": 4e-3},
        "ae": {"width": 16, "blocks": 1},
        "noisy": {"self_training": self_training},
    }
    learn = objectives.build(recipe(steps=150, **tables))
    source = Patches(noisy_pairs(6), 32, 8, 0)
    for step in range(150):
        learn.step(source.draw(), step)
    clean = clean_picture(99)
    noisy = add_noise(clean, SIGMA, np.random.default_rng(99))
    x = torch.from_numpy(noisy).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = learn.network.eval()(x)[0].permute(1, 2, 0).clamp(0, 1) * 255

    def error(picture: npt.NDArray[Any]) -> float:
        return float(np.mean((picture.astype(float) - clean) ** 2))

    assert error(y.numpy()) < 0.5 * error(noisy)


@pytest.mark.parametrize("self_training", [0.0, 0.5, 0.99])
def test_it_resumes_exactly(tmp_path: Path, self_training: float) -> None:
    """Which neighbors and which noise are drawn belongs to the state; so does what teaches."""
    noisy = {"self_training": self_training}
    assert_resumes_exactly(recipe(noisy=noisy), noisy_pairs(), tmp_path)


def test_all_pictures_are_trained_on(tmp_path: Path) -> None:
    """There is no truth to score, so none is held out."""
    for pair in noisy_pairs(12):
        Image.fromarray(pair.lr).save(tmp_path / f"{pair.name}.png")
    supply = batches.build(recipe(), Folders(tmp_path, cache=tmp_path / "cache"))
    assert supply.holdout == []
    batch = supply.source.draw()
    assert torch.equal(batch.lr, batch.hr)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"scale": 2}, "'noisy' only for family 'ae' at scale 1"),
        ({"family": "gan", "scale": 2}, "'noisy' only for family 'ae' at scale 1"),
        ({"data": {"patch_px": 40}}, "data.patch_px = 40, allowed: a multiple of 16 in mode"),
        ({"data": {"patch_px": 32, "rescale_from": 0.5}}, "pictures of a folder at their own"),
        ({"corrupt": {"noise_max": 20.0}}, "the pictures are damaged already"),
        ({"ae": {"levels": True}}, "ae = 'levels or relative', allowed: neither in mode 'noisy'"),
        ({"noisy": {"sigma": -1.0}}, "noisy.sigma = -1.0, allowed: 0 to 255"),
        ({"noisy": {"self_training": 1.0}}, "self_training = 1.0, allowed: 0 or more, under 1"),
    ],
)
def test_mistakes_are_named(tables: dict[str, object], message: str) -> None:
    """Whatever would change the noise, or needs clean pictures, is refused."""
    with pytest.raises(RecipeError, match=message):
        recipe(**tables)
