"""Count a model's operations and memory traffic from its ONNX graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACTIVATION_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """Operations and memory traffic for one picture."""

    flop: float
    """Operations of all convolutions; a multiply-add counts as two."""
    moved_bytes: float
    """Bytes if each convolution, and the model, reads its input and writes its output once."""

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: operations per byte."""
        return self.flop / self.moved_bytes


def count(path: Path, height: int, width: int, precision: str) -> Cost:
    """Count the convolutions of an ONNX file for one (height, width) RGB picture.

    Args:
        path: the file; its convolutions run at source resolution, as in all shipped models.
        height: source height, pixels.
        width: source width, pixels.
        precision: `fp32`, `fp16`, `bf16` or `int8`: the format of stored activations.
    """
    import onnx

    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    macs = activations = weights = 0.0
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        out, in_of_group, *kernel = shapes[_source(node.input[1], producers, shapes)]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        macs += out * in_of_group * math.prod(kernel)
        activations += out + in_of_group * groups
        weights += out * in_of_group * math.prod(kernel)
    pixels = height * width
    each = ACTIVATION_BYTES[precision]
    pictures = 3 * pixels + out_bytes(path, pixels)
    return Cost(2 * macs * pixels, each * (activations * pixels + weights) + pictures)


def out_bytes(path: Path, pixels: int) -> int:
    """Return the bytes of the uint8 result for a source of `pixels` pixels."""
    import srsdk

    manifest = srsdk.manifest.read_manifest(path)
    return 3 * pixels * (manifest.scale if manifest else 1) ** 2


def _source(name: str, producers: dict[str, Any], shapes: dict[str, Any]) -> str:
    """Follow a weight back through its dequantization to the stored tensor."""
    while name not in shapes:
        name = producers[name].input[0]
    return name
