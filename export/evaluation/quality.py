"""Evaluate quality against ground truth, and the loss of INT8."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from export.evaluation.parity import (
    LIMITS,
    Limits,
    Parity,
    by_reference,
    drawn_pictures,
    fit,
    flat_patches,
    measure,
)
from export.protocol import Batch, Facts, Run, Source
from training.data.batches import degraded
from training.data.color import in_channels, with_luma
from training.data.corruption import versions_of
from training.data.pictures import Pair, load_pairs
from training.data.resize import Picture
from training.evaluation.evaluate import score
from training.evaluation.metrics import psnr_y

log = logging.getLogger(__name__)

Scores = MappingProxyType[str, MappingProxyType[str, float]]

MAX_LOSS_DB = MappingProxyType({"cpu": {2: 0.06, 4: 0.03}, "gpu": {2: 0.15, 4: 0.10}})
"""By flavour and scale; other scales use the limit of x4. Signed activations lose one bit."""
FOREIGN_PATCH_LSB = 8
"""Limit inside flat patches for third-party networks: realesr-animevideov3 reaches 6."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluate files on pictures that were not used for calibration."""

    facts: Facts
    """Properties of the network."""
    reference: Run
    """The float32 network."""
    tests: Mapping[str, Sequence[Pair]]
    """Ground truth by test set and degradation of the inputs, such as `Set5 noise 25`."""
    pictures: Sequence[Batch]
    """Pictures for parity."""
    patches: Sequence[Batch]
    """Flat patches for parity."""

    @classmethod
    def of(
        cls, source: Source, folders: Sequence[Path], validation: Sequence[Picture] = ()
    ) -> Evaluator:
        """Load the test sets.

        Args:
            source: the network.
            folders: folders of ground truth.
            validation: (H, W, C) crops of real pictures for parity.

        Raises:
            DataError: a folder is missing or holds no picture.
        """
        f = source.facts
        # a fixed size cannot take whole pictures
        repairs = f.scale > 1 or f.damage.on
        scored = f.size_px is None and repairs
        if folders and not scored:
            log.warning(
                "--test needs a network of any input size that upscales, or that repairs the "
                "damage of its training recipe; this network is not scored"
            )
        tests = {folder.name: load_pairs(folder, f.scale) for folder in folders if scored}
        pictures = drawn_pictures(f.channels, f.multiple_px, f.size_px)
        for crop in validation:
            batch = fit(in_channels(crop, f.channels), f.multiple_px, f.size_px)
            if batch is not None:
                pictures.append(batch)
        patches = flat_patches(f.channels, f.multiple_px, f.size_px)
        versions = versions_of(tests, f.damage)
        if f.degradation.kind != "bicubic":
            for name, pairs in tests.items():
                made = degraded(list(pairs), f.scale, f.degradation)
                versions[f"{name} {f.degradation.kind}"] = made
        return cls(f, source.reference, versions, pictures, patches)

    def parity(self, run: Run) -> Parity:
        """Measure a file against the float32 network."""
        return measure(run, *self._expected)

    @cached_property
    def _expected(self) -> tuple[list[tuple[Batch, Batch]], list[tuple[Batch, Batch]]]:
        """Pictures and patches with the float32 network's results, computed once."""
        return by_reference(self.reference, self.pictures), by_reference(
            self.reference, self.patches
        )

    def scores(self, run: Run) -> Scores:
        """Return `psnr_y_db` and `ssim_y` by test set."""
        scores = {}
        for name, pairs in self.tests.items():
            result = score(self._one(run), pairs, self.facts.scale)
            values = {"psnr_y_db": round(result.psnr_y_db, 3), "ssim_y": round(result.ssim_y, 4)}
            scores[name] = MappingProxyType(values)
        return MappingProxyType(scores)

    def psnr(self, run: Run) -> dict[str, float]:
        """Return the unrounded luma PSNR by test set, dB."""
        border = self.facts.scale
        one = self._one(run)
        return {
            name: float(np.mean([psnr_y(one(p.lr), p.hr, border_px=border) for p in pairs]))
            for name, pairs in self.tests.items()
        }

    def max_loss_db(self, flavour: str) -> float:
        """Return the largest PSNR loss of INT8 that is allowed on a test set."""
        # third-party networks were not designed for INT8: the wider limit in both forms
        table = MAX_LOSS_DB["gpu" if self.facts.family == "foreign" else flavour]
        return table.get(self.facts.scale, table[4])

    @property
    def limits(self) -> Limits:
        """Parity limits of INT8."""
        if self.facts.family == "foreign":
            return dataclasses.replace(LIMITS["int8"], patch_lsb=FOREIGN_PATCH_LSB)
        return LIMITS["int8"]

    def _one(self, run: Run) -> Callable[[Picture], Picture]:
        """Return a function that upscales one picture, padded to the multiple as in the runtime."""
        multiple, scale = self.facts.multiple_px, self.facts.scale

        def upscale(lr: Picture) -> Picture:
            height, width = lr.shape[:2]
            pad = [(0, -height % multiple), (0, -width % multiple), (0, 0)]
            batch = np.pad(lr, pad, mode="reflect")[None]
            return run(batch)[0, : height * scale, : width * scale]

        if self.facts.channels == 1:
            return lambda rgb: with_luma(upscale, rgb)
        return upscale


def problems(
    parity: Parity, limits: Limits, losses_db: Mapping[str, float], max_loss_db: float
) -> list[str]:
    """Describe every limit that an INT8 graph exceeds; empty: none."""
    found = [
        f"{name} loses {loss:.3f} dB (allowed: {max_loss_db})"
        for name, loss in losses_db.items()
        if loss > max_loss_db
    ]
    if parity.shift_lsb > limits.shift_lsb:
        found.append(
            f"a channel's mean shifts by {parity.shift_lsb:.3f} LSB (allowed: {limits.shift_lsb})"
        )
    if parity.patch_lsb > limits.patch_lsb:
        found.append(f"flat patches differ by {parity.patch_lsb} LSB (allowed: {limits.patch_lsb})")
    if parity.psnr_db is not None and parity.psnr_db < limits.psnr_db:
        found.append(f"pictures agree to {parity.psnr_db:.1f} dB (allowed: {limits.psnr_db})")
    return found
