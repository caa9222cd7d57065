"""Input damage: right in strength, at random block offsets, reproducible by the seed."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from tests.training.runs import pairs, tiny
from training.data.corruption import Corrupting, add_noise, jpeg, soften, versions_of, wrap
from training.data.pictures import WHOLE, Patches, Shard
from training.recipe.families import CorruptRecipe
from training.recipe.schema import RecipeError


def source(patch_px: int = 24, scale: int = 1, seed: int = 0, shard: Shard = WHOLE) -> Patches:
    """Return clean patches."""
    return Patches(pairs(scale), patch_px, 8, seed, shard)


def test_noise_has_the_sigma_that_was_asked_for() -> None:
    """Mean 0, the standard deviation in levels of 255, independent in the three colors."""
    gray = np.full((200, 200, 3), 128, np.uint8)
    noise = add_noise(gray, 25.0, np.random.default_rng(0)).astype(float) - 128
    assert abs(noise.mean()) < 0.2
    assert noise.std() == pytest.approx(25.0, rel=0.01)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


def test_noise_is_clipped_not_wrapped() -> None:
    """Black stays dark."""
    black = np.zeros((50, 50, 3), np.uint8)
    assert add_noise(black, 10.0, np.random.default_rng(0)).max() < 80


def test_jpeg_is_libjpegs() -> None:
    """Equal to what Pillow decodes from its own JPEG of that quality."""
    picture = make_picture(40, 56)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=10)
    expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    np.testing.assert_array_equal(jpeg(picture, 10), expected)


def test_softening_keeps_size_and_colors() -> None:
    """Texture is removed, the mean stays; any side length works."""
    picture = make_picture(41, 58)
    soft = soften(picture, 4)
    assert soft.shape == picture.shape
    assert abs(soft.mean() - picture.mean()) < 1
    assert np.abs(np.diff(soft[:, 40:].astype(int), axis=1)).mean() < (
        np.abs(np.diff(picture[:, 40:].astype(int), axis=1)).mean() / 3
    )


def test_pairs_stay_aligned_at_random_block_offsets() -> None:
    """Both are trimmed by 8 at the same offset; at quality 100 they are nearly equal."""
    recipe = CorruptRecipe(jpeg_min=100, jpeg_max=100)
    batch = Corrupting(source(), recipe, 0).draw()
    assert batch.lr.shape == batch.hr.shape == (8, 3, 16, 16)
    assert float((batch.lr - batch.hr).abs().mean()) < 0.03
    batch = Corrupting(source(scale=2), recipe, 0).draw()
    assert batch.hr.shape == (8, 3, 32, 32)
    means = torch.nn.functional.avg_pool2d(batch.hr, 2)
    assert float((batch.lr - means).abs().mean()) < 0.04


def test_the_blocks_begin_anywhere() -> None:
    """JPEG's grid has no fixed phase in the patch, which a net would learn."""
    recipe = CorruptRecipe(jpeg_min=5, jpeg_max=5)
    corrupting = Corrupting(source(48), recipe, 0)
    edges = set()
    for _ in range(6):
        lr = corrupting.draw().lr
        steps = (lr[..., 1:] - lr[..., :-1]).abs().mean(dim=(1, 2))  # (N, 39)
        edges |= {int(row[:32].reshape(4, 8).mean(0).argmax()) for row in steps}
    assert len(edges) >= 5


def test_one_seed_one_damage_and_the_state_continues_it() -> None:
    """Two sources with the same seed agree; a restored one continues exactly."""
    recipe = CorruptRecipe(noise_max=50, jpeg_max=95)
    first, second = (Corrupting(source(), recipe, 3) for _ in range(2))
    assert torch.equal(first.draw().lr, second.draw().lr)
    state = first.state()
    expected = first.draw()
    other = Corrupting(source(seed=9), recipe, 9)
    other.restore(state)
    again = other.draw()
    assert torch.equal(again.lr, expected.lr)
    assert torch.equal(again.hr, expected.hr)


def test_levels_say_what_was_done() -> None:
    """Sigma of the noise and quality of JPEG, as drawn; -1 for what was not done."""
    recipe = CorruptRecipe(noise_max=50, jpeg_max=90, noise_share=0.3, jpeg_share=0.3)
    batch = Corrupting(source(), recipe, 0).draw()
    assert batch.levels is not None
    assert batch.levels.shape == (len(batch.lr), 2)
    noise, quality = batch.levels.unbind(dim=1)
    assert bool(((noise >= 0) | (quality >= 0)).all())
    alone = CorruptRecipe(noise_max=50)
    batch = Corrupting(source(64), alone, 0).draw()
    assert batch.levels is not None
    assert bool((batch.levels[:, 1] == -1).all())
    # clipping at 0 and 255 takes a little of it
    found = (batch.lr - batch.hr).flatten(1).std(dim=1) * 255
    torch.testing.assert_close(found, batch.levels[:, 0], rtol=0.25, atol=1.0)


def test_low_noise_more_often() -> None:
    """`noise_power = 2` draws half of the sigmas from the lowest quarter, and none above `max`."""
    recipe = CorruptRecipe(noise_max=40, noise_power=2.0)
    damaging = Corrupting(source(), recipe, 0)
    drawn = [damaging.draw().levels for _ in range(40)]
    sigma = torch.cat([levels[:, 0] for levels in drawn if levels is not None])
    assert len(sigma) == 320
    assert 0.4 < float((sigma < 10).float().mean()) < 0.6
    assert 30 < float(sigma.max()) <= 40
    assert float(sigma.min()) >= 0


def test_shares_of_damage() -> None:
    """With a noise share of 1 there is noise alone; the truth is never changed."""
    recipe = CorruptRecipe(noise_max=50, jpeg_max=95, noise_share=1.0, jpeg_share=0.0)
    clean = source().draw()
    noisy = Corrupting(source(), recipe, 0).draw()
    assert noisy.lr.shape[-1] == clean.lr.shape[-1] - 8
    difference = (noisy.lr - noisy.hr) * 255
    assert 5 < float(difference.std()) < 45


def test_off_is_off() -> None:
    """Without damage in the recipe the source is used as it is."""
    clean = source()
    assert wrap(clean, tiny("vae", 2)) is clean


def test_test_versions_are_always_the_same() -> None:
    """Each test set once per kind of damage, which is in its name."""
    recipe = CorruptRecipe(noise_max=50, jpeg_max=95)
    made = versions_of({"drawn": pairs(1)}, recipe)
    again = versions_of({"drawn": pairs(1)}, recipe)
    assert list(made) == ["drawn noise 25", "drawn JPEG 10"]
    for name in made:
        for a, b in zip(made[name], again[name], strict=True):
            np.testing.assert_array_equal(a.lr, b.lr)
    noise = made["drawn noise 25"][0]
    assert np.std(noise.lr.astype(float) - noise.hr) > 10
    assert versions_of({"drawn": pairs(1)}, CorruptRecipe()).keys() == {"drawn"}


def test_impossible_damage_is_refused() -> None:
    """The error names key, value and allowed values."""
    for table, message in (
        ({"noise_max": -1.0}, "corrupt.noise_max = -1.0, allowed: 0 or more"),
        ({"jpeg_max": 101}, "corrupt.jpeg_max = 101, allowed: 0 to 100"),
        ({"jpeg_min": 50, "jpeg_max": 40}, "corrupt.jpeg_min = 50, allowed: 1 to jpeg_max"),
        ({"noise_share": 0.9, "jpeg_share": 0.2}, "corrupt.jpeg_share = 0.2"),
    ):
        with pytest.raises(RecipeError, match=message):
            tiny("ae", 1, corrupt=table, data={"patch_px": 24})


def test_processes_share_one_batch_of_damage() -> None:
    """Two ranks damage their halves as one process damages the whole batch."""
    recipe = CorruptRecipe(noise_max=50, jpeg_max=95)
    whole = Corrupting(source(), recipe, 3).draw()
    for rank in range(2):
        shard = Shard(rank, 2)
        part = Corrupting(source(shard=shard), recipe, 3, shard).draw()
        assert torch.equal(part.lr, whole.lr[rank::2])
        assert torch.equal(part.hr, whole.hr[rank::2])


def test_aligned_patches_begin_at_a_block() -> None:
    """With `aligned_share` 1 every block edge is at a multiple of 8."""
    recipe = CorruptRecipe(jpeg_min=5, jpeg_max=5, aligned_share=1.0)
    lr = Corrupting(source(48), recipe, 0).draw().lr
    steps = (lr[..., 1:] - lr[..., :-1]).abs().mean(dim=(0, 1, 2))
    assert int(steps[:32].reshape(4, 8).mean(0).argmax()) == 7
