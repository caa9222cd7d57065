"""Video files: upscale the frames, keep everything else.

Uses: errors, inference, scheduling, system, upscaler.
"""

from __future__ import annotations

from srsdk.video.transcode import Report, upscale

__all__ = ["Report", "upscale"]
