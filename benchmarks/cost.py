"""What a model computes and moves, counted in its graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACTIVATION_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """Of one picture."""

    flop: float
    """Operations of its convolutions; a multiply-add is two."""
    moved_bytes: float
    """Bytes if each convolution reads its input and writes its output once, and so do the ends."""

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flop / self.moved_bytes


def count(path: Path, height: int, width: int, precision: str) -> Cost:
    """Count the convolutions of an ONNX file for one (height, width) RGB picture.

    Args:
        path: the file; its convolutions work at the size of the source, as in all shipped models.
        height: of the source, pixels.
        width: of the source, pixels.
        precision: `fp32`, `fp16`, `bf16` or `int8`: what activations are stored in.
    """
    import onnx

    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    macs = activations = weights = 0.0
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        out, in_of_group, *kernel = shapes[_source(node.input[1], made, shapes)]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        macs += out * in_of_group * math.prod(kernel)
        activations += out + in_of_group * groups
        weights += out * in_of_group * math.prod(kernel)
    pixels = height * width
    wide = ACTIVATION_BYTES[precision]
    ends = 3 * pixels + out_bytes(path, pixels)
    return Cost(2 * macs * pixels, wide * (activations * pixels + weights) + ends)


def out_bytes(path: Path, pixels: int) -> int:
    """Return the size of the uint8 result of a picture of so many pixels."""
    import srsdk

    manifest = srsdk.manifest.read_manifest(path)
    return 3 * pixels * (manifest.scale if manifest else 1) ** 2


def _source(name: str, made: dict[str, Any], shapes: dict[str, Any]) -> str:
    """Follow a weight through its dequantisation to the stored tensor."""
    while name not in shapes:
        name = made[name].input[0]
    return name
