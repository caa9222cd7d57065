"""Ray Serve application: `serve run srsdk.serve:app model=gan_x4`."""

from __future__ import annotations

from srsdk.serving.ray_serve import app

__all__ = ["app"]
