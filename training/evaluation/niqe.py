"""NIQE: how natural a picture looks, without a reference and without third-party weights.

Mittal, Soundararajan and Bovik 2013, "Making a completely blind image quality analyzer": a
multivariate Gaussian of 36 features of natural patches, here fitted on our own pictures, and the
distance of a picture's own Gaussian from it. Lower is more natural. Only scores under the same fit
are comparable; they are not comparable with scores under the original statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from training.data.resize import Picture, imresize
from training.evaluation.metrics import Plane, luma

PATCH_PX = 96
"""Side of a patch at full scale; a picture with a shorter side has no score."""
SHARP = 0.75
"""The fit uses patches at least this sharp, relative to the sharpest of their picture."""
WINDOW_PX = 7
WINDOW_SIGMA_PX = 7 / 6
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
SHIPPED = Path(__file__).with_name("niqe.npz")


@dataclass(frozen=True)
class Naturalness:
    """The Gaussian of natural patches."""

    mean: Plane
    """(36,)"""
    covariance: Plane
    """(36, 36)"""
    patches: int
    """Number of patches it was fitted on."""

    def score(self, picture: Picture) -> float:
        """Return the distance of (H, W, 3) uint8 RGB from natural pictures; NaN under 96 px.

        sqrt((m1 - m2)^T ((S1 + S2) / 2)^+ (m1 - m2)), equation 10 of the paper.
        """
        features, _ = patch_features(picture)
        if len(features) == 0:
            return math.nan
        mean = features.mean(axis=0)
        # one patch has no covariance of its own
        own = (
            np.cov(features, rowvar=False) if len(features) > 1 else np.zeros_like(self.covariance)
        )
        difference = mean - self.mean
        pooled = np.linalg.pinv((self.covariance + own) / 2)
        return float(np.sqrt(difference @ pooled @ difference))


def fit(pictures: Iterable[Picture]) -> Naturalness:
    """Fit the Gaussian on the sharp patches of high-resolution pictures.

    Raises:
        ValueError: fewer sharp patches than a covariance of 36 features needs.
    """
    kept = []
    for picture in pictures:
        features, sharpness = patch_features(picture)
        if len(features):
            kept.append(features[sharpness > SHARP * sharpness.max()])
    found = np.concatenate(kept) if kept else np.zeros((0, 36))
    if len(found) < 72:
        raise ValueError(f"{len(found)} sharp patches of {PATCH_PX} px, at least 72 are needed")
    return Naturalness(found.mean(axis=0), np.cov(found, rowvar=False), len(found))


def save(path: Path, fitted: Naturalness) -> None:
    """Write a fit as .npz."""
    with path.open("wb") as file:
        np.savez(file, mean=fitted.mean, covariance=fitted.covariance, patches=fitted.patches)


def load(path: Path = SHIPPED) -> Naturalness:
    """Read a fit.

    Raises:
        ValueError: the file is missing or was not written by `save`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Naturalness(file["mean"], file["covariance"], int(file["patches"]))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a file of NIQE statistics: {error}") from error


def patch_features(picture: Picture) -> tuple[Plane, Plane]:
    """Return the features (N, 36) and the sharpness (N,) of all whole 96 px patches.

    18 features at full scale and 18 at half: the shape and the mean scale of the normalized
    luminance, and shape, mean and both scales of the products of neighbors in four directions.
    """
    height, width = (side - side % PATCH_PX for side in picture.shape[:2])
    if height == 0 or width == 0:
        return np.zeros((0, 36)), np.zeros(0)
    cropped = picture[:height, :width]
    halves, sharpness = [], np.zeros(0)
    for scale, side in ((1, PATCH_PX), (2, PATCH_PX // 2)):
        plane = luma(cropped if scale == 1 else imresize(cropped, 1 / scale))
        normalized, deviation = normalize(plane)
        halves.append(np.array([_features(patch) for patch in _patches(normalized, side)]))
        if scale == 1:
            sharpness = np.array([patch.mean() for patch in _patches(deviation, side)])
    return np.concatenate(halves, axis=1), sharpness


def normalize(plane: Plane) -> tuple[Plane, Plane]:
    """Return (I - mean) / (deviation + 1) and the deviation, both local and Gaussian-weighted."""
    mean = _blur(plane)
    # rounding may leave a variance just under zero where a picture is flat
    deviation = np.sqrt(np.abs(_blur(plane * plane) - mean**2))
    return (plane - mean) / (deviation + 1), deviation


def _features(patch: Plane) -> list[float]:
    shape, left, right = fit_asymmetric(patch)
    found = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = fit_asymmetric(patch * np.roll(patch, shift, axis=(0, 1)))
        mean = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
        found += [shape, mean, left, right]
    return found


def fit_asymmetric(values: Plane) -> tuple[float, float, float]:
    """Fit an asymmetric generalized Gaussian by moments (Lasmar et al. 2009).

    Returns:
        Its shape (2 is Gaussian, 1 Laplacian) and the scales of its left and right half.
    """
    flat = values.ravel()
    left, right = _root_mean_square(flat[flat < 0]), _root_mean_square(flat[flat > 0])
    ratio = left / right if right > 0 else 1.0
    square = float(np.mean(flat**2))
    moments = float(np.mean(np.abs(flat))) ** 2 / square if square > 0 else 0.0
    target = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, rho = _table()
    shape = float(shapes[np.argmin((rho - target) ** 2)])
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * scale, right * scale


def _root_mean_square(values: Plane) -> float:
    return math.sqrt(float(np.mean(values**2))) if len(values) else 0.0


@lru_cache(maxsize=1)
def _table() -> tuple[Plane, Plane]:
    """Return shapes from 0.2 to 10 and (E|x|)^2 / E x^2 of each."""
    shapes = np.arange(0.2, 10.0005, 0.001)
    gamma = math.gamma
    rho = [gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape)) for shape in shapes]
    return shapes, np.array(rho)


def _patches(plane: Plane, side: int) -> npt.NDArray[np.float64]:
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    grid = plane.reshape(rows, side, columns, side).swapaxes(1, 2)
    return grid.reshape(-1, side, side)


def _blur(plane: Plane) -> Plane:
    """Filter with a 7x7 Gaussian, edges repeated; the same size."""
    x = np.arange(WINDOW_PX) - WINDOW_PX // 2
    kernel = np.exp(-(x**2) / (2 * WINDOW_SIGMA_PX**2))
    kernel /= kernel.sum()
    padded = np.pad(plane, WINDOW_PX // 2, mode="edge")
    rows = sliding_window_view(padded, WINDOW_PX, axis=0) @ kernel
    blurred: Plane = sliding_window_view(rows, WINDOW_PX, axis=1) @ kernel
    return blurred
