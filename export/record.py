"""What an export did, as values for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from export.calibrate import Calibration
from export.int8 import Quantised
from export.options import Artefact
from export.parity import Parity
from srsdk.manifest import Manifest


@dataclass
class Made:
    """One finished file."""

    artefact: Artefact
    """What it is."""
    manifest: Manifest
    """What it says of itself."""
    parity: Parity | None
    """Against the float32 network; None: it was there already."""
    seconds: float
    """To build and to measure it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        path = self.artefact.path
        return {
            "file": str(path),
            "bytes": path.stat().st_size,
            "precision": self.artefact.precision,
            "flavour": self.artefact.flavour,
            "up_to_date": self.parity is None,
            "seconds": self.seconds,
            "parity": None if self.parity is None else self.parity.to_dict(),
            "manifest": self.manifest.to_dict(),
        }


@dataclass
class Report:
    """What an export did."""

    source: str
    """The file that it started from."""
    made: list[Made] = field(default_factory=list)
    """All files, in the order in which they were made."""
    calibration: Calibration | None = None
    """Of INT8."""
    quantised: dict[str, Quantised] = field(default_factory=dict)
    """By flavour."""
    seconds: float = 0.0
    """In all."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-serialisable values."""
        return {
            "source": self.source,
            "seconds": self.seconds,
            "files": [made.to_dict() for made in self.made],
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "int8": {name: q.to_dict() for name, q in self.quantised.items()},
        }
