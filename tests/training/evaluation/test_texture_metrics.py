"""Metrics without a reference implementation: against loops and known values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_picture
from training.data.resize import Picture, imresize
from training.data.synthetic import dead_leaves
from training.evaluation import niqe
from training.evaluation.metrics import luma
from training.evaluation.texture_metrics import (
    _spectrum_db,
    consistency_db,
    enlarge,
    laplacian_pyramid,
    sliced_distance,
    sliced_wasserstein,
    spectrum_distance_db,
)


@pytest.fixture(scope="module")
def leaves() -> list[Picture]:
    """Three generated pictures of 192 px."""
    return [pair.hr for pair in dead_leaves.pairs(3, 192, 1, seed=0)]


def test_the_local_normalization_is_the_papers() -> None:
    """At one pixel: a 7x7 Gaussian of deviation 7/6, edges repeated, plus 1, in plain loops."""
    plane = np.random.default_rng(0).uniform(0, 255, (12, 15))
    normalized, deviation = niqe.normalize(plane)
    for y, x in ((0, 0), (5, 7), (11, 3)):
        weights, values = [], []
        for i in range(-3, 4):
            for j in range(-3, 4):
                weights.append(math.exp(-(i * i + j * j) / (2 * (7 / 6) ** 2)))
                values.append(plane[min(max(y + i, 0), 11), min(max(x + j, 0), 14)])
        weight, value = np.array(weights) / sum(weights), np.array(values)
        mean = float((weight * value).sum())
        sigma = math.sqrt(float((weight * (value - mean) ** 2).sum()))
        assert deviation[y, x] == pytest.approx(sigma)
        assert normalized[y, x] == pytest.approx((plane[y, x] - mean) / (sigma + 1))


@pytest.mark.parametrize("shape", [1.0, 2.0, 3.5])
def test_the_fit_finds_what_was_drawn(shape: float) -> None:
    """|x| = b * Gamma(1 / shape)^(1 / shape), with different scales left and right."""
    random = np.random.default_rng(1)
    left, right, count = 2.0, 0.7, 400_000
    size = random.gamma(1 / shape, size=count) ** (1 / shape)
    is_left = random.uniform(size=count) < left / (left + right)
    drawn = np.where(is_left, -left * size, right * size)
    found = niqe.fit_asymmetric(drawn)
    assert found == pytest.approx((shape, left, right), rel=0.02)


def test_the_score_is_the_distance_of_two_gaussians(leaves: list[Picture]) -> None:
    """Equation 10 written out by a linear solve, on a fit with a full covariance."""
    random = np.random.default_rng(2)
    root = random.normal(size=(36, 50))
    fitted = niqe.Naturalness(random.normal(size=36), root @ root.T, 1)
    features, _ = niqe.patch_features(leaves[0])
    assert features.shape == (4, 36)
    pooled = (fitted.covariance + np.cov(features.T)) / 2
    difference = fitted.mean - features.mean(axis=0)
    expected = math.sqrt(difference @ np.linalg.solve(pooled, difference))
    assert fitted.score(leaves[0]) == pytest.approx(expected)
    assert math.isnan(fitted.score(leaves[0][:95]))


def clouds(side: int, seed: int) -> Picture:
    """Return noise whose power falls as 1 / f**2, as that of photographs does."""
    random = np.random.default_rng(seed)
    spectrum = np.fft.fft2(random.normal(size=(side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    plane = np.fft.ifft2(spectrum / np.maximum(frequency, 1 / side)).real
    levels = 128 + 45 * (plane - plane.mean()) / plane.std()
    picture: Picture = np.clip(levels, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    return picture


def test_unnatural_pictures_score_worse(tmp_path: Path) -> None:
    """Blurred and noisy pictures score worse than pictures like those fitted."""
    fitted = niqe.fit(clouds(384, seed) for seed in range(12))
    niqe.save(tmp_path / "n.npz", fitted)
    fitted = niqe.load(tmp_path / "n.npz")
    random = np.random.default_rng(0)
    for picture in (clouds(288, 100), clouds(288, 101)):
        blurred = imresize(imresize(picture, 0.25), 4)
        noisy = np.clip(picture + random.normal(0, 30, picture.shape), 0, 255).astype(np.uint8)
        clean = fitted.score(picture)
        assert fitted.score(blurred) > clean
        assert fitted.score(noisy) > clean


def test_what_cannot_be_fitted_or_read_is_named(leaves: list[Picture], tmp_path: Path) -> None:
    """Too few patches; a file that is something else."""
    with pytest.raises(ValueError, match=r"\d+ sharp patches of 96 px, at least 72"):
        niqe.fit(leaves)
    (tmp_path / "n.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a file of NIQE statistics"):
        niqe.load(tmp_path / "n.npz")


def test_the_shipped_fit_prefers_photographs_to_bicubic(test_sets: Path) -> None:
    """On pictures that were not fitted, HR scores better than bicubic x4."""
    from training.data.pictures import load_pairs

    natural = niqe.load()
    pairs = load_pairs(test_sets / "Set5", 4)
    better = [natural.score(imresize(p.lr, 4)) > natural.score(p.hr) for p in pairs]
    assert sum(better) >= 4


def test_consistency_of_the_truth_is_infinite() -> None:
    """HR reduces exactly to the input; an offset of one level gives its known PSNR."""
    hr = make_picture(32, 48)
    lr = imresize(hr, 0.25)
    assert consistency_db(hr, lr) == math.inf
    flat = np.full((32, 32, 3), 100, np.uint8)
    expected = 20 * math.log10(255 / (219 / 255))
    assert consistency_db(flat, flat[::4, ::4] + np.uint8(1)) == pytest.approx(expected)


def test_the_spectrum_of_known_signals() -> None:
    """Half the amplitude is 6.02 dB less at all frequencies; white noise is flat at its power."""
    random = np.random.default_rng(0)
    noise = random.uniform(-100, 100, (64, 64, 1)).repeat(3, axis=2)
    loud, soft = ((128 + gain * noise).astype(np.uint8) for gain in (1.0, 0.5))
    assert spectrum_distance_db(soft, loud) == pytest.approx(20 * math.log10(2), abs=0.1)
    assert spectrum_distance_db(loud, loud) == 0
    white = random.normal(0, 10, (256, 256))
    # the Hann window is normalized by its power: every ring shows the variance
    np.testing.assert_allclose(_spectrum_db(white)[4:], 20, atol=0.8)


def test_a_wave_lies_in_its_ring() -> None:
    """A period of 8 px is 1/8 of a cycle per pixel: ring 8 of 32."""
    x = np.arange(128)
    plane = 50 * np.sin(2 * np.pi * x / 8) + np.zeros((128, 1))
    assert int(np.argmax(_spectrum_db(plane))) == 8


def test_the_sliced_distance_of_a_shift() -> None:
    """Moving all points by t moves each projection by <t, u>; the mean of that is known."""
    random = np.random.default_rng(0)
    points, shift = random.normal(size=(200, 9)), random.normal(size=9)
    found = sliced_distance(points, points + shift, 40_000, random)
    half = 9 / 2
    slices = math.gamma(half) / (math.sqrt(math.pi) * math.gamma(half + 0.5))
    assert found == pytest.approx(float(np.linalg.norm(shift)) * slices, rel=0.02)


def test_the_sliced_distance_in_one_dimension_is_exact() -> None:
    """{0, 1, 2} to {1, 5, 0} costs (0 + 0 + 3) / 3 whatever the sign of the direction."""
    a, b = np.array([[0.0], [1], [2]]), np.array([[1.0], [5], [0]])
    assert sliced_distance(a, b, 7, np.random.default_rng(0)) == pytest.approx(1)


def test_the_pyramid_is_complete() -> None:
    """Bands and residual reconstruct the picture; a flat picture has no bands."""
    picture = make_picture(52, 64).astype(np.float64)
    fine, middle, rest = laplacian_pyramid(picture)
    again = fine + enlarge(middle + enlarge(rest, middle.shape[:2]), picture.shape[:2])
    np.testing.assert_allclose(again, picture, atol=1e-9)
    flat = laplacian_pyramid(np.full((32, 32, 3), 7.0))
    assert np.abs(flat[0][4:-4, 4:-4]).max() < 1e-9
    np.testing.assert_allclose(flat[2], 7.0)


def test_textures_are_told_apart(leaves: list[Picture]) -> None:
    """Equal pictures have distance 0; blur changes the finest level most."""
    assert sliced_wasserstein(leaves, leaves) == pytest.approx([0, 0, 0])
    blurred = [imresize(imresize(picture, 0.5), 2) for picture in leaves]
    fine, _, coarse = sliced_wasserstein(blurred, leaves)
    assert fine > 3 * coarse
    assert luma(blurred[0]).shape == luma(leaves[0]).shape
