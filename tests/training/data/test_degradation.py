"""The real-world degradation: each part matches the paper, reproducible by the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.conftest import make_picture
from training.data import degradation
from training.data.resize import imresize
from training.recipe.data import DegradationRecipe
from training.recipe.schema import RecipeError, recipe_from_dict

NOTHING = {
    "blur": 0.0,
    "gaussian": 1.0,
    "gaussian_sigma": (1e-6, 1e-6),
    "resize": (0.0, 0.0, 1.0),
    "jpeg_quality": (95.0, 95.0),
}


def generator(seed: int = 0) -> np.random.Generator:
    """Return a seeded generator."""
    return np.random.default_rng(seed)


def test_bicubic_is_matlabs() -> None:
    """The default kind equals `imresize`."""
    hr = make_picture(32, 48)
    lr = degradation.reduce(hr, 4, DegradationRecipe(), generator())
    np.testing.assert_array_equal(lr, imresize(hr, 0.25))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_real_world_follows_the_seed(scale: int) -> None:
    """The same seed gives the same picture, of the right size; another seed gives another."""
    hr, recipe = make_picture(64, 48), DegradationRecipe(kind="realworld")
    a, b, c = (degradation.reduce(hr, scale, recipe, generator(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == (64 // scale, 48 // scale, 3)
    assert a.dtype == np.uint8
    assert not np.array_equal(a, c)


def test_with_everything_off_little_is_left_but_jpeg() -> None:
    """At quality 95, without blur, resizing and noise, a smooth picture hardly changes."""
    y, x = np.mgrid[0:64, 0:64]
    hr = np.stack([2 * x + 50, 2 * y + 50, x + y + 50], axis=-1).astype(np.uint8)
    table = {"kind": "realworld", "final_sinc": 0.0, "first": NOTHING, "second": NOTHING}
    whole = recipe_from_dict({"name": "a", "scale": 2, "degradation": table}, source="r")
    recipe = whole.degradation
    lr = degradation.reduce(hr, 1, recipe, generator())
    assert np.abs(lr.astype(int) - hr).mean() < 1.5


def test_the_gaussian_kernel() -> None:
    """Its variance along each axis is sigma squared; rotating by 90 degrees swaps the axes."""
    axis = np.arange(41) - 20
    kernel = degradation.gaussian_kernel(41, 3.0, 1.5)
    assert kernel.sum() == pytest.approx(1)
    assert (kernel.sum(axis=0) * axis**2).sum() == pytest.approx(9, rel=1e-3)
    assert (kernel.sum(axis=1) * axis**2).sum() == pytest.approx(2.25, rel=1e-3)
    turned = degradation.gaussian_kernel(41, 3.0, 1.5, math.pi / 2)
    np.testing.assert_allclose(turned, kernel.T, atol=1e-12)


def test_the_shapes_of_the_kernels() -> None:
    """A generalized Gaussian of 1 is the Gaussian; a plateau falls to a half at one sigma."""
    np.testing.assert_allclose(
        degradation.gaussian_kernel(9, 2, 2, shape=1.0), degradation.gaussian_kernel(9, 2, 2)
    )
    plateau = degradation.gaussian_kernel(21, 4, 4, shape=2.0, plateau=True)
    assert plateau[10, 14] / plateau[10, 10] == pytest.approx(0.5)
    flat = degradation.gaussian_kernel(21, 4, 4, shape=4.0)
    assert flat[10, 13] / flat[10, 10] > degradation.gaussian_kernel(21, 4, 4)[10, 13] * 1.2


def test_the_sinc_kernel_is_a_low_pass() -> None:
    """Its transform is 1 below the cut-off and 0 above."""
    kernel = degradation.sinc_kernel(101, math.pi / 2)
    response = np.abs(np.fft.fft2(kernel, (256, 256)))[0]
    radians = 2 * np.pi * np.arange(128) / 256
    assert np.abs(response[:128][radians < 0.4 * np.pi] - 1).max() < 0.1
    assert response[:128][radians > 0.6 * np.pi].max() < 0.1


def test_convolution_is_the_sum_it_claims_to_be() -> None:
    """Against plain loops, borders mirrored."""
    x = generator().uniform(0, 255, (7, 9, 3)).astype(np.float32)
    kernel = generator(1).uniform(size=(5, 5))
    padded = np.pad(x, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    expected = np.zeros_like(x)
    for i in range(5):
        for j in range(5):
            expected += kernel[4 - i, 4 - j] * padded[i : i + 7, j : j + 9]
    np.testing.assert_allclose(degradation.convolve(x, kernel), expected, rtol=1e-4, atol=1e-2)


def test_noise_has_its_variance() -> None:
    """Gaussian: sigma. Poisson: variance equals the mean count, v / 255 * 256. Gray: one noise."""
    x = np.full((200, 200, 3), 100, np.float32)
    noisy = degradation.gaussian_noise(x, 12.0, gray=False, random=generator()) - x
    assert noisy.std() == pytest.approx(12, rel=0.02)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02
    gray = degradation.gaussian_noise(x, 12.0, gray=True, random=generator()) - x
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    counted = degradation.poisson_noise(x, 2.0, gray=False, random=generator()) - x
    assert counted.std() == pytest.approx(2 * math.sqrt(100 * 255 / 256), rel=0.03)
    shared = degradation.poisson_noise(x, 2.0, gray=True, random=generator()) - x
    np.testing.assert_allclose(shared[..., 0], shared[..., 2], atol=1e-3)


def test_jpeg_loses_more_at_lower_quality() -> None:
    """The error grows as the quality falls."""
    x = make_picture(64, 64).astype(np.float32)
    errors = [float(np.abs(degradation.jpeg(x, q) - x).mean()) for q in (95, 60, 30)]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "real"}, "degradation.kind = 'real', allowed: 'bicubic' or 'realworld'"),
        ({"kernel_px": [8, 21]}, "degradation.kernel_px .* two odd numbers"),
        ({"first": {"blur": 2}}, "degradation.first.blur = 2.0, allowed: a probability"),
        ({"second": {"resize": [1, 2]}}, "degradation.second.resize .* 3 weights"),
        ({"first": {"jpeg_quality": [90, 30]}}, "the smaller one first"),
        ({"first": {"jpeg_quality": [90]}}, "expected 2 values"),
        ({"first": {"jpeg_quality": 90}}, "expected an array"),
    ],
)
def test_impossible_values_are_named(table: dict[str, object], message: str) -> None:
    """Ranges, weights and probabilities are checked before anything runs."""
    with pytest.raises(RecipeError, match=message):
        recipe_from_dict({"name": "a", "scale": 2, "degradation": table}, source="r")


def test_the_second_stage_keeps_its_milder_defaults() -> None:
    """Naming one key of it changes no other."""
    recipe = recipe_from_dict(
        {"name": "a", "scale": 2, "degradation": {"second": {"sinc": 0.2}}}, source="r"
    )
    assert recipe.degradation.second.blur == 0.8
    assert recipe.degradation.second.resize_range == (0.3, 1.2)
