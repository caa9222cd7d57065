"""Losses between pictures: pixels, frequencies, wavelet bands and consistency with the input.

Pictures are (N, C, H, W), float, 0..1. Unless noted, a function returns one number, the mean over
all elements, so that loss weights do not depend on batch or patch size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.resize import resize_matrix
from training.networks.wavelets import haar_bands

CHARBONNIER_EPSILON = 1e-3
LDL_WINDOW_PX = 7
GRID_WINDOW_CELLS = 8


def charbonnier(result: Tensor, truth: Tensor) -> Tensor:
    """Return mean sqrt((x - y)^2 + eps^2), eps = 1e-3: a smooth L1.

    Charbonnier et al. 1994; in super-resolution since Lai et al. 2017 (LapSRN, arXiv:1704.03915).
    """
    return torch.sqrt((result - truth) ** 2 + CHARBONNIER_EPSILON**2).mean()


PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "charbonnier": charbonnier,
}


LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)


def luma_distance(result: Tensor, truth: Tensor, kind: str = "l1") -> Tensor:
    """Return the distance of BT.601 luma in studio range, which the eye and PSNR-Y weigh most.

    The difference of RGB is weighted 0.257, 0.504, 0.098 (ITU-R BT.601), so for gray pictures the
    L1 is 0.86 times that of RGB. `kind` is a key of `PIXEL_LOSSES`.
    """
    weights = torch.tensor(LUMA, dtype=result.dtype, device=result.device)
    difference = torch.einsum("nchw,c->nhw", result - truth, weights)
    return PIXEL_LOSSES[kind](difference, torch.zeros_like(difference))


def fourier_l1(result: Tensor, truth: Tensor) -> Tensor:
    """Return mean |F x - F y| over the real and imaginary parts of the orthonormal 2-D DFT.

    Cho et al. 2021 (MIMO-UNet, arXiv:2108.05054); used at 0.05 to 0.1 of the pixel loss, there
    with an unnormalized transform. This one is orthonormal: it is as large as a pixel loss.
    """
    difference = torch.fft.rfft2((result - truth).float(), norm="ortho")
    return torch.view_as_real(difference).abs().mean()


def wavelet_l1(result: Tensor, truth: Tensor) -> Tensor:
    """Return the sum over LL, LH, HL, HH of mean |band(x) - band(y)|, stationary Haar.

    Korkmaz et al. 2024 (WGSR, arXiv:2402.19215), who use longer filters; Haar is exact and cheap.
    """
    difference = haar_bands(result - truth)  # the transform is linear
    return 4 * difference.abs().mean()


def downscale(picture: Tensor, scale: int) -> Tensor:
    """Reduce by `scale` with MATLAB's antialiased bicubic kernel, differentiably.

    The same kernel as `training.data.resize.imresize`, without its rounding and clipping to uint8.

    Args:
        picture: (N, C, H, W), H and W multiples of `scale`.
        scale: the factor.

    Returns:
        (N, C, H / scale, W / scale).
    """
    height, width = picture.shape[-2:]
    rows = _reduction(height, scale).to(picture)
    columns = _reduction(width, scale).to(picture)
    return rows @ picture @ columns.T


@lru_cache(maxsize=64)
def _reduction(length_px: int, scale: int) -> Tensor:
    return torch.from_numpy(resize_matrix(length_px, length_px // scale, 1 / scale))


def lr_consistency(result: Tensor, lr: Tensor) -> Tensor:
    """Return mean |down(G(x)) - x|: the result must reduce to the input.

    Preserves colors and limits hallucination. Use it where x is a bicubic reduction; a noisy or
    compressed x would teach the net to keep the damage (use `downscaled_l1` instead).
    """
    return F.l1_loss(downscale(result, result.shape[-1] // lr.shape[-1]), lr)


def downscaled_l1(result: Tensor, truth: Tensor, scale: int) -> Tensor:
    """Return mean |down(G(x)) - down(y)|: a pixel loss that does not constrain texture.

    The idea of Lee et al. 2025 (AESOP, arXiv:2412.00124): penalize only what survives a bottleneck
    of the low resolution, that is the bias, not the variance that adversarial training needs. They
    learn the bottleneck (encoder and decoder); this is the cheap form: bicubic, no decoder.
    """
    return F.l1_loss(downscale(result, scale), downscale(truth, scale))


def grid_l1(result: Tensor, truth: Tensor, scale: int) -> Tensor:
    """Return mean |local mean of x - y per sub-pixel|: penalizes patterns of period `scale` px.

    For a net that ends in a PixelShuffle, the cheapest high frequencies are one fixed pattern per
    input pixel, a "screen door", which an untrained discriminator and a power spectrum mistake for
    texture (measured at x4 without this term: a quarter of the energy that the adversarial stage
    added). Each sub-pixel's difference is averaged over 8x8 input pixels: a repeating pattern
    remains, texture without a period averages out. Our own term, not from a paper.

    Args:
        result: (N, C, H, W), H and W multiples of `scale`, at least 8 * `scale`.
        truth: of the same shape.
        scale: the period in px.
    """
    phases = F.pixel_unshuffle(result - truth, scale)
    local = F.avg_pool2d(phases, GRID_WINDOW_CELLS, stride=GRID_WINDOW_CELLS // 2)
    return local.abs().mean()


def artifact_map(result: Tensor, truth: Tensor, averaged: Tensor) -> Tensor:
    """Return where `result` is likely to show artifacts, (N, 1, H, W), no gradient.

    Liang et al. 2022 (LDL, arXiv:2203.09195). r = sum over colors of |y - x|;
    map = var(r over the picture)^(1/5) * var(r over 7x7), and 0 where the averaged generator's
    residual is larger: there the current generator is improving.
    """
    with torch.no_grad():
        residual = (truth - result).abs().sum(dim=1, keepdim=True)
        stable = (truth - averaged).abs().sum(dim=1, keepdim=True)
        whole = residual.var(dim=(1, 2, 3), keepdim=True) ** 0.2
        weights = whole * _local_variance(residual, LDL_WINDOW_PX)
        return torch.where(residual < stable, torch.zeros_like(weights), weights)


def locally_discriminative(result: Tensor, truth: Tensor, averaged: Tensor) -> Tensor:
    """Return mean |map * x - map * y| with the map of `artifact_map` (LDL, Liang et al. 2022)."""
    weights = artifact_map(result, truth, averaged)
    return (weights * (result - truth)).abs().mean()


def _local_variance(values: Tensor, window_px: int) -> Tensor:
    """Return the unbiased variance over a square window, with mirrored borders."""
    padded = F.pad(values, [window_px // 2] * 4, mode="reflect")
    mean = F.avg_pool2d(padded, window_px, stride=1)
    mean_square = F.avg_pool2d(padded**2, window_px, stride=1)
    count = window_px**2
    return (mean_square - mean**2).clamp_min(0) * (count / (count - 1))
