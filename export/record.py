"""Results of an export, as values for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from export.evaluation.parity import Parity
from export.graph.attempts import Way
from export.half.choice import HalfGraph
from export.options import Artifact
from export.quantization.calibration import Calibration
from export.quantization.mixed_precision import Quantized
from srsdk.manifest import Manifest


@dataclass
class Made:
    """One exported file."""

    artifact: Artifact
    """Path, precision and flavour."""
    manifest: Manifest
    """Embedded metadata."""
    parity: Parity | None
    """Difference from the float32 network; None: the file was up to date."""
    seconds: float
    """Time to build and measure it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        path = self.artifact.path
        return {
            "file": str(path),
            "bytes": path.stat().st_size,
            "precision": self.artifact.precision,
            "flavour": self.artifact.flavour,
            "up_to_date": self.parity is None,
            "seconds": self.seconds,
            "parity": None if self.parity is None else self.parity.to_dict(),
            "manifest": self.manifest.to_dict(),
        }


@dataclass
class Report:
    """Results of one export."""

    source: str
    """Path of the source file."""
    made: list[Made] = field(default_factory=list)
    """All files, in build order."""
    calibration: Calibration | None = None
    """INT8 calibration, if any."""
    half: HalfGraph | None = None
    """The float16 graph, if any."""
    quantized: dict[str, Quantized] = field(default_factory=dict)
    """INT8 graphs by flavour."""
    way: Way | None = None
    """How torch exported the network; None: the source is no torch network."""
    notes: tuple[str, ...] = ()
    """What was assumed of the network because nobody said it."""
    seconds: float = 0.0
    """Total time."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-serializable values."""
        return {
            "source": self.source,
            "seconds": self.seconds,
            "way": None if self.way is None else str(self.way),
            "failed_ways": [] if self.way is None else list(self.way.failed),
            "notes": list(self.notes),
            "files": [made.to_dict() for made in self.made],
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "fp16": None if self.half is None else self.half.to_dict(),
            "int8": {name: q.to_dict() for name, q in self.quantized.items()},
        }
