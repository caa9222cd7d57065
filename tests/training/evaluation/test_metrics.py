"""The evaluation protocol is the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.pictures import load_pairs, read_rgb
from training.data.resize import imresize
from training.evaluation.evaluate import bicubic, score
from training.evaluation.metrics import luma, psnr_y, ssim_y


def test_luma_of_known_colors() -> None:
    """Black is 16, white 235, and the primaries are BT.601's."""
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    expected = [16, 235, 81.481, 144.553, 40.966]
    np.testing.assert_allclose(luma(colors.astype(np.uint8))[0], expected, atol=1e-3)


def test_psnr_of_a_known_difference() -> None:
    """A gray step of one level changes luma by 219/255: 20 * log10(255 / (219/255)) dB."""
    a = np.full((20, 20, 3), 100, np.uint8)
    expected = 20 * np.log10(255 / (219 / 255))
    assert psnr_y(a + np.uint8(1), a, border_px=2) == pytest.approx(expected)
    assert psnr_y(a, a, border_px=2) == float("inf")


def test_the_border_is_cut() -> None:
    """Errors within `border_px` of the edge do not count."""
    a = np.full((20, 20, 3), 100, np.uint8)
    b = a.copy()
    b[:4] = 0
    b[:, -4:] = 255
    assert psnr_y(b, a, border_px=4) == float("inf")
    assert ssim_y(b, a, border_px=4) == pytest.approx(1)


def test_ssim_of_constant_pictures() -> None:
    """Without variance only the luminance term is left: (2ab + c1) / (a^2 + b^2 + c1)."""
    a, b = np.full((30, 30, 3), 50, np.uint8), np.full((30, 30, 3), 200, np.uint8)
    x, y, c1 = float(luma(a)[0, 0]), float(luma(b)[0, 0]), (0.01 * 255) ** 2
    expected = (2 * x * y + c1) / (x**2 + y**2 + c1)
    assert ssim_y(a, b, border_px=0) == pytest.approx(expected)


def test_pictures_of_other_sizes_are_refused() -> None:
    """A comparison never resizes silently."""
    with pytest.raises(ValueError, match="equal size"):
        psnr_y(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8), border_px=0)


@pytest.mark.parametrize(("scale", "factor"), [(2, 0.5), (3, 1 / 3), (4, 0.25)])
def test_resize_keeps_constants_and_sizes(scale: int, factor: float) -> None:
    """A flat picture stays flat, down and up."""
    flat = np.full((12 * scale, 7 * scale, 3), 77, np.uint8)
    small = imresize(flat, factor)
    assert small.shape == (12, 7, 3)
    assert np.all(small == 77)
    assert np.all(imresize(small, scale) == 77)
    assert imresize(small, scale).shape == flat.shape


def test_resize_is_keys_cubic() -> None:
    """An impulse enlarged twice shows the kernel (a = -0.5) at its quarter positions."""
    impulse = np.zeros((9, 9, 3), np.uint8)
    impulse[4] = 128

    def kernel(x: float) -> float:
        x = abs(x)
        near = 1.5 * x**3 - 2.5 * x**2 + 1
        return near if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2

    column = imresize(impulse, 2)[:, 8, 0].astype(float)
    for offset in (0.25, 0.75, 1.25, 1.75):
        expected = max(0.0, np.floor(128 * kernel(offset) + 0.5))
        assert column[int(8.5 + 2 * offset)] == expected


def test_bicubic_on_set5_is_the_published_figure(test_sets: Path) -> None:
    """28.43 dB at x4, 28.42 with rounded luma, 33.67 at x2: the protocol is right."""
    pairs = load_pairs(test_sets / "Set5", 4)
    result = score(bicubic(4), pairs, 4)
    assert result.psnr_y_db == pytest.approx(28.43, abs=0.005)
    assert result.ssim_y == pytest.approx(0.8111, abs=0.0001)
    rounded = [
        psnr_y(imresize(pair.lr, 4), pair.hr, border_px=4, round_luma=True) for pair in pairs
    ]
    assert np.mean(rounded) == pytest.approx(28.42, abs=0.005)
    result = score(bicubic(2), load_pairs(test_sets / "Set5", 2), 2)
    assert result.psnr_y_db == pytest.approx(33.67, abs=0.005)


def test_the_downscaler_is_matlabs(test_sets: Path) -> None:
    """Every file that MATLAB made is reproduced bit for bit."""
    files = sorted((test_sets / "LR_bicubic_matlab").rglob("*.png"))
    assert len(files) >= 30
    compared = 0
    for file in files:
        scale = int(file.parent.name.removeprefix("X"))
        truth = test_sets / file.parent.parent.name / f"{file.stem.removesuffix(f'x{scale}')}.png"
        matlab = read_rgb(file)
        hr = read_rgb(truth)
        hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
        ours = imresize(hr, 1 / scale)
        np.testing.assert_array_equal(ours, matlab, str(file))
        compared += 1
    assert compared == len(files)
