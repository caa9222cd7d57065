"""Metrics for what PSNR misses: consistency with the input, and texture statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.data.resize import Picture, imresize
from training.evaluation.metrics import Plane, luma, psnr_y

SPECTRUM_BINS = 32
SWD_LEVELS = 3
SWD_PATCH_PX = 7
SWD_PATCHES = 512
SWD_DIRECTIONS = 128
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def consistency_db(sr: Picture, lr: Picture) -> float:
    """Return the PSNR-Y in dB of the result, reduced by MATLAB's bicubic, against its input.

    High if the input can have come from the result; infinite for HR itself if the input was made
    by that reduction.
    """
    scale = sr.shape[0] // lr.shape[0]
    return psnr_y(sr if scale == 1 else imresize(sr, 1 / scale), lr, border_px=0)


def spectrum_distance_db(sr: Picture, hr: Picture) -> float:
    """Return the mean distance in dB between the radial log power spectra of luma.

    (Durall et al. 2020, arXiv:2003.01826, show that networks miss its upper end.)
    """
    return float(np.mean(np.abs(_spectrum_db(luma(sr)) - _spectrum_db(luma(hr)))))


def _spectrum_db(plane: Plane) -> Plane:
    """Return the power in dB in `SPECTRUM_BINS` rings from 0 to half a cycle per pixel."""
    # without a window, the jump between opposite borders dominates the high frequencies
    window = np.outer(np.hanning(plane.shape[0] + 2)[1:-1], np.hanning(plane.shape[1] + 2)[1:-1])
    power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2 / np.sum(window**2)
    radius = np.hypot(np.fft.fftfreq(plane.shape[0])[:, None], np.fft.fftfreq(plane.shape[1]))
    ring = np.floor(radius / 0.5 * SPECTRUM_BINS).astype(int)
    inside = ring < SPECTRUM_BINS
    total = np.bincount(ring[inside], power[inside], SPECTRUM_BINS)
    count = np.bincount(ring[inside], minlength=SPECTRUM_BINS)
    # 1e-3: far below the power of rounding to 8 bits, so that a flat picture has a logarithm
    decibel: Plane = 10 * np.log10(total[count > 0] / count[count > 0] + 1e-3)
    return decibel


def sliced_wasserstein(
    sr: Sequence[Picture], hr: Sequence[Picture], *, seed: int = 0
) -> list[float]:
    """Return the sliced Wasserstein distance of Laplacian pyramid patches, finest level first.

    Equally many 7x7x3 patches are drawn from each set of pictures, normalized by the mean and
    deviation of each channel, projected on random directions and sorted (Karras et al. 2018,
    arXiv:1710.10196, section 5; in thousandths, as in the paper).
    """
    random = np.random.default_rng(seed)
    first, second = _pyramid_patches(sr, seed), _pyramid_patches(hr, seed)
    return [
        1000 * sliced_distance(_standard(a), _standard(b), SWD_DIRECTIONS, random)
        for a, b in zip(first, second, strict=True)
    ]


def sliced_distance(a: Plane, b: Plane, directions: int, random: np.random.Generator) -> float:
    """Return the mean over directions of the 1-D Wasserstein distance of projections.

    Args:
        a: (N, D) points.
        b: (N, D) points.
        directions: number of random unit vectors.
        random: source of the directions.
    """
    axes = random.standard_normal((a.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    return float(np.mean(np.abs(np.sort(a @ axes, axis=0) - np.sort(b @ axes, axis=0))))


def _pyramid_patches(pictures: Sequence[Picture], seed: int) -> list[Plane]:
    """Return (SWD_PATCHES * pictures, 147) per level; positions depend on seed and sizes only."""
    levels: list[list[Plane]] = [[] for _ in range(SWD_LEVELS)]
    random = np.random.default_rng(seed)
    for picture in pictures:
        for level, plane in enumerate(laplacian_pyramid(picture.astype(np.float64))):
            levels[level].append(_random_patches(plane, random))
    return [np.concatenate(found) for found in levels]


def laplacian_pyramid(picture: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Return the bands of (H, W, 3), finest first, the low-pass residual last.

    Burt and Adelson 1983, "The Laplacian pyramid as a compact image code".
    """
    bands = []
    for _ in range(SWD_LEVELS - 1):
        smaller = _smooth(picture)[::2, ::2]
        bands.append(picture - enlarge(smaller, picture.shape[:2]))
        picture = smaller
    return [*bands, picture]


def enlarge(small: npt.NDArray[np.float64], size: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Double the size: zeros between samples, then the binomial filter times four."""
    large = np.zeros((*size, small.shape[2]))
    large[::2, ::2] = small
    return 4 * _smooth(large)


def _smooth(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    for axis in (0, 1):
        pad = [(2, 2) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(x, pad, mode="reflect")
        length = x.shape[axis]
        parts = [np.take(padded, range(k, k + length), axis) for k in range(5)]
        x = sum((w * part for w, part in zip(BINOMIAL, parts, strict=True)), np.zeros_like(x))
    return x


def _random_patches(plane: npt.NDArray[np.float64], random: np.random.Generator) -> Plane:
    side = SWD_PATCH_PX
    tops = random.integers(plane.shape[0] - side + 1, size=SWD_PATCHES)
    lefts = random.integers(plane.shape[1] - side + 1, size=SWD_PATCHES)
    cut = [plane[t : t + side, x : x + side].ravel() for t, x in zip(tops, lefts, strict=True)]
    return np.stack(cut)


def _standard(points: Plane) -> Plane:
    """Normalize each color channel over all points; channels are interleaved, as in pixels."""
    pixels = points.reshape(len(points), -1, 3)
    mean, deviation = pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))
    standard: Plane = ((pixels - mean) / np.maximum(deviation, 1e-9)).reshape(points.shape)
    return standard
