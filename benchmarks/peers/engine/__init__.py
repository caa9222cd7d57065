"""What the commands of `measure.engine` run, each in its own process."""

from __future__ import annotations
