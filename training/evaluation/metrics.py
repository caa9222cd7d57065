"""PSNR and SSIM on luma, by the protocol of published super-resolution tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from training.data.resize import Picture

Plane = npt.NDArray[np.float64]

PEAK = 255.0
SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5


def luma(picture: Picture) -> Plane:
    """Return Y of ITU-R BT.601 in studio range (16..235), floating point, not rounded.

    Args:
        picture: (H, W, 3) uint8 RGB.

    Returns:
        (H, W) float64.
    """
    y: Plane = 16.0 + picture.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / PEAK
    return y


def psnr_y(result: Picture, truth: Picture, *, border_px: int, round_luma: bool = False) -> float:
    """Return the PSNR on luma in dB, peak 255, after cutting `border_px` on each side.

    Args:
        result: (H, W, 3) uint8 RGB.
        truth: (H, W, 3) uint8 RGB.
        border_px: pixels to cut on each side; the protocol cuts the scale.
        round_luma: round Y to whole numbers first, as MATLAB's `rgb2ycbcr` does on uint8.
    """
    a, b = _planes(result, truth, border_px)
    if round_luma:
        a, b = np.round(a), np.round(b)
    mean_square = float(np.mean((a - b) ** 2))
    return float("inf") if mean_square == 0 else 10 * float(np.log10(PEAK**2 / mean_square))


def ssim_y(result: Picture, truth: Picture, *, border_px: int) -> float:
    """Return the structural similarity on luma (Wang et al. 2004), 1 for equal pictures.

    An 11x11 Gaussian window of sigma 1.5, valid positions only, K1 = 0.01, K2 = 0.03.
    """
    a, b = _planes(result, truth, border_px)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(np.mean(luminance * structure))


def _planes(result: Picture, truth: Picture, border_px: int) -> tuple[Plane, Plane]:
    if result.shape != truth.shape:
        raise ValueError(f"expected pictures of equal size, got {result.shape} and {truth.shape}")
    height, width = result.shape[:2]
    inside = np.s_[border_px : height - border_px, border_px : width - border_px]
    return luma(result[inside]), luma(truth[inside])


def _blur(plane: Plane) -> Plane:
    x = np.arange(SSIM_WINDOW_PX) - SSIM_WINDOW_PX // 2
    kernel = np.exp(-(x**2) / (2 * SSIM_SIGMA_PX**2))
    kernel /= kernel.sum()
    rows = sliding_window_view(plane, SSIM_WINDOW_PX, axis=0) @ kernel
    blurred: Plane = sliding_window_view(rows, SSIM_WINDOW_PX, axis=1) @ kernel
    return blurred
