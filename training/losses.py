"""Losses between pictures: pixels, frequencies, wavelet bands, and what the input allows.

Pictures are (N, C, H, W), float, 0..1; every function returns one number, the mean over everything
unless said otherwise, so that weights do not depend on batch or patch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from training.resize import resize_matrix

CHARBONNIER_EPSILON = 1e-3
LDL_WINDOW_PX = 7
GRID_WINDOW_CELLS = 8


def charbonnier(result: Tensor, truth: Tensor) -> Tensor:
    """Return mean sqrt((x - y)^2 + eps^2), eps = 1e-3: L1 with a round foot.

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
    """Return the distance of Y of BT.601 in studio range: what the eye and PSNR-Y weigh most.

    The difference of RGB is weighted 0.257, 0.504, 0.098 (ITU-R BT.601), so the L1 is 0.86 times
    that of grey pictures. `kind` is a key of `PIXEL_LOSSES`.
    """
    weights = torch.tensor(LUMA, dtype=result.dtype, device=result.device)
    difference = torch.einsum("nchw,c->nhw", result - truth, weights)
    return PIXEL_LOSSES[kind](difference, torch.zeros_like(difference))


def fourier_l1(result: Tensor, truth: Tensor) -> Tensor:
    """Return mean |F x - F y| over the real and imaginary parts of the orthonormal 2-D DFT.

    Cho et al. 2021 (MIMO-UNet, arXiv:2108.05054); used as 0.05 to 0.1 of the pixel loss, which
    there is an unnormalised transform. This one is orthonormal: its size is that of a pixel loss.
    """
    difference = torch.fft.rfft2((result - truth).float(), norm="ortho")
    return torch.view_as_real(difference).abs().mean()


def haar_bands(picture: Tensor) -> Tensor:
    """Return the stationary (undecimated) Haar transform, (N, 4 * C, H, W): LL, LH, HL, HH.

    Low pass (x[i] + x[i+1]) / 2 and high pass (x[i] - x[i+1]) / 2 along each axis, the last row and
    column repeated. The first letter is the filter along the height, the second along the width;
    each band holds all colours. The four bands of a pixel add up to the pixel.
    """
    padded = F.pad(picture, (0, 1, 0, 1), mode="replicate")
    upper, lower = padded[:, :, :-1], padded[:, :, 1:]
    low, high = (upper + lower) / 2, (upper - lower) / 2
    bands = []
    for rows in (low, high):
        left, right = rows[..., :-1], rows[..., 1:]
        bands += [(left + right) / 2, (left - right) / 2]
    return torch.cat(bands, dim=1)


def wavelet_l1(result: Tensor, truth: Tensor) -> Tensor:
    """Return the sum over LL, LH, HL, HH of mean |band(x) - band(y)|, stationary Haar.

    Korkmaz et al. 2024 (WGSR, arXiv:2402.19215), who use longer filters; Haar is exact and cheap.
    """
    difference = haar_bands(result - truth)  # the transform is linear
    return 4 * difference.abs().mean()


def downscale(picture: Tensor, scale: int) -> Tensor:
    """Reduce by `scale` with MATLAB's antialiased bicubic kernel, differentiably.

    The same kernel as `training.resize.imresize`, without its rounding and clipping to uint8.

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
    """Return mean |down(G(x)) - x|: what was made must reduce to what was given.

    Holds colours and bounds invention. Right where x is a bicubic reduction; where x is noisy or
    compressed it would teach to keep the damage (then take `downscaled_l1`).
    """
    return F.l1_loss(downscale(result, result.shape[-1] // lr.shape[-1]), lr)


def downscaled_l1(result: Tensor, truth: Tensor, scale: int) -> Tensor:
    """Return mean |down(G(x)) - down(y)|: a pixel loss that leaves texture free.

    The idea of Lee et al. 2025 (AESOP, arXiv:2412.00124): penalise only what survives a bottleneck
    of the low resolution, that is the bias, and not the variance that the adversary needs. They
    learn the bottleneck (encoder and decoder); this is the cheap form, bicubic and no decoder.
    """
    return F.l1_loss(downscale(result, scale), downscale(truth, scale))


def grid_l1(result: Tensor, truth: Tensor, scale: int) -> Tensor:
    """Return the mean |local mean of x - y per sub-pixel|: a pattern that repeats every `scale` px.

    A net that ends in a PixelShuffle makes high frequencies most cheaply as one fixed pattern per
    input pixel, a screen door, which a young discriminator and a power spectrum take for texture
    (measured at x4 without this term: a quarter of the energy that the adversarial stage added).
    Each sub-pixel's difference is averaged over 8x8 input pixels: a repeating pattern stays whole,
    texture without a period averages out. Ours, not from a paper.

    Args:
        result: (N, C, H, W), H and W multiples of `scale`, at least 8 * `scale`.
        truth: the same.
        scale: the period, px.
    """
    phases = F.pixel_unshuffle(result - truth, scale)
    local = F.avg_pool2d(phases, GRID_WINDOW_CELLS, stride=GRID_WINDOW_CELLS // 2)
    return local.abs().mean()


def artefact_map(result: Tensor, truth: Tensor, averaged: Tensor) -> Tensor:
    """Return where `result` is likely to show artefacts, (N, 1, H, W), no gradient.

    Liang et al. 2022 (LDL, arXiv:2203.09195). r = sum over colours of |y - x|;
    map = var(r over the picture)^(1/5) * var(r over 7x7), and 0 where the averaged generator's
    residual is the larger one: there the current one is on a good way.
    """
    with torch.no_grad():
        residual = (truth - result).abs().sum(dim=1, keepdim=True)
        stable = (truth - averaged).abs().sum(dim=1, keepdim=True)
        whole = residual.var(dim=(1, 2, 3), keepdim=True) ** 0.2
        weights = whole * _local_variance(residual, LDL_WINDOW_PX)
        return torch.where(residual < stable, torch.zeros_like(weights), weights)


def locally_discriminative(result: Tensor, truth: Tensor, averaged: Tensor) -> Tensor:
    """Return mean |map * x - map * y| with the map of `artefact_map` (LDL, Liang et al. 2022)."""
    weights = artefact_map(result, truth, averaged)
    return (weights * (result - truth)).abs().mean()


def _local_variance(values: Tensor, window_px: int) -> Tensor:
    """Unbiased variance over a square window, the border mirrored."""
    padded = F.pad(values, [window_px // 2] * 4, mode="reflect")
    mean = F.avg_pool2d(padded, window_px, stride=1)
    mean_square = F.avg_pool2d(padded**2, window_px, stride=1)
    count = window_px**2
    return (mean_square - mean**2).clamp_min(0) * (count / (count - 1))
