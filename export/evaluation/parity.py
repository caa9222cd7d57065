"""Parity gate: compare an exported file with its float32 network, with limits per precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import GateError
from export.protocol import Batch, Run
from training.data.resize import Picture

Pair = tuple[Batch, Batch]
"""A batch and its expected result."""

SIZES = ((64, 64), (37, 53), (24, 40))
PATCH_PX = 24
LEVELS = (0, 1, 64, 128, 200, 254, 255)
SATURATED = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0))


@dataclass(frozen=True)
class Parity:
    """Difference between a file's uint8 output and the float32 network's."""

    max_lsb: int
    """Largest difference on pictures, in levels of 255."""
    fraction: float
    """Share of samples that differ."""
    psnr_db: float | None
    """PSNR between the two, dB; None: they are equal."""
    shift_lsb: float
    """Largest shift of a channel's mean over all pictures (a color cast)."""
    patch_lsb: int
    """Largest difference inside flat patches: black, white, grays, saturated colors."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """Largest allowed differences."""

    max_lsb: int
    fraction: float
    psnr_db: float
    shift_lsb: float
    patch_lsb: int


LIMITS = MappingProxyType(
    {
        "fp32": Limits(max_lsb=1, fraction=1e-4, psnr_db=80, shift_lsb=0.01, patch_lsb=1),
        # 60 dB are 6.5 % of samples off by 1 LSB
        "fp16": Limits(max_lsb=2, fraction=0.07, psnr_db=60, shift_lsb=0.05, patch_lsb=1),
        # INT8 is also limited by its loss on test sets (`export.quantization.mixed_precision`)
        "int8": Limits(max_lsb=255, fraction=1.0, psnr_db=30, shift_lsb=0.2, patch_lsb=2),
    }
)
"""Limits by precision."""


def measure(run: Run, pictures: Sequence[Pair], patches: Sequence[Pair]) -> Parity:
    """Compare a file with its source network.

    Args:
        run: the file.
        pictures: each (N, H, W, C) uint8, with the float32 network's result.
        patches: the same for pictures of a single color.
    """
    differences = [_difference(run(p), wanted) for p, wanted in pictures]
    flat = np.concatenate([d.ravel() for d in differences])
    mean_square = float(np.mean(flat.astype(np.float64) ** 2))
    channels = np.concatenate([d.reshape(-1, d.shape[-1]) for d in differences])
    inside = [_center(_difference(run(p), wanted)) for p, wanted in patches]
    return Parity(
        int(np.abs(flat).max()),
        float(np.mean(flat != 0)),
        10 * float(np.log10(255**2 / mean_square)) if mean_square else None,
        float(np.abs(channels.mean(axis=0)).max()),
        int(np.abs(np.concatenate([d.ravel() for d in inside])).max()),
    )


def by_reference(reference: Run, batches: Sequence[Batch]) -> list[Pair]:
    """Return each batch with the float32 network's result."""
    return [(batch, reference(batch)) for batch in batches]


def check(parity: Parity, precision: str, what: str) -> None:
    """Check a measurement against the limits of its precision.

    Raises:
        GateError: lists every number that exceeds its limit.
    """
    limits = LIMITS[precision]
    psnr_db = float("inf") if parity.psnr_db is None else parity.psnr_db
    findings = [
        (parity.max_lsb > limits.max_lsb, f"differ by up to {parity.max_lsb} LSB", limits.max_lsb),
        (
            parity.fraction > limits.fraction,
            f"differ on {parity.fraction:.4%} of samples",
            f"{limits.fraction:.2%}",
        ),
        (psnr_db < limits.psnr_db, f"agree to {psnr_db:.1f} dB", limits.psnr_db),
        (
            parity.shift_lsb > limits.shift_lsb,
            f"differ in a channel's mean by {parity.shift_lsb:.3f} LSB",
            limits.shift_lsb,
        ),
        (
            parity.patch_lsb > limits.patch_lsb,
            f"differ by {parity.patch_lsb} LSB inside flat patches",
            limits.patch_lsb,
        ),
    ]
    wrong = [f"{text} (allowed: {limit})" for failed, text, limit in findings if failed]
    if wrong:
        raise GateError(f"parity: {what} and the float32 network {', '.join(wrong)}")


def drawn_pictures(
    channels: int, multiple_px: int, size_px: tuple[int, int] | None, *, seed: int = 0
) -> list[Batch]:
    """Return synthetic pictures, a smooth ramp with noise: three sizes and one batch of three.

    They hold flat areas, dark and bright levels, and every frequency.
    """
    sizes = (size_px,) if size_px else SIZES
    batches = [
        _synthetic(1, *_fitted(size, multiple_px), channels, seed + index)
        for index, size in enumerate(sizes)
    ]
    if size_px is None:
        batches.append(_synthetic(3, *_fitted(SIZES[2], multiple_px), channels, seed + 9))
    return batches


def flat_patches(channels: int, multiple_px: int, size_px: tuple[int, int] | None) -> list[Batch]:
    """Return flat patches of black, white, grays and saturated colors, batched if sizes allow."""
    height, width = size_px or _fitted((PATCH_PX, PATCH_PX), multiple_px)
    colors = [(level,) * channels for level in LEVELS]
    if channels == 3:
        colors += SATURATED
    flat = np.asarray(colors, np.uint8)[:, None, None, :]
    patches = np.ascontiguousarray(np.broadcast_to(flat, (len(colors), height, width, channels)))
    return [patches] if size_px is None else list(patches[:, None])


def fit(picture: Picture, multiple_px: int, size_px: tuple[int, int] | None) -> Batch | None:
    """Crop (H, W, C) to a size that the network accepts, as a batch of one; None: too small."""
    if size_px is not None:
        height, width = size_px
    else:
        height, width = (side - side % multiple_px for side in picture.shape[:2])
    if min(height, width) < 1 or height > picture.shape[0] or width > picture.shape[1]:
        return None
    return np.ascontiguousarray(picture[None, :height, :width])


def _difference(got: Batch, expected: Batch) -> npt.NDArray[np.int16]:
    if got.shape != expected.shape:
        raise GateError(f"parity: the file returns {got.shape}, the network {expected.shape}")
    return got.astype(np.int16) - expected


def _center(difference: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Crop the border, where zero padding makes the patch uneven."""
    height, width = (side // 4 for side in difference.shape[1:3])
    return difference[:, height:-height, width:-width]


def _fitted(size_px: tuple[int, int], multiple_px: int) -> tuple[int, int]:
    height, width = (-(-side // multiple_px) * multiple_px for side in size_px)
    return height, width


def _synthetic(count: int, height: int, width: int, channels: int, seed: int) -> Batch:
    random = np.random.default_rng(seed)
    shape = (count, height, width, channels)
    ramp = np.linspace(0, 255, width)[None, None, :, None] * np.ones(shape)
    noise = random.normal(0, 40, shape) * (np.arange(height) > height // 3)[None, :, None, None]
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)
