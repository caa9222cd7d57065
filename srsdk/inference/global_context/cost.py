"""What tiles cost a network that sees the whole picture, in words."""

from __future__ import annotations

from srsdk.manifest import Manifest

SEE_ALL = ("bounded", "none")
"""Kinds of `Manifest.tiling` whose results depend on all of the picture."""
INVISIBLE_DB = 50.0
"""From here on, tiles differ from the whole by less than a level on average."""


def expected_db(manifest: Manifest) -> float | None:
    """Return the PSNR of tiles against the whole picture at the manifest's overlap; None: unknown.

    Where this overlap was not measured, that of the next smaller one.
    """
    found = {int(px): db for px, db in manifest.tiling_db.items()}
    reached = [px for px in found if px <= manifest.radius_px]
    return found[max(reached)] if reached else None


def cost_text(manifest: Manifest) -> str:
    """Say what tiles cost, as part of a sentence."""
    psnr_db = expected_db(manifest)
    if psnr_db is None:
        return "what that costs was not measured"
    return f"{psnr_db:.1f} dB against the whole picture, measured at export"


def cut_text(manifest: Manifest) -> str:
    """Say how pictures are cut, for `repr()`."""
    m = manifest
    if m.tiling == "none":
        return "whole pictures only"
    overlap = f"overlap {m.radius_px} px"
    if m.tiling == "aligned":
        return f"{overlap} on a grid of {m.multiple_px} px"
    if m.tiling == "bounded":
        psnr_db = expected_db(m)
        cost = "at a cost not measured" if psnr_db is None else f"at {psnr_db:.1f} dB"
        return f"{overlap} {cost} where the whole does not fit"
    return overlap
