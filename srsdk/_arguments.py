"""Checks of an Upscaler's arguments."""

from __future__ import annotations

from srsdk.errors import UsageError
from srsdk.manifest import Manifest


def checked_tile(tile: object) -> tuple[int, int] | None:
    """Return (height, width), or None for `auto`."""
    if tile == "auto":
        return None
    pair = (tile, tile) if isinstance(tile, int) else tile
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise UsageError(f"tile is {tile!r}, expected pixels, (height, width) or 'auto'")
    return positive("tile", pair[0]), positive("tile", pair[1])


def positive(name: str, value: object) -> int:
    """Return a positive whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}, expected a positive whole number")
    return value


def check_tile_fits(tile: tuple[int, int] | None, m: Manifest) -> None:
    """Refuse a tile that a model cannot take, or of which nothing would be kept."""
    if tile is None:
        return
    if m.size_px not in (None, tile):
        raise UsageError(f"tile is {tile}, but {m.name} accepts {m.size_px} only")
    smallest_px = 2 * m.radius_px + m.multiple_px
    if min(tile) < smallest_px:
        raise UsageError(
            f"a tile of {min(tile)} px is too small: {m.name} needs {m.radius_px} px of "
            f"overlap on each side, so at least {smallest_px} px"
        )
