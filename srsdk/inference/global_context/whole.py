"""Choose the whole picture where memory allows, or else the largest tiles."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, TypeVar

from srsdk.engines.protocol import Engine
from srsdk.errors import OutOfMemoryError, UsageError
from srsdk.inference.global_context.cost import INVISIBLE_DB, cost_text, expected_db
from srsdk.manifest import Manifest
from srsdk.system import memory_limits

log = logging.getLogger("srsdk")

LARGE_AREAS_PX = (2048 * 2048, 1024 * 1024)
"""Areas to try, besides the usual ones, where the whole picture is too large."""
MARGIN = 1.5
"""Memory to expect for one byte that was measured in ONNX Runtime: OpenVINO took up to 1.2 times as
much (five networks of 1 to 24 KB a pixel; most less), and other work goes on meanwhile."""
UNKNOWN_BYTES = 128 << 10
"""Memory of a pixel where it was not measured: a HAT of 24 channels takes 24 KB in ONNX Runtime,
and published ones have 180. So on most machines such a network is tiled as every other: a system
that runs out of memory ends the process, and there is nothing to catch."""


class TileSize(Protocol):
    """A choice of tiles."""

    @property
    def tile_px(self) -> tuple[int, int]:
        """(height, width) of a tile, or of the whole picture."""

    @property
    def area_px(self) -> int:
        """Input area of a batch."""


C = TypeVar("C", bound=TileSize)


class WholePictures:
    """Chooses the whole picture, or the largest tiles, for one engine.

    On a GPU the library says when memory runs out, and the next smaller tile is tried. A CPU's
    backends do not: the system ends the process. So the need is estimated there, as the measured
    bytes of a pixel times `MARGIN`, for as many pictures as the engine computes at once.

    Args:
        engine: an open engine.
        manifest: of a network whose `tiling` is `bounded` or `none`.
        is_chosen: the user chose the tile, and what it costs is the user's choice too.
    """

    def __init__(self, engine: Engine, manifest: Manifest, *, is_chosen: bool) -> None:
        self._engine, self._manifest, self._is_chosen = engine, manifest, is_chosen
        self._granted_px = 0
        self._was_told = False

    @property
    def is_known(self) -> bool:
        """Whether the network is known to see the whole picture; else nobody has looked."""
        return self._manifest.tiling == "none" or bool(self._manifest.tiling_db)

    def areas_px(self, height: int, width: int, usual_px: Sequence[int]) -> list[int]:
        """Return the areas of tiles to try for a (height, width) picture, largest first.

        Args:
            height: of the picture, a multiple of `multiple_px`.
            width: of the picture, likewise.
            usual_px: areas that are tried for every network.

        Raises:
            OutOfMemoryError: the network computes whole pictures only, and this one is too large.
        """
        m, whole_px = self._manifest, height * width
        limit_px = self._limit_px(height, width)
        if limit_px is None or whole_px <= limit_px:
            large = [whole_px, *(px for px in LARGE_AREAS_PX if px < whole_px)]
        elif m.tiling == "none":
            raise OutOfMemoryError(self._too_large(height, width))
        else:
            large = [px for px in LARGE_AREAS_PX if px <= limit_px]
        if m.tiling == "none":
            return [whole_px]
        if limit_px is not None and m.bytes_per_px:
            # the smallest is tried in any case, as for every other network
            usual_px = [px for px in usual_px if px <= limit_px] or [min(usual_px)]
        return sorted({*large, *(px for px in usual_px if px < whole_px)}, reverse=True)

    def best(self, found: Sequence[C], height: int, width: int) -> C:
        """Return the smallest input that holds the whole picture, or else the largest.

        Raises:
            UsageError: the network computes whole pictures only, and no input holds this one.
        """
        whole = [choice for choice in found if choice.tile_px == (height, width)]
        if whole:
            return min(whole, key=lambda choice: choice.area_px)
        if self._manifest.tiling == "none" and not self._is_chosen:
            largest = max(found, key=lambda choice: choice.area_px).tile_px
            raise UsageError(
                f"{self._manifest.name} computes whole pictures only, got {height}x{width} where "
                f"its largest input holds {largest[0]}x{largest[1]}: use a smaller picture, or the "
                "model's file for any size"
            )
        return max(found, key=lambda choice: choice.area_px)

    def take(self, tile_px: tuple[int, int], height: int, width: int) -> None:
        """Note what will be computed; log, once, what tiles of this size cost."""
        self._granted_px = max(self._granted_px, tile_px[0] * tile_px[1])
        if self._was_told or tile_px == (height, width):
            return
        self._was_told = True
        psnr_db = expected_db(self._manifest)
        level = logging.INFO if psnr_db is not None and psnr_db >= INVISIBLE_DB else logging.WARNING
        log.log(level, "%s", self._sentence(tile_px, height, width))

    def _sentence(self, tile_px: tuple[int, int], height: int, width: int) -> str:
        m = self._manifest
        if self._is_chosen:
            advice = "omit tile= to compute the whole where memory allows"
        else:
            advice = "a smaller picture, or more memory, is computed as a whole"
        reason = "sees the whole picture"
        if not self.is_known:
            reason = f"may see further than {m.radius_px} px"
        return (
            f"{m.name} {reason}, and this one of {height}x{width} px is computed in "
            f"tiles of {tile_px[0]}x{tile_px[1]} px with {m.radius_px} px of overlap: "
            f"{cost_text(m)}; {advice}"
        )

    def _limit_px(self, height: int, width: int) -> int | None:
        """Return the largest area that memory allows; None: a GPU, which says so itself."""
        shape = (1, height, width, self._manifest.channels)
        if self._engine.device_memory(shape) is not None:
            return None
        free = memory_limits.allowance(None) - memory_limits.FIXED_BYTES
        per_px = self._pixel_bytes() * max(1, self._engine.wanted_slots(shape))
        # what was granted before is held by the backend, which uses it again
        return max(self._granted_px, free // per_px)

    def _pixel_bytes(self) -> int:
        m = self._manifest
        activations = m.bytes_per_px * MARGIN if m.bytes_per_px else UNKNOWN_BYTES
        # input and result, and the picture that they are copied from and to
        return int(activations) + 2 * 4 * m.channels * (1 + m.scale**2)

    def _too_large(self, height: int, width: int) -> str:
        m = self._manifest
        need = height * width * self._pixel_bytes() + memory_limits.FIXED_BYTES
        free = max(0, memory_limits.allowance(None))
        cost = f" ({cost_text(m)})" if m.tiling_db else ""
        return (
            f"{m.name} computes whole pictures only: {height}x{width} px need about {need:,} bytes "
            f"of memory, {free:,} are available; use a smaller picture or more memory, or "
            f"Upscaler(..., tile=512) for tiles that do not fit together{cost}"
        )
