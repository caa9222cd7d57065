"""Use any image-to-image `torch.nn.Module` as a source."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import nn

from export.errors import ExportError
from export.graph.attempts import Way, choose, ways
from export.graph.dry_run import operators
from export.graph.onnx_file import example_px
from export.graph.values import frozen
from export.graph.wrapper import FloatGraph, Uint8Graph, halved, receptive_radius, rounded
from export.protocol import Batch, Facts
from srsdk.adoption.tiles.reach import MAX_ALIGNED_PX, MAX_EXACT_PX, Reach, find_reach
from training.recipe.data import DegradationRecipe
from training.recipe.families import CorruptRecipe
from training.recipe.schema import Recipe


class TorchSource:
    """A PyTorch network: one of ours, or any other.

    Args:
        facts: of the network.
        network: maps (N, C, H, W) floats 0..1.
        minimum_px: smallest height and width of an input.
    """

    def __init__(self, facts: Facts, network: nn.Module, *, minimum_px: int = 1) -> None:
        self.facts = facts
        self.network = network.eval()
        self.way: Way | None = None
        self._minimum_px = minimum_px
        self._graph: onnx.ModelProto | None = None
        self._float = Uint8Graph(self.network).eval()
        self._half: nn.Module | None = None
        if facts.family != "foreign":
            # ours are known to export
            self.way = Way("torch.export", facts.multiple_px)

    def settle(self) -> Way:
        """Find out how the network can be exported; the facts then say for which sizes.

        Raises:
            ExportError: it cannot be; the message says why.
        """
        if self.way is None:
            f = self.facts
            height, width = f.size_px or example_px(f.multiple_px)
            count = operators(self.network, torch.zeros(1, f.channels, height, width))
            self._graph, self.way = choose(
                lambda way: way.build(self._float, f.scale, f.channels, torch.uint8),
                self.reference,
                f.channels,
                ways(f.multiple_px, self._minimum_px, f.size_px, operators=count),
            )
            self.facts = dataclasses.replace(
                f, multiple_px=self.way.multiple_px, size_px=self.way.size_px
            )
        return self.way

    def graph(self, precision: str, boundary: str) -> onnx.ModelProto:
        """Export with torch; `fp16` exports the network in float16, not a converted graph."""
        way, numbers = self.settle(), self.facts.inputs
        if self._graph is not None and (precision, boundary) == ("fp32", "uint8"):
            copy = onnx.ModelProto()
            copy.CopyFrom(self._graph)
            return copy
        network = self.network if precision == "fp32" else self._halved()
        wrap = Uint8Graph if boundary == "uint8" else FloatGraph
        dtype = torch.uint8 if boundary == "uint8" else torch.float32
        f = self.facts
        model = way.build(wrap(network), f.scale, f.channels, dtype, len(numbers))
        return frozen(model, list(numbers.values())) if numbers else model

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
    minimum_px: int = 1,
    size_px: tuple[int, int] | None = None,
    architecture: str = "",
    recipe: Recipe | None = None,
    inputs: Mapping[str, float] | None = None,
    input_ranges: Mapping[str, tuple[float, float]] | None = None,
) -> TorchSource:
    """Wrap a network that maps (N, C, H, W) floats 0..1, and determine how it can be tiled.

    Args:
        network: as above.
        name: of the model.
        family: of its manifest.
        scale: output size over input size.
        sha256: hash of its file.
        channels: of input and output.
        multiple_px: input sizes are multiples of this; the facts may say a multiple of it.
        minimum_px: smallest height and width of an input.
        size_px: the only (height, width) that it accepts; None: any.
        architecture: for the report.
        recipe: that it was trained with.
        inputs: numbers that it takes beside the picture, (numbers,), by name, with their defaults,
            which it also takes if they are not given.
        input_ranges: the lowest and highest that it has learned, by name.

    Raises:
        ExportError: a weight is NaN or infinite.
    """
    network.eval()
    check_finite(network, name)
    for module in network.modules():
        if hasattr(module, "inplace") and not isinstance(module, torch.jit.ScriptModule):
            # torch's exporter decomposes in-place activations, which doubles its time
            module.inplace = False  # type: ignore[assignment]
    # tiles of our own networks equal the whole bit for bit
    aligned_px = MAX_ALIGNED_PX if family == "foreign" else MAX_EXACT_PX
    reach = _reach(network, scale, channels, multiple_px, minimum_px, size_px, aligned_px)
    return TorchSource(
        Facts(
            name=name,
            family=family,
            scale=scale,
            channels=channels,
            radius_px=reach.radius_px,
            radius_measured=reach.is_measured,
            tiling=reach.tiling,
            multiple_px=reach.multiple_px,
            size_px=size_px,
            inputs=dict(inputs or {}),
            input_ranges=dict(input_ranges or {}),
            sha256=sha256,
            weights=sum(parameter.numel() for parameter in network.parameters()),
            architecture=architecture,
            textured=recipe is not None and recipe.objective == "gan",
            damage=recipe.corrupt if recipe else CorruptRecipe(),
            degradation=recipe.degradation if recipe else DegradationRecipe(),
        ),
        network,
        minimum_px=minimum_px,
    )


def _reach(
    network: nn.Module,
    scale: int,
    channels: int,
    multiple_px: int,
    minimum_px: int,
    size_px: tuple[int, int] | None,
    aligned_px: int,
) -> Reach:
    graph = Uint8Graph(network).eval()

    def structural(grid_px: int) -> int | None:
        if size_px is not None:
            return None
        try:
            return receptive_radius(
                network, scale, channels, multiple_px=grid_px, minimum_px=minimum_px
            )
        except ValueError:
            return None

    return find_reach(
        lambda image: _run(graph, image),
        scale,
        channels,
        multiple_px=multiple_px,
        minimum_px=minimum_px,
        size_px=size_px,
        structural=structural,
        aligned_px=aligned_px,
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
