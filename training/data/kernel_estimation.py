"""Estimate the blur kernel of low-resolution pictures from these pictures alone.

The power spectrum of natural pictures falls as |f|^-a (Field 1987; Torralba and Oliva 2003). After
a blur with a Gaussian of covariance S and a reduction, it is, at f cycles per low-resolution pixel,

    P(f) = c * sum_k |f + k|^-a * exp(-4 pi^2 (f + k)^T S (f + k)) + n

with the aliases k = (0, 0), (0, 1), ... that the high-resolution grid holds, and the level n of
white noise. Least squares on log P finds c, a, S and n; `a` is kept near the value below.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from training.data.kernels import Kernel, from_covariance
from training.data.pictures import DataError, decode, find_pictures, refuse
from training.data.resize import Picture
from training.recipe.schema import Recipe

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]

WINDOW_PX = 32
"""Side of the windows whose spectra are averaged."""
STRIDE_PX = 16
DETAILED = 0.5
"""Share of a picture's windows that is used: those of most detail."""
FEWEST = 32
"""Smallest number of windows of all pictures together."""
CENTRAL_PX = 1024
"""Largest side of the central part of a picture that is read."""
LOWEST = 2.5 / WINDOW_PX
"""Lowest frequency used, cycles per low-resolution pixel; the window blurs those below."""
EXPONENT = 2.7
"""Prior of `a`: fitted with known kernels at x4, Gb82 has 2.63 to 2.86, Clic2025 2.59 to 2.72."""
EXPONENT_SPREAD = 0.05
"""Deviation of `a` that weighs as much as one of `RESIDUAL` at one frequency of about 450."""
NOISE_SPREAD = 3.0
"""The same of log n, around the rounding to whole levels."""
ROUNDING = 1 / 12
"""Variance of the rounding, which every picture has as noise."""
SIGMAS_PX = (0.1, 2.0)
"""Range of the estimate, low-resolution pixels."""
BICUBIC_PX, BICUBIC_EXPONENT = (0.35, 0.56), 2.43
"""Sigmas (low-resolution pixels) and largest `a` that bicubic reductions seem to have. Gaussians of
these sigmas show a larger `a`: at x4, four sets of free pictures have 2.17 to 2.40 after bicubic
reductions and disks, 2.47 to 2.70 after Gaussians. At x2 the sets differ more than the kernels."""
SMALLEST_EXPONENT = 2.0
"""The same for other sigmas: disks of a radius of 1.25 low-resolution pixels have 1.2 to 1.9."""
RESIDUAL = 0.3
"""Of log P; larger ones, such as those of a repeated pattern, weigh less (Huber)."""
ROUNDS = 100
CONVERGED = 1e-6


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the pictures show."""

    kernel: Kernel
    bicubic: bool
    """The spectrum is steeper at its end than behind a Gaussian: that of a bicubic reduction, or of
    a disk (defocus). Adapting to the Gaussian would make both worse, so bicubic is assumed."""

    def __str__(self) -> str:
        return f"{self.kernel}{', but no Gaussian: bicubic is assumed' if self.bicubic else ''}"


def with_estimate(recipe: Recipe, folder: Path | None) -> Recipe:
    """Replace `degradation.kind = "estimated"` by the kernel that the pictures show.

    The estimate depends on the pictures alone, so that a resumed run finds the same recipe again.

    Args:
        recipe: returned as it is if it estimates nothing.
        folder: the low-resolution pictures.

    Raises:
        DataError: no folder, or too few or too small pictures in it.
    """
    if recipe.degradation.kind != "estimated":
        return recipe
    if folder is None:
        raise DataError("this recipe needs --data DIR: your low-resolution pictures")
    found = of_folder(folder, recipe.scale)
    log.info("estimated blur kernel: %s", found)
    if found.bicubic:
        log.warning("such pictures suit networks trained on bicubic reductions as they are")
    # two digits: the last bits of a sum may differ between processes
    along, across = (round(sigma, 2) for sigma in found.kernel.sigma_px)
    degradation = dataclasses.replace(
        recipe.degradation,
        kind="bicubic" if found.bicubic else "gaussian",
        sigma_px=(along, across),
        angle_deg=round(found.kernel.angle_deg, 1),
    )
    return dataclasses.replace(recipe, degradation=degradation)


def of_folder(folder: Path, scale: int) -> Estimate:
    """Return the estimate for the pictures below a folder.

    Raises:
        DataError: no such folder, or too few or too small pictures in it.
    """
    paths = find_pictures(folder)
    reasons: dict[Path, str] = {}

    def pictures() -> Iterator[Picture]:
        for path in paths:
            picture = decode(path, min_px=WINDOW_PX)
            if isinstance(picture, str):
                reasons[path] = picture
            else:
                yield picture

    try:
        return estimate(pictures(), scale)
    except DataError as error:
        refuse(folder, reasons, len(paths))
        raise DataError(f"{folder}: {error}") from error


def estimate(pictures: Iterable[Picture], scale: int) -> Estimate:
    """Return the kernel with which pictures were blurred before they were reduced.

    Args:
        pictures: (H, W, 3) uint8, each side `WINDOW_PX` or more; a dozen or more of different
            scenes for a good estimate.
        scale: factor of the reduction.

    Raises:
        DataError: too few windows in all pictures together.
    """
    covariance, exponent = _fit(spectrum(pictures), scale)
    kernel = from_covariance(covariance * scale**2)
    low, high = (limit * scale for limit in BICUBIC_PX)
    near = low <= min(kernel.sigma_px) and max(kernel.sigma_px) <= high
    limit = BICUBIC_EXPONENT if near else SMALLEST_EXPONENT
    return Estimate(kernel, bicubic=exponent <= limit)


def spectrum(pictures: Iterable[Picture]) -> Floats:
    """Return the log power spectrum of luma, (WINDOW_PX, WINDOW_PX), in the order of `fft2`.

    The spectra of a picture's windows are averaged, the logarithms of the pictures' averages too.

    Raises:
        DataError: too few windows in all pictures together.
    """
    hann = np.hanning(WINDOW_PX + 1)[:-1]
    window = np.outer(hann, hann)
    window /= math.sqrt(float((window**2).sum()))
    logs: list[Floats] = []
    counts: list[int] = []
    for picture in pictures:
        cut = _detailed(picture)
        cut = cut - (cut * window).sum(axis=(1, 2), keepdims=True) / window.sum()
        power = np.abs(np.fft.fft2(cut * window)) ** 2
        logs.append(np.log(power.mean(axis=0) + ROUNDING))
        counts.append(len(cut))
    if sum(counts) < FEWEST:
        raise DataError(
            f"{sum(counts)} windows of {WINDOW_PX}x{WINDOW_PX} px with detail, expected {FEWEST} "
            "or more to estimate a blur kernel: add pictures, or use larger ones"
        )
    # a large picture says more, but its windows resemble each other
    averaged: Floats = np.average(logs, axis=0, weights=np.sqrt(counts))
    return averaged


def _detailed(picture: Picture) -> Floats:
    """Return the windows of most detail, (N, WINDOW_PX, WINDOW_PX)."""
    top, left = (max(0, side - CENTRAL_PX) // 2 for side in picture.shape[:2])
    central = picture[top : top + CENTRAL_PX, left : left + CENTRAL_PX]
    luma = central.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    windows = sliding_window_view(luma, (WINDOW_PX, WINDOW_PX))[::STRIDE_PX, ::STRIDE_PX]
    windows = windows.reshape(-1, WINDOW_PX, WINDOW_PX)
    detail = sum(np.abs(np.diff(windows, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    best = np.argsort(-detail, kind="stable")[: max(1, round(len(windows) * DETAILED))]
    return windows[best]


@dataclasses.dataclass(frozen=True)
class _Spectrum:
    """The model of the module's docstring, at the frequencies that are used.

    Its parameters are log c, a, S_xx, S_xy, S_yy and log n.
    """

    fx: Floats
    fy: Floats
    measured: Floats
    scale: int

    def residual(self, parameters: Floats) -> Floats:
        """Return modeled minus measured log P, then the distances from the priors."""
        log_c, a, xx, xy, yy, log_n = parameters
        power = np.zeros_like(self.fx)
        # of the aliases, those of the next period are enough: the blur leaves little of the others
        for i, j in np.ndindex(3, 3):
            gx, gy = self.fx + i - 1, self.fy + j - 1
            held = np.maximum(np.abs(gx), np.abs(gy)) <= self.scale / 2
            q = xx * gx**2 + 2 * xy * gx * gy + yy * gy**2
            power += held * np.hypot(gx, gy) ** -a * np.exp(-4 * math.pi**2 * np.minimum(q, 12))
        modeled = np.log(np.exp(log_c) * power + np.exp(log_n))
        priors = np.array(
            [
                (a - EXPONENT) / EXPONENT_SPREAD * RESIDUAL,
                (log_n - math.log(ROUNDING)) / NOISE_SPREAD * RESIDUAL,
            ]
        )
        return np.concatenate([modeled - self.measured, priors])

    def jacobian(self, parameters: Floats) -> Floats:
        """Return the derivatives of `residual`, one column per parameter."""
        steps = 1e-5 * np.eye(len(parameters))
        columns = [(self.residual(parameters + d) - self.residual(parameters - d)) for d in steps]
        return np.stack(columns, axis=1) / 2e-5


def _fit(log_power: Floats, scale: int) -> tuple[Floats, float]:
    """Return S, (2, 2), in square low-resolution pixels, and `a` (Levenberg-Marquardt)."""
    frequencies = np.fft.fftfreq(WINDOW_PX)
    fx, fy = np.meshgrid(frequencies, frequencies)
    # the spectrum is symmetric; man-made edges and picture borders lie on its axes
    used = (np.hypot(fx, fy) >= LOWEST) & (fy > 0) & (fx != 0) & (np.abs(fx) < 0.5) & (fy < 0.5)
    model = _Spectrum(fx[used], fy[used], log_power[used], scale)
    level = float(model.measured.max()) + EXPONENT * math.log(LOWEST)
    now = np.array([level, EXPONENT, 0.1, 0.0, 0.1, math.log(ROUNDING)])
    damping = 1e-2
    for _ in range(ROUNDS):
        residual, jacobian = model.residual(now), model.jacobian(now)
        weights = 1 / np.maximum(1, np.abs(residual) / RESIDUAL)
        squares = jacobian.T @ (weights[:, None] * jacobian)
        step = np.linalg.solve(
            squares + damping * np.diag(np.diag(squares)), jacobian.T @ (weights * residual)
        )
        tried = _bounded(now - step)
        if (weights * model.residual(tried) ** 2).sum() > (weights * residual**2).sum():
            damping *= 4
            continue
        moved, now, damping = float(np.abs(tried - now).max()), tried, max(damping / 3, 1e-6)
        if moved < CONVERGED:
            break
    return np.array([[now[2], now[3]], [now[3], now[4]]]), float(now[1])


def _bounded(parameters: Floats) -> Floats:
    """Keep the sigmas within `SIGMAS_PX`."""
    _, _, xx, xy, yy, _ = parameters
    variances, axes = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
    inside = axes @ np.diag(np.clip(variances, *np.square(SIGMAS_PX))) @ axes.T
    bounded = parameters.copy()
    bounded[2:5] = inside[0, 0], inside[0, 1], inside[1, 1]
    return bounded
