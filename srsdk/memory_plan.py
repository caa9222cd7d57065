"""What a picture will need, before anything is computed: tiles, padding, bytes, does it fit."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from srsdk.boundary import Boundary
from srsdk.engines import Engine
from srsdk.errors import OutOfMemoryError, UsageError
from srsdk.manifest import Manifest
from srsdk.pool import Shape
from srsdk.tiles import balanced_tile, spans

log = logging.getLogger("srsdk")

TILE_BUDGETS_PX = (512 * 512, 256 * 256, 128 * 128)
"""Largest tiles that `tile="auto"` takes, the next one where the one before ran out of memory:
memory grows with the tile, overlap shrinks."""
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Choice:
    """How one picture is cut."""

    tile_px: tuple[int, int]
    """(height, width) of a tile: the model's input, or the picture where that is smaller."""
    input_shape: Shape
    """The model's input, batch first."""
    area_px: int
    """Of the whole batch."""

    @property
    def batch(self) -> int:
        """Tiles that are computed at once."""
        return self.input_shape[0]


@dataclass(frozen=True)
class MemoryPlan:
    """What one picture will need; see `Upscaler.plan`."""

    tiles: int
    """How many tiles."""
    tile_px: tuple[int, int]
    """(height, width) of a tile as the model takes it."""
    batch: int
    """Tiles that are computed at once."""
    padding_px: tuple[int, int]
    """Rows and columns that are mirrored at the bottom and at the right."""
    slots: int
    """Batches in flight."""
    host_bytes: int
    """Result, padded source, and the slots' inputs and outputs; a CPU backend's own activations,
    which no library tells, are not in it."""
    device_bytes: int
    """What slots have on the GPU and what they share; the weights are there already. 0 on a CPU."""
    free_bytes: int | None
    """Device memory for slots: what is free or held by slots now, at most `max_memory`; None on a
    CPU."""
    is_exact: bool
    """False: what slots share is not in `device_bytes`, the library tells it only as it runs."""

    @property
    def fits(self) -> bool:
        """Whether `device_bytes` is there."""
        return self.free_bytes is None or self.device_bytes <= self.free_bytes


@dataclass
class Planner:
    """Cuts pictures for one engine.

    Args:
        engine: an open engine.
        manifest: what the model says of itself.
        tile: (height, width) that the user wants, or None.
        batch: tiles at once that the user wants, or None.
        budgets_px: areas of tiles to choose from where nothing else says one.

    Raises:
        UsageError: a tile or batch that the model cannot take.
    """

    engine: Engine
    manifest: Manifest
    tile: tuple[int, int] | None
    batch: int | None = None
    budgets_px: tuple[int, ...] = TILE_BUDGETS_PX
    _below_px: int = field(default=1 << 62, init=False)

    def __post_init__(self) -> None:
        m, sizes = self.manifest, self._sizes()
        batches = sorted({n for n, *_ in m.profiles})
        if self.batch is not None and batches and self.batch not in batches:
            raise UsageError(f"batch is {self.batch}, but {m.name} takes batches of {batches} only")
        if self.tile is None:
            return
        if sizes and self.tile not in sizes:
            known = " or ".join(map(str, sizes))
            raise UsageError(f"tile is {self.tile}, but {m.name} accepts {known} only")
        smallest_px = 2 * m.radius_px + m.multiple_px
        if min(self.tile) < smallest_px:
            raise UsageError(
                f"a tile of {min(self.tile)} px is too small: {m.name} needs {m.radius_px} px of "
                f"overlap on each side, so at least {smallest_px} px"
            )

    def choose(self, height: int, width: int) -> Choice:
        """Choose tile and batch for a picture of (height, width), multiples of `multiple_px`.

        Raises:
            OutOfMemoryError: everything smaller was tried before and did not fit.
        """
        found = [c for c in self._choices(height, width) if c.area_px < self._below_px]
        if not found:
            raise OutOfMemoryError(
                f"{self.manifest.name} on {self.engine.device}: there is no smaller tile to try "
                f"for {height}x{width}; free device memory, or export a smaller --tile"
            )
        return min(found, key=lambda c: (self._cost(height, width, c), -c.area_px))

    def choose_smaller(
        self, choice: Choice, height: int, width: int, error: OutOfMemoryError
    ) -> Choice:
        """Return what to try after a choice ran out of memory; it is not tried again.

        Raises:
            OutOfMemoryError: the same, where there is nothing smaller.
        """
        self._below_px = min(self._below_px, choice.area_px)
        try:
            smaller = self.choose(height, width)
        except OutOfMemoryError as nothing:
            raise OutOfMemoryError(f"{error}; {nothing}") from error
        log.warning(
            "%s; goes on with inputs of %s instead of %s",
            error,
            _sizes_text(smaller.input_shape),
            _sizes_text(choice.input_shape),
        )
        return smaller

    def plan(self, height: int, width: int, slots: Callable[[Shape], int]) -> MemoryPlan:
        """Say what a picture will need; `slots` tells how many of a shape there may be."""
        m = self.manifest
        step = m.multiple_px
        padded = -(-height // step) * step, -(-width // step) * step
        choice = self.choose(*padded)
        count = self._count(*padded, choice)
        batches = -(-count // choice.batch)
        in_flight = min(slots(choice.input_shape), batches)
        item_bytes = np.dtype(m.dtype).itemsize
        slot_bytes = math.prod(choice.input_shape) * item_bytes * (1 + m.scale**2)
        pixels = padded[0] * padded[1] * m.channels
        source_bytes = pixels if padded != (height, width) else 0
        memory = self.engine.device_memory(choice.input_shape)
        shared_bytes = (memory.shared_bytes if memory else 0) or 0
        input_px = self._input_px(choice)
        return MemoryPlan(
            tiles=count,
            tile_px=input_px,
            batch=choice.batch,
            padding_px=(
                padded[0] - height + max(0, input_px[0] - padded[0]),
                padded[1] - width + max(0, input_px[1] - padded[1]),
            ),
            slots=in_flight,
            host_bytes=pixels * m.scale**2 + source_bytes + in_flight * slot_bytes,
            device_bytes=in_flight * slot_bytes + shared_bytes if memory else 0,
            free_bytes=memory.free_bytes if memory else None,
            is_exact=memory is None or memory.shared_bytes is not None,
        )

    def count(self, height: int, width: int) -> int:
        """Return the tiles of a picture of (height, width)."""
        step = self.manifest.multiple_px
        padded = -(-height // step) * step, -(-width // step) * step
        return self._count(*padded, self.choose(*padded))

    def _choices(self, height: int, width: int) -> Iterator[Choice]:
        m = self.manifest
        if sizes := self._sizes():
            for size in [self.tile] if self.tile else sizes:
                for n in self._batches(size):
                    yield self._choice(height, width, size, n)
            return
        if self.tile is not None:
            sides = [-(-side // m.multiple_px) * m.multiple_px for side in self.tile]
            fixed = (min(sides[0], height), min(sides[1], width))
            yield self._choice(height, width, fixed, self.batch or 1)
            return
        for budget_px in self.budgets_px:
            best = balanced_tile(height, width, m.radius_px, budget_px, m.multiple_px)
            choice = self._choice(height, width, best, self.batch or 1)
            yield choice
            if choice.area_px < self._below_px:
                return

    def _choice(self, height: int, width: int, size: tuple[int, int], batch: int) -> Choice:
        shape = Boundary.of(self.manifest).input_shape(size, batch)
        tile_px = (min(size[0], height), min(size[1], width))
        return Choice(tile_px, shape, batch * size[0] * size[1])

    def _sizes(self) -> list[tuple[int, int]]:
        """Return the only (height, width) that the model takes; empty: any."""
        m = self.manifest
        if m.profiles:
            smallest_px = 2 * m.radius_px + m.multiple_px
            sizes = sorted({(height, width) for _, height, width in m.profiles})
            # a size that keeps nothing is of use for small pictures only: not worth a rule
            return [size for size in sizes if min(size) >= smallest_px] or sizes
        return [m.size_px] if m.size_px else []

    def _batches(self, size: tuple[int, int]) -> list[int]:
        found = [n for n, height, width in self.manifest.profiles if (height, width) == size]
        if self.batch is not None:
            return [self.batch]
        return sorted(set(found)) or [1]

    def _count(self, height: int, width: int, choice: Choice) -> int:
        m = self.manifest
        rows, columns = (
            len(spans(side, tile, m.radius_px, m.multiple_px))
            for side, tile in zip((height, width), choice.tile_px, strict=True)
        )
        return rows * columns

    def _cost(self, height: int, width: int, choice: Choice) -> int:
        """Return the pixels that are computed."""
        return -(-self._count(height, width, choice) // choice.batch) * choice.area_px

    def _input_px(self, choice: Choice) -> tuple[int, int]:
        shape = choice.input_shape
        return shape[2:] if self.manifest.layout == "NCHW" else shape[1:3]


def parse_bytes(text: int | str | None) -> int | None:
    """Return bytes of a number or of a text such as `2GB` or `512 MiB`.

    Raises:
        UsageError: neither.
    """
    if text is None or (isinstance(text, int) and not isinstance(text, bool) and text > 0):
        return text
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", str(text).lower())
    if isinstance(text, str) and match and match[2] in _UNITS and float(match[1]) > 0:
        return int(float(match[1]) * _UNITS[match[2]])
    raise UsageError(f"max_memory is {text!r}, expected bytes or a text such as '2GB' or '512MiB'")


def checked_tile(tile: object) -> tuple[int, int] | None:
    """Return (height, width), or None for `auto`."""
    if tile == "auto":
        return None
    pair = (tile, tile) if isinstance(tile, int) else tile
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise UsageError(f"tile is {tile!r}, expected pixels, (height, width) or 'auto'")
    return positive("tile", pair[0]), positive("tile", pair[1])


def positive(name: str, value: object) -> int:
    """Return a whole number above 0, or raise `UsageError`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}, expected a positive whole number")
    return value


def _sizes_text(shape: Shape) -> str:
    return "x".join(map(str, shape))
