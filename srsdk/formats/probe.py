"""Probe of a model file: a small test picture and samples of the float32 network's output.

The picture is computed with integers, so its bytes are the same on every machine. Only some samples
of the network's output are stored: enough for a PSNR and a largest difference, and few enough for
the 4,096 characters that an engine has for its manifest.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLES = 512
"""Output samples stored; their PSNR is within about 0.5 dB of the whole picture's."""
MAX_SAMPLES_CHARACTERS = 1 << 13
EQUAL_DB = 99.0
"""Reported as the PSNR of two equal pictures."""


@dataclass(frozen=True)
class Agreement:
    """Difference between a result and the float32 network's, over the probe's samples."""

    psnr_db: float
    """PSNR with a peak of 255; `EQUAL_DB` if they are equal."""
    max_lsb: int
    """Largest difference, in levels of 255."""

    def __str__(self) -> str:
        return f"{self.psnr_db:.1f} dB and {self.max_lsb} levels from the float32 network"


@dataclass(frozen=True)
class Probe:
    """Accuracy that a model file guarantees on the probe's picture, on every machine."""

    size_px: tuple[int, int]
    """(height, width) of the picture."""
    samples: str
    """Levels of the float32 network's output at `positions`, one byte each, in base64."""
    min_psnr_db: float
    """Lowest allowed PSNR against the samples."""
    max_lsb: int
    """Largest allowed difference of a sample, in levels of 255."""

    @classmethod
    def of(
        cls, size_px: tuple[int, int], wanted: npt.NDArray[np.uint8], min_psnr_db: float, lsb: int
    ) -> Probe:
        """Sample `wanted`, the float32 network's output, (H * scale, W * scale, C) uint8."""
        levels = wanted.ravel()[positions(wanted.size)]
        text = base64.b64encode(levels.tobytes()).decode("ascii")
        return cls(size_px, text, round(min_psnr_db, 2), lsb)

    @classmethod
    def parse(cls, value: Any) -> Probe:
        """Parse the result of `to_dict`.

        Raises:
            ValueError, TypeError, KeyError: the value has another form.
        """
        height, width = value["size_px"]
        numbers = (height, width, value["max_lsb"])
        if not all(type(number) is int and 0 <= number <= 4096 for number in numbers):
            raise ValueError("size_px and max_lsb must be whole numbers from 0 to 4096")
        if len(value) != 4 or min(height, width) < 1:
            raise ValueError("expected four values and a size above 0")
        if len(value["samples"]) > MAX_SAMPLES_CHARACTERS:
            raise ValueError(f"samples have more than {MAX_SAMPLES_CHARACTERS} characters")
        # NaN and negative values would accept any result
        lowest_db = value["min_psnr_db"]
        if type(lowest_db) not in (int, float) or not 0 <= lowest_db <= EQUAL_DB:
            raise ValueError(f"min_psnr_db must be a number from 0 to {EQUAL_DB:g}")
        probe = cls((height, width), value["samples"], float(lowest_db), numbers[2])
        if not len(probe._levels()):
            raise ValueError("no samples")
        return probe

    def to_dict(self) -> dict[str, Any]:
        """Return a dict of plain values."""
        return asdict(self)

    def compare(self, output: npt.NDArray[np.uint8]) -> Agreement:
        """Compare an output (H * scale, W * scale, C) uint8 with the float32 network's samples."""
        got, wanted = output.ravel()[positions(output.size)], self._levels()
        # a manifest may hold fewer or more samples than the output provides
        count = min(len(got), len(wanted))
        got, wanted = got[:count], wanted[:count]
        return Agreement(psnr_db(got, wanted), int(np.abs(got.astype(np.int16) - wanted).max()))

    def holds(self, agreement: Agreement) -> bool:
        """Return whether an agreement meets the guaranteed accuracy."""
        return agreement.psnr_db >= self.min_psnr_db and agreement.max_lsb <= self.max_lsb

    def _levels(self) -> npt.NDArray[np.uint8]:
        try:
            return np.frombuffer(base64.b64decode(self.samples, validate=True), np.uint8)
        except binascii.Error as error:
            raise ValueError(f"samples are not base64: {error}") from error


def psnr_db(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Return the PSNR between two arrays of levels in dB; `EQUAL_DB` if they are equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return EQUAL_DB if error == 0 else 10 * float(np.log10(255**2 / error))


def positions(size: int) -> npt.NDArray[np.intp]:
    """Return the indexes of the stored samples out of `size`: evenly spread, always the same."""
    count = min(SAMPLES, size)
    # multiples of the golden ratio spread evenly (Knuth, The Art of Computer Programming, 6.4)
    return (np.arange(count, dtype=np.uint64) * np.uint64(2654435769) % np.uint64(size)).astype(
        np.intp
    )


def picture(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return the probe's (height, width, channels) uint8 picture.

    One third each is noise over all levels, hard edges between dark and light, and a ramp: they
    drive a network's activations, and so its integers, to their limits.
    """
    y, x, c = np.indices((height, width, channels), np.uint32)
    noise = _hashed(x + y * np.uint32(width) + c * np.uint32(height * width)) & np.uint32(255)
    blocks = _hashed(x // 3 + y // 3 * np.uint32(8191) + c) % np.uint32(2) * np.uint32(255)
    ramp = (x * np.uint32(255) // np.uint32(max(1, width - 1)) + c * np.uint32(64)) & np.uint32(255)
    part = y * np.uint32(3) // np.uint32(height)
    levels: npt.NDArray[np.uint8] = np.choose(part, (noise, blocks, ramp)).astype(np.uint8)
    return levels


def _hashed(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Hash integers by mixing their bits (Marsaglia 2003, "Xorshift RNGs")."""
    mixed: npt.NDArray[np.uint32] = values * np.uint32(2654435769) + np.uint32(1)
    for left, right in ((13, 17), (5, 9)):
        mixed ^= mixed << np.uint32(left)
        mixed ^= mixed >> np.uint32(right)
    mixed >>= np.uint32(8)
    return mixed
