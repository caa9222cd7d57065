"""Upscale folders of pictures on a Ray cluster.

Uses: batch, errors, models, srsdk, system.
"""

from __future__ import annotations

from srsdk.ray.callables import Upscale, UpscaleImages

__all__ = ["Upscale", "UpscaleImages"]
