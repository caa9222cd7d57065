"""Plan tiles, padding and memory of a picture before anything is computed."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from srsdk.engines.protocol import Engine
from srsdk.errors import OutOfMemoryError, UsageError
from srsdk.inference.global_context.cost import SEE_ALL, expected_db
from srsdk.inference.global_context.whole import WholePictures
from srsdk.inference.slot_pool import Shape
from srsdk.inference.tensor_io import Boundary
from srsdk.inference.tiling import balanced_tile, spans
from srsdk.manifest import Manifest

log = logging.getLogger("srsdk")

TILE_BUDGETS_PX = (512 * 512, 256 * 256, 128 * 128)
"""Largest tile areas for `tile="auto"`; the next one is used if the previous ran out of memory:
a larger tile needs more memory, but less overlap."""
FEW_SIDES_PX = (128, 256, 384, 512)
"""Sides of the square inputs of engines with `few_shapes`; no more than `MAX_IDLE_SHAPES` of the
slot pool. Without 384, pictures of 512 to 2000 px compute up to 8 % more pixels; 64 would save at
most 12,288 of them, for pictures of at most 64 px."""
FEW_TILES_SHARE = 1 / 8
"""Share of pixels that the larger of two squares may compute more: a third fewer tiles, each with
its own launches and copies, for 2 % more pixels (pictures of 512 to 2000 px)."""
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Choice:
    """Tile and batch size for one picture."""

    tile_px: tuple[int, int]
    """(height, width) of a tile: the model's input, or the picture if that is smaller."""
    input_shape: Shape
    """Shape of the model's input, batch first."""
    area_px: int
    """Input area of the whole batch."""

    @property
    def batch(self) -> int:
        """Number of tiles computed at once."""
        return self.input_shape[0]


@dataclass(frozen=True)
class MemoryPlan:
    """Tiles and memory that one picture will need; see `Upscaler.plan`."""

    tiles: int
    """Number of tiles."""
    tile_px: tuple[int, int]
    """(height, width) of the model's input."""
    batch: int
    """Number of tiles computed at once."""
    padding_px: tuple[int, int]
    """Mirrored rows at the bottom and columns at the right."""
    slots: int
    """Number of batches in flight."""
    host_bytes: int
    """Result, padded source, and the slots' inputs and outputs; not a CPU backend's activations,
    which no library reports."""
    device_bytes: int
    """GPU memory of the slots, shared memory included, but not the loaded weights. 0 on a CPU."""
    free_bytes: int | None
    """Device memory for slots: free or held by slots now, at most `max_memory`; None on a CPU."""
    is_exact: bool
    """False: `device_bytes` lacks shared memory, which the library reports only after a run."""
    tiling: str = "exact"
    """Whether these tiles give what the whole picture gives; see `Manifest.tiling`."""
    tiling_db: float | None = None
    """PSNR of these tiles against the whole picture, measured at export on others; None: equal, or
    not measured."""

    @property
    def fits(self) -> bool:
        """Whether `device_bytes` are available."""
        return self.free_bytes is None or self.device_bytes <= self.free_bytes


@dataclass
class Planner:
    """Chooses tiles for one engine and plans memory.

    Args:
        engine: an open engine.
        manifest: the model's manifest.
        tile: (height, width) chosen by the user, or None.
        batch: tiles at once chosen by the user, or None.
        budgets_px: tile areas to choose from if nothing else sets the tile size.

    Raises:
        UsageError: a tile or batch that the model does not accept.
    """

    engine: Engine
    manifest: Manifest
    tile: tuple[int, int] | None
    batch: int | None = None
    budgets_px: tuple[int, ...] = TILE_BUDGETS_PX
    _area_limit_px: int = field(default=1 << 62, init=False)
    _whole: WholePictures | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        m, sizes = self.manifest, self._sizes()
        if m.tiling in SEE_ALL:
            self._whole = WholePictures(self.engine, m, is_chosen=self.tile is not None)
        batches = sorted({n for n, *_ in m.profiles})
        if self.batch is not None and batches and self.batch not in batches:
            raise UsageError(
                f"batch is {self.batch}, but {m.name} accepts batches of {batches} only"
            )
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
        """Choose tile and batch for a (height, width) picture; both are multiples of `multiple_px`.

        What the tiles cost is logged, once, where they cost something.

        Raises:
            OutOfMemoryError: all remaining tiles ran out of memory before; or the network computes
                whole pictures only, and this one does not fit into memory.
            UsageError: it does not fit into the only inputs of such a network.
        """
        choice = self._chosen(height, width)
        if self._whole is not None:
            self._whole.take(choice.tile_px, height, width)
        return choice

    def _chosen(self, height: int, width: int) -> Choice:
        found = [c for c in self._choices(height, width) if c.area_px < self._area_limit_px]
        if not found:
            raise OutOfMemoryError(
                f"{self.manifest.name} on {self.engine.device}: there is no smaller tile to try "
                f"for {height}x{width}; free device memory, or use a smaller tile"
            )
        if self._whole is not None:
            return self._whole.best(found, height, width)
        costs = {choice: self._cost(height, width, choice) for choice in found}
        limit_px = min(costs.values()) * (1 if self._sizes() else 1 + FEW_TILES_SHARE)
        near = [choice for choice in found if costs[choice] <= limit_px]
        return max(near, key=lambda choice: (choice.area_px, -costs[choice]))

    def choose_smaller(
        self, choice: Choice, height: int, width: int, error: OutOfMemoryError
    ) -> Choice:
        """Return the next smaller choice after `choice` ran out of memory; never retry that one.

        Raises:
            OutOfMemoryError: there is nothing smaller.
        """
        self._area_limit_px = min(self._area_limit_px, choice.area_px)
        try:
            smaller = self.choose(height, width)
        except OutOfMemoryError as nothing:
            raise OutOfMemoryError(f"{error}; {nothing}") from error
        log.warning(
            "%s; continuing with inputs of %s instead of %s",
            error,
            _sizes_text(smaller.input_shape),
            _sizes_text(choice.input_shape),
        )
        return smaller

    def plan(self, height: int, width: int, slots: Callable[[Shape], int]) -> MemoryPlan:
        """Plan a (height, width) picture; `slots` returns how many slots of a shape may exist."""
        m = self.manifest
        padded = self._up((height, width))
        choice = self._chosen(*padded)
        is_whole = choice.tile_px == padded
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
            tiling="exact" if is_whole else m.tiling,
            tiling_db=None if is_whole else expected_db(m),
        )

    def count(self, height: int, width: int) -> int:
        """Return the number of tiles of a (height, width) picture."""
        padded = self._up((height, width))
        return self._count(*padded, self._chosen(*padded))

    def _choices(self, height: int, width: int) -> Iterator[Choice]:
        m = self.manifest
        if sizes := self._inputs(height, width):
            for size in sizes:
                for n in self._batches(size):
                    yield self._choice(height, width, size, n)
        elif self.tile is not None:
            side = self._up(self.tile)
            tile = (min(side[0], height), min(side[1], width))
            yield self._choice(height, width, tile, self.batch or 1)
        else:
            budgets_px = self.budgets_px
            if self._whole is not None:
                budgets_px = tuple(self._whole.areas_px(height, width, budgets_px))
            for budget_px in budgets_px:
                tile = balanced_tile(height, width, m.radius_px, budget_px, m.multiple_px)
                choice = self._choice(height, width, tile, self.batch or 1)
                yield choice
                if choice.area_px < self._area_limit_px:
                    return

    def _choice(self, height: int, width: int, size: tuple[int, int], batch: int) -> Choice:
        shape = Boundary.of(self.manifest).input_shape(size, batch)
        tile_px = (min(size[0], height), min(size[1], width))
        return Choice(tile_px, shape, batch * size[0] * size[1])

    def _sizes(self) -> list[tuple[int, int]]:
        """Return the only (height, width) that the model accepts; empty: any."""
        m = self.manifest
        if m.profiles:
            smallest_px = 2 * m.radius_px + m.multiple_px
            sizes = sorted({(height, width) for _, height, width in m.profiles})
            # sizes too small to keep any pixel only help with small pictures, so they are dropped
            large = [size for size in sizes if min(size) >= smallest_px] or sizes
            # the last tile is shifted back to the picture's end, and must stay on the grid
            return [size for size in large if size == self._up(size)] or large
        return [m.size_px] if m.size_px else []

    def _inputs(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the (height, width) to choose the model's input from; empty: any."""
        if sizes := self._sizes():
            return [self.tile] if self.tile else sizes
        if not self.engine.few_shapes:
            return []
        if self.tile is not None:
            return [self._up(self.tile)]
        if self._whole is not None and self._whole.is_known:
            # a picture mirrored up to a square is another picture for a network that sees all
            return []
        smallest_px = 2 * self.manifest.radius_px + self.manifest.multiple_px
        sides = [side for side in FEW_SIDES_PX if side >= smallest_px] or [2 * smallest_px]
        squares = [self._up((side, side)) for side in sides]
        # within the picture, the result is the same as with tiles of any other size
        inside = [square for square in squares if square[0] <= height and square[1] <= width]
        return inside or squares

    def _up(self, size: tuple[int, int]) -> tuple[int, int]:
        """Round (height, width) up to multiples of `multiple_px`."""
        step = self.manifest.multiple_px
        return -(-size[0] // step) * step, -(-size[1] // step) * step

    def _batches(self, size: tuple[int, int]) -> list[int]:
        found = [n for n, height, width in self.manifest.profiles if (height, width) == size]
        if self.batch is not None:
            return [self.batch]
        return sorted(set(found)) or [1]

    def _count(self, height: int, width: int, choice: Choice) -> int:
        m, (tile_height, tile_width) = self.manifest, choice.tile_px
        rows = spans(height, tile_height, m.radius_px, m.multiple_px)
        return len(rows) * len(spans(width, tile_width, m.radius_px, m.multiple_px))

    def _cost(self, height: int, width: int, choice: Choice) -> int:
        """Return the number of pixels that are computed."""
        return -(-self._count(height, width, choice) // choice.batch) * choice.area_px

    def _input_px(self, choice: Choice) -> tuple[int, int]:
        shape = choice.input_shape
        return shape[2:] if self.manifest.layout == "NCHW" else shape[1:3]


def parse_bytes(text: int | str | None) -> int | None:
    """Parse a number of bytes or a string such as `2GB` or `512 MiB`.

    Raises:
        UsageError: neither of them.
    """
    if text is None or (isinstance(text, int) and not isinstance(text, bool) and text > 0):
        return text
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", str(text).lower())
    if isinstance(text, str) and match and match[2] in _UNITS and float(match[1]) > 0:
        return int(float(match[1]) * _UNITS[match[2]])
    raise UsageError(
        f"max_memory is {text!r}, expected bytes or a string such as '2GB' or '512MiB'"
    )


def checked_tile(tile: object) -> tuple[int, int] | None:
    """Check a `tile` argument; return (height, width), or None for `auto`."""
    if tile == "auto":
        return None
    pair = (tile, tile) if isinstance(tile, int) else tile
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise UsageError(f"tile is {tile!r}, expected pixels, (height, width) or 'auto'")
    return positive("tile", pair[0]), positive("tile", pair[1])


def positive(name: str, value: object) -> int:
    """Return `value` if it is a whole number above 0; raise `UsageError` otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}, expected a positive whole number")
    return value


def _sizes_text(shape: Shape) -> str:
    return "x".join(map(str, shape))
