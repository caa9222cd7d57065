"""Each loss matches its formula, computed by hand or by an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.conftest import make_picture
from training.data.resize import imresize
from training.losses import adversarial, pixel
from training.networks import wavelets


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uniform noise, 0..1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_pixel_losses_of_known_differences() -> None:
    """Differences 0 and 0.5: L1 1/4, MSE 1/8, Charbonnier the mean of eps and sqrt(1/4 + eps^2)."""
    a, b = torch.tensor([0.0, 0.5]), torch.tensor([0.0, 1.0])
    found = {name: float(loss(a, b)) for name, loss in pixel.PIXEL_LOSSES.items()}
    charbonnier = (1e-3 + (0.25 + 1e-6) ** 0.5) / 2
    assert found == pytest.approx({"l1": 0.25, "mse": 0.125, "charbonnier": charbonnier})


def test_charbonnier_has_a_gradient_at_zero() -> None:
    """Equal pictures: the gradient is 0 and not NaN."""
    x = torch.zeros(3, requires_grad=True)
    pixel.charbonnier(x, torch.zeros(3)).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(3))


def test_luma_distance_is_the_metrics_luma() -> None:
    """One level of difference in luma, as `metrics` counts it, is 1/255 here."""
    a, b = noise(1, 3, 8, 10), noise(1, 3, 8, 10, seed=1)
    luma = [
        np.asarray(65.481 * p[0, 0] + 128.553 * p[0, 1] + 24.966 * p[0, 2] + 16) for p in (a, b)
    ]
    expected = float(np.abs(luma[0] - luma[1]).mean()) / 255
    assert float(pixel.luma_distance(a, b)) == pytest.approx(expected, rel=1e-5)
    chroma = torch.tensor([128.553, -65.481, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4) / 255
    nothing = torch.zeros(1, 3, 4, 4)
    assert float(pixel.luma_distance(chroma, nothing)) == pytest.approx(0, abs=1e-7)
    squares = float(np.square(luma[0] - luma[1]).mean()) / 255**2
    assert float(pixel.luma_distance(a, b, "mse")) == pytest.approx(squares, rel=1e-5)


def test_fourier_l1_is_numpys() -> None:
    """The same as numpy's orthonormal real transform, real and imaginary parts apart."""
    a, b = noise(2, 3, 8, 10), noise(2, 3, 8, 10, seed=1)
    spectrum = np.fft.rfft2((a - b).double().numpy(), norm="ortho")
    expected = (np.abs(spectrum.real).mean() + np.abs(spectrum.imag).mean()) / 2
    assert float(pixel.fourier_l1(a, b)) == pytest.approx(float(expected), rel=1e-5)


def test_haar_bands_of_four_pixels() -> None:
    """[[1, 2], [3, 5]]: LL 11/4, LH -3/4 (along the width), HL -5/4 (along the height), HH 1/4."""
    picture = torch.tensor([[1.0, 2.0], [3.0, 5.0]])[None, None]
    bands = wavelets.haar_bands(picture)
    assert bands.shape == (1, 4, 2, 2)
    assert bands[0, :, 0, 0].tolist() == [2.75, -0.75, -1.25, 0.25]
    assert bands[0, :, 1, 1].tolist() == [5.0, 0.0, 0.0, 0.0]  # the border is repeated


def test_haar_bands_add_up_to_the_picture() -> None:
    """Low + high of each axis is the sample itself."""
    picture = noise(2, 3, 7, 9)
    total = wavelets.haar_bands(picture).reshape(2, 4, 3, 7, 9).sum(dim=1)
    torch.testing.assert_close(total, picture)


def test_wavelet_l1_is_the_sum_over_bands() -> None:
    """By convolutions with the four kernels: an independent form of the same transform."""
    a, b = noise(1, 3, 6, 6), noise(1, 3, 6, 6, seed=1)
    low, high = torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])
    padded = F.pad(a - b, (0, 1, 0, 1), mode="replicate")
    expected = 0.0
    for rows in (low, high):
        for columns in (low, high):
            kernel = torch.outer(rows, columns).expand(3, 1, 2, 2)
            expected += float(F.conv2d(padded, kernel, groups=3).abs().mean())
    assert float(pixel.wavelet_l1(a, b)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downscale_is_imresize(scale: int) -> None:
    """Up to the rounding that imresize does after each pass: no clipping in the middle range."""
    picture = make_picture(24 * scale, 17 * scale) // 2 + np.uint8(64)
    expected = imresize(picture, 1 / scale).astype(np.float64)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255.0
    got = pixel.downscale(x, scale)[0].permute(1, 2, 0).clamp(0, 1).double().numpy() * 255
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1.2
    assert np.abs(got - expected).mean() < 0.35


def test_downscale_has_the_gradient_of_a_linear_map() -> None:
    """The gradient of its sum adds up to the number of samples made; flat stays flat."""
    x = noise(1, 1, 16, 16).requires_grad_(True)
    pixel.downscale(x, 4).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert float(x.grad.sum()) == pytest.approx(16, rel=1e-5)
    torch.testing.assert_close(pixel.downscale(torch.ones(1, 1, 16, 16), 4), torch.ones(1, 1, 4, 4))


def test_consistency_and_downscaled_loss() -> None:
    """Both are 0 for equal reductions, and measure a shift of brightness in full."""
    hr = noise(1, 3, 32, 32)
    lr = pixel.downscale(hr, 4)
    assert float(pixel.lr_consistency(hr, lr)) == 0
    assert float(pixel.downscaled_l1(hr, hr, 4)) == 0
    assert float(pixel.lr_consistency(hr + 0.1, lr)) == pytest.approx(0.1, rel=1e-4)
    assert float(pixel.downscaled_l1(hr + 0.1, hr, 4)) == pytest.approx(0.1, rel=1e-4)


def test_the_downscaled_loss_leaves_texture_free() -> None:
    """A checkerboard costs less than a hundredth of its L1."""
    flat = torch.full((1, 1, 32, 32), 0.5)
    board = flat.clone()
    board[..., ::2, ::2] += 0.2
    board[..., 1::2, 1::2] += 0.2
    board[..., ::2, 1::2] -= 0.2
    board[..., 1::2, ::2] -= 0.2
    inside = pixel.downscale(board - flat, 4)[..., 1:-1, 1:-1].abs().mean()
    assert float(inside) < 0.01 * float(F.l1_loss(board, flat))


def test_the_grid_loss_sees_what_repeats() -> None:
    """A pattern with the scale's period costs its L1 in full, noise of that L1 a tenth of it."""
    flat = torch.full((1, 1, 128, 128), 0.5)
    pattern = 0.1 * torch.sign(noise(1, 1, 4, 4) - 0.5)
    door = flat + pattern.repeat(1, 1, 32, 32)
    texture = flat + 0.1 * torch.sign(noise(1, 1, 128, 128, seed=1) - 0.5)
    assert float(pixel.grid_l1(door, flat, 4)) == pytest.approx(0.1, rel=1e-5)
    # the mean of 64 signs has a standard deviation of 1/8, hence a mean of 1/8 * sqrt(2 / pi)
    expected = 0.1 / 8 * (2 / np.pi) ** 0.5
    assert float(pixel.grid_l1(texture, flat, 4)) == pytest.approx(expected, rel=0.1)
    assert float(pixel.grid_l1(door, door, 4)) == 0


def test_ldl_is_the_papers_code() -> None:
    """By unfolding every 7x7 window, as the authors' implementation does."""
    sr, hr, ema = (noise(2, 3, 12, 14, seed=seed) for seed in range(3))
    residual = (hr - sr).abs().sum(1, keepdim=True)
    windows = F.pad(residual, [3] * 4, mode="reflect").unfold(2, 7, 1).unfold(3, 7, 1)
    local = windows.flatten(-2).var(dim=-1)
    weights = residual.var(dim=(1, 2, 3), keepdim=True) ** (1 / 5) * local
    weights[residual < (hr - ema).abs().sum(1, keepdim=True)] = 0
    expected = F.l1_loss(weights * sr, weights * hr)
    assert float(pixel.locally_discriminative(sr, hr, ema)) == pytest.approx(
        float(expected), rel=1e-4
    )
    assert float(pixel.locally_discriminative(sr, hr, hr)) > 0  # the average is better everywhere
    assert float(pixel.locally_discriminative(hr, hr, ema)) == 0


def test_bce_is_binary_cross_entropy() -> None:
    """Discriminator: real to 1, generated to 0; generator: generated to 1 (non-saturating)."""
    real, fake = noise(4, 1, 3, 3) - 0.3, noise(4, 1, 3, 3, seed=1) - 0.6
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(
        adversarial.discriminator_loss("bce", real, fake), bce(real, one) + bce(fake, zero)
    )
    torch.testing.assert_close(adversarial.generator_loss("bce", real, fake), bce(fake, one))


def test_ragan_is_bce_of_differences_from_the_mean() -> None:
    """Each against the average of the other kind; the generator exchanges them."""
    real, fake = noise(4, 1) - 0.3, noise(4, 1, seed=1) - 0.6
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    bce = F.binary_cross_entropy_with_logits
    a, b = real - fake.mean(), fake - real.mean()
    expected = (bce(a, one) + bce(b, zero)) / 2
    torch.testing.assert_close(adversarial.discriminator_loss("ragan", real, fake), expected)
    expected = (bce(b, one) + bce(a, zero)) / 2
    torch.testing.assert_close(adversarial.generator_loss("ragan", real, fake), expected)


def test_rpgan_of_known_logits() -> None:
    """log(1 + exp(-(C(y) - C(G(x))))), pair by pair; equal logits give log 2 to both."""
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])
    expected = (np.log1p(np.exp(-1)) + np.log1p(np.exp(3))) / 2
    assert float(adversarial.discriminator_loss("rpgan", real, fake)) == pytest.approx(expected)
    expected = (np.log1p(np.exp(1)) + np.log1p(np.exp(-3))) / 2
    assert float(adversarial.generator_loss("rpgan", real, fake)) == pytest.approx(expected)
    assert float(adversarial.generator_loss("rpgan", real, real)) == pytest.approx(np.log(2))


def test_r1_of_a_linear_discriminator() -> None:
    """C(y) = sum of w * y: the gradient is w everywhere, |w|^2 the penalty, w its gradient / 2."""
    w = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    penalty = adversarial.r1_penalty(
        lambda y: (w[:, None, None] * y).sum(dim=1, keepdim=True), noise(2, 3, 4, 4)
    )
    assert penalty.item() == pytest.approx(5.25)
    penalty.backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    torch.testing.assert_close(w.grad, 2 * w.detach())


def test_feature_distance() -> None:
    """The mean over maps of their L1, whatever their sizes; no gradient to the truth."""
    a = [torch.zeros(1, 1, 2, 2, requires_grad=True), torch.zeros(1, 4, 1, 1)]
    b = [torch.ones(1, 1, 2, 2, requires_grad=True), torch.full((1, 4, 1, 1), 3.0)]
    distance = adversarial.feature_distance(a, b)
    assert distance.item() == 2
    distance.backward()  # type: ignore[no-untyped-call]
    assert a[0].grad is not None
    assert b[0].grad is None
