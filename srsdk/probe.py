"""The probe of a model file: a small picture, and what the float32 network makes of it.

The picture is computed from whole numbers, so it is the same bytes on every machine, and only some
samples of the network's output are kept: enough for a PSNR and a largest difference, and small
enough for the 4,096 characters that an engine has for its manifest.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLES = 512
"""Of the output: their PSNR is that of the whole picture within about 0.5 dB."""
EQUAL_DB = 99.0
"""Stands for the PSNR of two equal pictures."""


@dataclass(frozen=True)
class Agreement:
    """How far a result is from the float32 network's, over the probe's samples."""

    psnr_db: float
    """With a peak of 255; `EQUAL_DB` where they are equal."""
    max_lsb: int
    """Largest difference, levels of 255."""

    def __str__(self) -> str:
        return f"{self.psnr_db:.1f} dB and {self.max_lsb} levels from the float32 network"


@dataclass(frozen=True)
class Probe:
    """What a file promises on the probe's picture, whichever machine runs it."""

    size_px: tuple[int, int]
    """(height, width) of the picture."""
    samples: str
    """Levels of the float32 network's output at `positions`, one byte each, in base64."""
    min_psnr_db: float
    """The file holds at least this against them."""
    max_lsb: int
    """And no sample differs by more, levels of 255."""

    @classmethod
    def of(
        cls, size_px: tuple[int, int], wanted: npt.NDArray[np.uint8], min_psnr_db: float, lsb: int
    ) -> Probe:
        """Keep samples of `wanted`, the float32 network's (H * scale, W * scale, C) uint8."""
        levels = wanted.ravel()[positions(wanted.size)]
        text = base64.b64encode(levels.tobytes()).decode("ascii")
        return cls(size_px, text, round(min_psnr_db, 2), lsb)

    @classmethod
    def parse(cls, value: Any) -> Probe:
        """Read what `to_dict` gave.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        height, width = value["size_px"]
        numbers = (height, width, value["max_lsb"])
        if not all(type(number) is int and 0 <= number <= 4096 for number in numbers):
            raise ValueError("a size and a number of levels are whole numbers")
        if len(value) != 4 or min(height, width) < 1:
            raise ValueError("four values and a size above 0")
        probe = cls((height, width), value["samples"], float(value["min_psnr_db"]), numbers[2])
        if not len(probe._levels()):
            raise ValueError("no samples")
        return probe

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def compare(self, output: npt.NDArray[np.uint8]) -> Agreement:
        """Hold an output (H * scale, W * scale, C) uint8 against the float32 network's samples."""
        got, wanted = output.ravel()[positions(output.size)], self._levels()
        # a manifest may hold fewer samples than there could be, or more
        count = min(len(got), len(wanted))
        got, wanted = got[:count], wanted[:count]
        return Agreement(psnr_db(got, wanted), int(np.abs(got.astype(np.int16) - wanted).max()))

    def holds(self, agreement: Agreement) -> bool:
        """Say whether an agreement is what the file promises."""
        return agreement.psnr_db >= self.min_psnr_db and agreement.max_lsb <= self.max_lsb

    def _levels(self) -> npt.NDArray[np.uint8]:
        try:
            return np.frombuffer(base64.b64decode(self.samples, validate=True), np.uint8)
        except binascii.Error as error:
            raise ValueError(f"samples are not base64: {error}") from error


def psnr_db(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Return the PSNR between two arrays of levels, dB; `EQUAL_DB` where they are equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return EQUAL_DB if error == 0 else 10 * float(np.log10(255**2 / error))


def positions(size: int) -> npt.NDArray[np.intp]:
    """Return which of `size` output samples are kept: spread over all of them, always the same."""
    count = min(SAMPLES, size)
    # multiples of the golden ratio spread evenly (Knuth, The Art of Computer Programming, 6.4)
    return (np.arange(count, dtype=np.uint64) * np.uint64(2654435769) % np.uint64(size)).astype(
        np.intp
    )


def picture(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return the probe's (height, width, channels) uint8 picture.

    A third each of noise over all levels, of hard edges between dark and light, and of a ramp: what
    drives a network's values, and so its integers, to their limits.
    """
    y, x, c = np.indices((height, width, channels), np.uint32)
    noise = _hashed(x + y * np.uint32(width) + c * np.uint32(height * width)) & np.uint32(255)
    blocks = _hashed(x // 3 + y // 3 * np.uint32(8191) + c) % np.uint32(2) * np.uint32(255)
    ramp = (x * np.uint32(255) // np.uint32(max(1, width - 1)) + c * np.uint32(64)) & np.uint32(255)
    part = y * np.uint32(3) // np.uint32(height)
    levels: npt.NDArray[np.uint8] = np.choose(part, (noise, blocks, ramp)).astype(np.uint8)
    return levels


def _hashed(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Mix the bits of whole numbers (Marsaglia 2003, "Xorshift RNGs")."""
    mixed: npt.NDArray[np.uint32] = values * np.uint32(2654435769) + np.uint32(1)
    for left, right in ((13, 17), (5, 9)):
        mixed ^= mixed << np.uint32(left)
        mixed ^= mixed >> np.uint32(right)
    mixed >>= np.uint32(8)
    return mixed
