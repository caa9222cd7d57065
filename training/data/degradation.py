"""Degrade high-resolution patches to low-resolution ones: bicubic, or a real-world model.

The real-world model is the second-order one of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833,
sections 3.1 to 3.4): blur, resize, noise and JPEG, all of it twice, with sinc filters for ringing.
Randomness comes from the caller's generator alone.
"""

from __future__ import annotations

import io
import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from training.data import kernels
from training.data.pictures import DataError
from training.data.resize import Picture, imresize
from training.recipe.data import DegradationRecipe, StageRecipe

Floats: TypeAlias = npt.NDArray[np.float32]
Kernel: TypeAlias = npt.NDArray[np.float64]

PHOTONS = 256
"""Photons counted at white."""
RESIZERS = ("area", "bilinear", "bicubic")


def reduce(
    hr: Picture, scale: int, recipe: DegradationRecipe, random: np.random.Generator
) -> Picture:
    """Make the low-resolution counterpart of a patch.

    Args:
        hr: (H, W, 3) uint8, sides divisible by `scale`.
        scale: factor of the reduction; 1 degrades without reducing.
        recipe: the kind of degradation and its ranges.
        random: source of all randomness; not used by `bicubic` and `gaussian`.

    Returns:
        (H / scale, W / scale, 3) uint8.
    """
    if recipe.kind == "bicubic":
        return hr if scale == 1 else imresize(hr, 1 / scale)
    if recipe.kind == "gaussian":
        kernel = kernels.Kernel(recipe.sigma_px, recipe.angle_deg)
        return kernels.reduce(hr, kernels.taps(kernel, scale), scale)
    if recipe.kind == "estimated":
        raise DataError("the blur kernel is not known yet: kernel_estimation.with_estimate")
    return _realworld(hr, scale, recipe, random)


def _realworld(
    hr: Picture, scale: int, recipe: DegradationRecipe, random: np.random.Generator
) -> Picture:
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    x = hr.astype(np.float32)
    x = _blurred(x, recipe.first, recipe.kernel_px, random)
    factor = _factor(recipe.first, random)
    x = _resized(x, hr.shape[0] * factor, hr.shape[1] * factor, random)
    x = jpeg(_noisy(x, recipe.first, random), _quality(recipe.first, random))
    x = _blurred(x, recipe.second, recipe.kernel_px, random)
    factor = _factor(recipe.second, random)
    x = _noisy(_resized(x, height * factor, width * factor, random), recipe.second, random)
    quality = _quality(recipe.second, random)
    # the paper shuffles the last two: a sinc filter after JPEG rings along its blocks
    if random.uniform() < 0.5:
        x = jpeg(_finished(x, height, width, recipe, random), quality)
    else:
        x = _finished(jpeg(x, quality), height, width, recipe, random)
    return _rounded(x)


def _finished(
    x: Floats, height: int, width: int, recipe: DegradationRecipe, random: np.random.Generator
) -> Floats:
    """Resize to the final size; at random, apply a sinc filter."""
    x = _resized(x, height, width, random)
    if random.uniform() < recipe.final_sinc:
        side = _odd(recipe.kernel_px, random)
        x = convolve(x, sinc_kernel(side, random.uniform(math.pi / 3, math.pi)))
    return x


def _blurred(
    x: Floats, stage: StageRecipe, kernel_px: tuple[int, int], random: np.random.Generator
) -> Floats:
    if random.uniform() >= stage.blur:
        return x
    side = _odd(kernel_px, random)
    if random.uniform() < stage.sinc:
        # a small kernel cannot hold a low cut-off
        lowest = math.pi / 3 if side < 13 else math.pi / 5
        return convolve(x, sinc_kernel(side, random.uniform(lowest, math.pi)))
    return convolve(x, _random_kernel(side, stage, random))


def _random_kernel(side: int, stage: StageRecipe, random: np.random.Generator) -> Kernel:
    weights = np.array(stage.kernels)
    kind = int(random.choice(6, p=weights / weights.sum()))
    sigma_x = random.uniform(*stage.blur_sigma_px)
    sigma_y = random.uniform(*stage.blur_sigma_px) if kind % 2 else sigma_x
    angle = random.uniform(-math.pi, math.pi) if kind % 2 else 0.0
    if kind < 2:
        return gaussian_kernel(side, sigma_x, sigma_y, angle)
    if kind < 4:
        shape = _around_one(stage.generalized_shape, random)
        return gaussian_kernel(side, sigma_x, sigma_y, angle, shape=shape)
    shape = _around_one(stage.plateau_shape, random)
    return gaussian_kernel(side, sigma_x, sigma_y, angle, shape=shape, plateau=True)


def _around_one(bounds: tuple[float, float], random: np.random.Generator) -> float:
    """Draw below 1 and above 1 equally often, if the range includes both."""
    low, high = bounds
    if low < 1 < high:
        low, high = (low, 1.0) if random.uniform() < 0.5 else (1.0, high)
    return float(random.uniform(low, high))


def _odd(bounds: tuple[int, int], random: np.random.Generator) -> int:
    return 2 * int(random.integers(bounds[0] // 2, bounds[1] // 2 + 1)) + 1


def gaussian_kernel(
    side: int,
    sigma_x: float,
    sigma_y: float,
    angle: float = 0.0,
    *,
    shape: float = 1.0,
    plateau: bool = False,
) -> Kernel:
    """Return a blur kernel, (side, side), that sums to 1.

    With q = u^T S^-1 u for the covariance S of the two sigmas turned by `angle` (radians), the
    value is exp(-q^shape / 2), a generalized Gaussian, or 1 / (1 + q^shape), a plateau (Liu et al.
    2020, "Estimating generalized Gaussian blur kernels for out-of-focus image deblurring").
    """
    axis = np.arange(side) - (side - 1) / 2
    x, y = axis[None, :], axis[:, None]
    along = (x * math.cos(angle) + y * math.sin(angle)) / sigma_x
    across = (y * math.cos(angle) - x * math.sin(angle)) / sigma_y
    q = (along**2 + across**2) ** shape
    kernel: Kernel = 1 / (1 + q) if plateau else np.exp(-0.5 * q)
    kernel /= kernel.sum()
    return kernel


def sinc_kernel(side: int, cutoff: float) -> Kernel:
    """Return the circular low-pass kernel, (side, side), of a cut-off in radians per pixel.

    k(r) = c / (2 pi r) * J1(c r), the 2-D transform of a disc of radius c (section 3.4).
    """
    axis = np.arange(side) - (side - 1) / 2
    r = np.hypot(axis[None, :], axis[:, None])
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * r)).numpy()
    at_center = cutoff**2 / (4 * math.pi)
    kernel = np.where(r == 0, at_center, cutoff * bessel / (2 * math.pi * np.maximum(r, 1e-9)))
    kernel /= kernel.sum()
    return kernel


def convolve(x: Floats, kernel: Kernel) -> Floats:
    """Convolve each channel of (H, W, C) with a kernel, the border mirrored; the same size.

    Uses the Fourier transform: 21x21 taps cost as much as 7x7.
    """
    radius = kernel.shape[0] // 2
    padded = np.pad(x, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(kernel.astype(np.float32), size)[..., None]
    full = np.fft.irfft2(np.fft.rfft2(padded, axes=(0, 1)) * spectrum, size, axes=(0, 1))
    valid: Floats = full[2 * radius :, 2 * radius :].astype(np.float32)
    return valid


def _factor(stage: StageRecipe, random: np.random.Generator) -> float:
    weights = np.array(stage.resize)
    kind = int(random.choice(3, p=weights / weights.sum()))
    low, high = stage.resize_range
    if kind == 2:
        return 1.0
    bounds = (max(1.0, low), max(1.0, high)) if kind == 0 else (min(1.0, low), min(1.0, high))
    return float(random.uniform(*bounds))


def _resized(x: Floats, height: float, width: float, random: np.random.Generator) -> Floats:
    """Resize by a random method, without antialiasing except for `area`, like the paper's code."""
    size = (max(1, round(height)), max(1, round(width)))
    mode = RESIZERS[int(random.integers(len(RESIZERS)))]
    if size == x.shape[:2]:
        return x
    tensor = torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
    aligned = {} if mode == "area" else {"align_corners": False}
    done: Floats = F.interpolate(tensor, size, mode=mode, **aligned)[0].permute(1, 2, 0).numpy()
    return done


def _noisy(x: Floats, stage: StageRecipe, random: np.random.Generator) -> Floats:
    gray = random.uniform() < stage.gray_noise
    if random.uniform() < stage.gaussian:
        return gaussian_noise(x, random.uniform(*stage.gaussian_sigma), gray=gray, random=random)
    return poisson_noise(x, random.uniform(*stage.poisson_scale), gray=gray, random=random)


def gaussian_noise(x: Floats, sigma: float, *, gray: bool, random: np.random.Generator) -> Floats:
    """Add Gaussian noise of `sigma` levels to (H, W, 3); the same for all channels if `gray`."""
    shape = (*x.shape[:2], 1 if gray else x.shape[2])
    return np.clip(x + sigma * random.standard_normal(shape, np.float32), 0, 255)


def poisson_noise(x: Floats, scale: float, *, gray: bool, random: np.random.Generator) -> Floats:
    """Add `scale` times Poisson noise, with 256 photons at white.

    If `gray`, the noise of the luma is added to all channels. The paper's code uses the number of
    different levels in the patch instead of 256, which is about the same for a detailed patch, but
    buries a flat one in noise.
    """
    x = np.clip(x, 0, 255)
    clean = np.round(x @ np.array([[0.299], [0.587], [0.114]], np.float32) if gray else x)
    noise = random.poisson(clean / 255 * PHOTONS).astype(np.float32) / PHOTONS * 255 - clean
    return np.clip(x + scale * noise, 0, 255)


def jpeg(x: Floats, quality: int) -> Floats:
    """Compress and decompress as JPEG with halved chroma."""
    buffer = io.BytesIO()
    Image.fromarray(_rounded(x)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"), np.float32)


def _quality(stage: StageRecipe, random: np.random.Generator) -> int:
    return round(random.uniform(*stage.jpeg_quality))


def _rounded(x: Floats) -> Picture:
    rounded: Picture = np.clip(np.round(x), 0, 255).astype(np.uint8)
    return rounded
