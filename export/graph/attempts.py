"""Export a torch network in the best way that computes what the network computes.

torch has two exporters, and either may turn a size or a batch into a constant without a word. So
each file is compared with the network at other sizes before it is accepted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from torch import nn

from export.errors import ExportError
from export.graph.onnx_errors import sentence
from export.graph.onnx_file import build_onnx, build_traced, example_px
from export.graph.session import session_run
from export.graph.torch_errors import UNABLE, BranchError
from export.graph.traceable import traceable
from export.protocol import Batch, Run

log = logging.getLogger(__name__)

LARGER_PX = (16, 64)
"""Multiples to try if a network's own does not export: then no padding depends on the size."""
FIXED_PX = 128
"""Side of the only input size, where no other works."""
TOLERANCE_LSB = 1
MAX_SHARE = 0.01
"""Share of samples that may differ by a level: results just between two, rounded differently."""
EXPORTERS = {"torch.export": build_onnx, "TorchScript": build_traced}
"""By the name of what records the network."""
MANY_OPERATORS = 400
"""From here on TorchScript comes first. `torch.export` takes 0.1 s for each operator, so minutes
for a transformer; TorchScript takes a tenth. Both files compute the same where both work."""


@dataclass(frozen=True)
class Way:
    """How a network was exported."""

    exporter: str
    """`torch.export` or `TorchScript`: what recorded the network."""
    multiple_px: int = 1
    """Input sizes are multiples of this."""
    size_px: tuple[int, int] | None = None
    """The only input (height, width); None: any."""
    failed: tuple[str, ...] = ()
    """Why each better way was not taken."""

    def __str__(self) -> str:
        if self.size_px is not None:
            return f"{self.exporter}, {self.size_px[0]}x{self.size_px[1]} only"
        sizes = f", multiples of {self.multiple_px}" if self.multiple_px > 1 else ""
        return f"{self.exporter}, any size{sizes}"

    def build(
        self, graph: nn.Module, scale: int, channels: int, dtype: torch.dtype, values: int = 0
    ) -> onnx.ModelProto:
        """Export a graph in this way.

        Args:
            graph: maps (N, H, W, C) to (N, H * scale, W * scale, C).
            scale: output size over input size.
            channels: C.
            dtype: type of the input.
            values: numbers that it takes beside the picture, only with `torch.export`.

        Raises:
            ExportError: torch cannot export it.
        """
        numbers = {"values": values} if values else {}
        with traceable(graph):
            return EXPORTERS[self.exporter](
                graph,
                scale,
                channels=channels,
                dtype=dtype,
                multiple_px=self.multiple_px,
                size_px=self.size_px,
                **numbers,
            )


def choose(
    build: Callable[[Way], onnx.ModelProto],
    reference: Run,
    channels: int,
    ways: Iterator[Way],
) -> tuple[onnx.ModelProto, Way]:
    """Return the first graph that computes what the network computes, and how it was exported.

    Args:
        build: exports the network with a uint8 boundary.
        reference: the network, on (N, H, W, C) uint8.
        channels: C.
        ways: from the best to the last.

    Raises:
        ExportError: no way leads to a graph; the message holds the reason of the best one.
    """
    failed: list[str] = []
    first: ExportError | None = None
    unable: set[str] = set()
    for way in ways:
        if way.size_px is None and way.exporter in unable:
            # another multiple changes the sizes, not what an exporter knows
            continue
        try:
            model = build(way)
            compare(session_run(model), reference, way, channels)
        except BranchError:
            # the other exporter would record one of the branches
            raise
        except ExportError as error:
            if str(error).startswith(UNABLE):
                unable.add(way.exporter)
            first = first or error
            failed.append(f"{way}: {error}")
            log.info("%s", failed[-1])
            continue
        return model, replace(way, failed=tuple(failed))
    assert first is not None
    raise first


def ways(
    multiple_px: int,
    minimum_px: int = 1,
    size_px: tuple[int, int] | None = None,
    *,
    operators: int = 0,
) -> Iterator[Way]:
    """Yield every way to export a network, from the best to the last.

    Args:
        multiple_px: input sizes are multiples of this.
        minimum_px: smallest height and width.
        size_px: the only (height, width) that the network itself accepts; None: any.
        operators: of one run of the network.
    """
    exporters = list(EXPORTERS)
    if operators >= MANY_OPERATORS:
        exporters.reverse()
    if size_px is None:
        larger = [m for px in LARGER_PX if (m := math.lcm(px, multiple_px)) <= 4 * max(LARGER_PX)]
        for multiple in dict.fromkeys([multiple_px, *larger]):
            for exporter in exporters:
                yield Way(exporter, multiple)
        side = -(-max(FIXED_PX, minimum_px) // multiple_px) * multiple_px
        size_px = (side, side)
    for exporter in exporters:
        yield Way(exporter, multiple_px, size_px)


def compare(run: Run, reference: Run, way: Way, channels: int) -> None:
    """Compare a file with its network at other sizes than those that were traced.

    Raises:
        ExportError: it fails at a size, or differs by more than a level.
    """
    for index, (count, height, width) in enumerate(_sizes(way)):
        picture = _picture(count, height, width, channels, seed=index)
        # one at a time: some networks accept no more
        wanted = np.concatenate([reference(part[None]) for part in picture])
        what = f"{'a batch of 2, ' if count > 1 else ''}{height}x{width}"
        try:
            found = run(picture)
        except Exception as error:
            # ONNX Runtime's exceptions share no base class but `Exception`
            raise ExportError(f"the file fails at {what}: {sentence(error)}") from error
        if found.shape != wanted.shape:
            raise ExportError(f"at {what} the file returns {found.shape}, expected {wanted.shape}")
        differences = np.abs(found.astype(np.int16) - wanted)
        if differences.max() > TOLERANCE_LSB or np.mean(differences != 0) > MAX_SHARE:
            raise ExportError(
                f"at {what} the file differs from the network by {differences.max()} levels, on "
                f"{np.mean(differences != 0):.1%} of samples"
            )


def _sizes(way: Way) -> list[tuple[int, int, int]]:
    if way.size_px is not None:
        return [(1, *way.size_px)]
    multiple = way.multiple_px
    height, width = example_px(multiple)
    smaller = max(multiple, height // 2 // multiple * multiple)
    return [(1, width + multiple, height), (2, smaller, width + 2 * multiple)]


def _picture(count: int, height: int, width: int, channels: int, seed: int) -> Batch:
    """Return colored blocks of 8 px with fine noise."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (count, -(-height // 8), -(-width // 8), channels))
    enlarged = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return np.clip(enlarged + random.normal(0, 15, enlarged.shape), 0, 255).astype(np.uint8)
