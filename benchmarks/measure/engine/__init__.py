"""srsdk beside its bare engine: many pictures at once, and the time of each layer."""

from __future__ import annotations
