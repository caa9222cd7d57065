"""Use any image-to-image `torch.nn.Module` as a source."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import nn

from export.errors import ExportError
from export.graph.onnx_file import build_onnx
from export.graph.receptive_field import measured_radius
from export.graph.wrapper import FloatGraph, Uint8Graph, halved, receptive_radius, rounded
from export.protocol import Batch, Facts
from training.recipe.data import DegradationRecipe
from training.recipe.families import CorruptRecipe
from training.recipe.schema import Recipe


class TorchSource:
    """A PyTorch network: one of ours, or an architecture that spandrel supports."""

    def __init__(self, facts: Facts, network: nn.Module) -> None:
        self.facts = facts
        self.network = network.eval()
        self._float = Uint8Graph(self.network).eval()
        self._half: nn.Module | None = None

    def graph(self, precision: str, boundary: str) -> onnx.ModelProto:
        """Export with torch; `fp16` exports the network in float16, not a converted graph."""
        network = self.network if precision == "fp32" else self._halved()
        wrap = Uint8Graph if boundary == "uint8" else FloatGraph
        return build_onnx(
            wrap(network),
            self.facts.scale,
            channels=self.facts.channels,
            dtype=torch.uint8 if boundary == "uint8" else torch.float32,
            multiple_px=self.facts.multiple_px,
        )

    def reference(self, image: Batch) -> Batch:
        """Run the network in float32."""
        return _run(self._float, image)

    def half(self, image: Batch) -> Batch:
        """Run the network with every value rounded that a GPU would store in float16."""
        if self._half is None:
            self._half = Uint8Graph(rounded(self.network)).eval()
        return _run(self._half, image)

    def _halved(self) -> nn.Module:
        # small, because float16 is slow on CPUs
        side = -(-16 // self.facts.multiple_px) * self.facts.multiple_px
        return halved(self.network, torch.zeros(1, self.facts.channels, side, side))


def torch_source(
    network: nn.Module,
    *,
    name: str,
    family: str,
    scale: int,
    sha256: str,
    channels: int = 3,
    multiple_px: int = 1,
    architecture: str = "",
    recipe: Recipe | None = None,
) -> TorchSource:
    """Wrap a network that maps (N, C, H, W) floats 0..1, and determine its receptive field.

    Raises:
        ExportError: a weight is NaN or infinite, or the network has global context.
    """
    network.eval()
    check_finite(network, name)
    measured = False
    for module in network.modules():
        if hasattr(module, "inplace"):
            # torch's exporter decomposes in-place activations, which doubles its time
            module.inplace = False  # type: ignore[assignment]
    try:
        radius = receptive_radius(network, scale, channels, multiple_px=multiple_px)
    except ValueError:
        run = Uint8Graph(network).eval()
        radius = measured_radius(lambda x: _run(run, x), scale, channels, multiple_px)
        measured = True
    return TorchSource(
        Facts(
            name=name,
            family=family,
            scale=scale,
            channels=channels,
            radius_px=radius,
            radius_measured=measured,
            multiple_px=multiple_px,
            sha256=sha256,
            weights=sum(parameter.numel() for parameter in network.parameters()),
            architecture=architecture,
            textured=recipe is not None and recipe.objective == "gan",
            damage=recipe.corrupt if recipe else CorruptRecipe(),
            degradation=recipe.degradation if recipe else DegradationRecipe(),
        ),
        network,
    )


def check_finite(network: nn.Module, name: str) -> None:
    """Reject NaN and infinite weights, which no gate detects because NaN agrees with NaN.

    Raises:
        ExportError: names the first bad tensor.
    """
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ExportError(f"{name}: weights {key!r} hold NaN or infinity; the file is damaged")


@torch.no_grad()
def _run(graph: nn.Module, image: Batch) -> Batch:
    result: Batch = graph(torch.from_numpy(np.ascontiguousarray(image))).numpy()
    return result
