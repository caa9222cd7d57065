"""The interface of an export source, and the facts about its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx

from training.recipe.data import DegradationRecipe
from training.recipe.families import CorruptRecipe

Batch = npt.NDArray[np.uint8]
"""(N, H, W, C)."""
Run = Callable[[Batch], Batch]
"""Upscales a batch."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Properties of a network that its manifest records for every precision."""

    name: str
    """Model name."""
    family: str
    """Manifest family."""
    scale: int
    """Output size over input size."""
    channels: int
    """3 or 1."""
    radius_px: int
    """Radius of the receptive field."""
    radius_measured: bool
    """Whether the receptive field is larger, and the radius is where its influence fades out."""
    multiple_px: int = 1
    """Input sizes are multiples of this."""
    tiling: str = "exact"
    """Whether tiles give what the whole picture gives; see `srsdk.Manifest.tiling`."""
    tiling_db: Mapping[str, float] = field(default_factory=dict)
    """PSNR of tiles against the whole picture by overlap; empty: not measured, or exact."""
    bytes_per_px: int = 0
    """Memory of the activations for each input pixel; 0: not measured."""
    size_px: tuple[int, int] | None = None
    """The only input size; None: any."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """Numbers that it takes beside the picture, and their defaults; see `export.graph.values`."""
    input_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """See `srsdk.Manifest.input_ranges`."""
    sha256: str
    """Hash of the source file."""
    weights: int = 0
    """Number of weights; large networks are measured on fewer pixels."""
    architecture: str = ""
    """Name of the architecture, for the report."""
    textured: bool = False
    """Whether it was trained for texture, which PSNR does not reward."""
    damage: CorruptRecipe = field(default_factory=CorruptRecipe)
    """Damage that it was trained to repair; test pictures get the same."""
    degradation: DegradationRecipe = field(default_factory=DegradationRecipe)
    """Degradation of its training inputs; unless bicubic, test pictures get it too."""


class Source(Protocol):
    """A network that can be exported in float32 and float16."""

    facts: Facts
    """Properties of the network."""

    def graph(self, precision: str, boundary: str) -> onnx.ModelProto:
        """Return the graph in `fp32` or `fp16`, with a `uint8` or `float32` boundary."""

    def reference(self, image: Batch) -> Batch:
        """Upscale (N, H, W, C) uint8 with the original float32 network."""

    def half(self, image: Batch) -> Batch:
        """Upscale with weights and activations rounded to float16, as on a GPU."""
