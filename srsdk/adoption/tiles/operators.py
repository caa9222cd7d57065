"""Compute a network's receptive field from its operators, without a run.

The arithmetic of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
Networks" (Distill, 2019), for graphs of convolutions, pooling, resizing and operators per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from srsdk.adoption.graph import Graph, Node

_FUNCTIONS = (
    "Abs Ceil Celu Clip Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg "
    "PRelu Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu"
)
_ARITHMETIC = "Add Div Equal Greater Less Max Mean Min Mod Mul Pow Sub Sum Where"
_ALONG_CHANNELS = (
    "BatchNormalization Cast Concat Constant Dropout Identity Shape Split DequantizeLinear "
    "QuantizeLinear"
)
_PER_PIXEL = frozenset(f"{_FUNCTIONS} {_ARITHMETIC} {_ALONG_CHANNELS}".split())
_RESIZE_REACH = {"nearest": 1, "linear": 1, "cubic": 2}


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a tensor's pixel sees of the input."""

    step: float
    """Input pixels from one of its pixels to the next."""
    reach: float
    """Input pixels to each side that it depends on."""


def static_radius(graph: Graph, name: str, output: str) -> int | None:
    """Return how many input pixels away an output pixel depends on, at most.

    Args:
        graph: the network.
        name: the picture's input, NCHW.
        output: the result.

    Returns:
        None: the operators do not tell, or the network sees the whole picture.
    """
    sights = {name: _Sight(1, 0)}
    for node in graph.nodes:
        seen = [sights[each] for each in node.inputs if each in sights]
        if not seen:
            continue  # shapes and constants
        found = _after(graph, node, _Sight(max(s.step for s in seen), max(s.reach for s in seen)))
        if found is None or len({s.step for s in seen}) > 1:
            return None
        for each in node.outputs:
            if node.op != "Shape":
                sights[each] = found
    last = sights.get(output)
    return None if last is None else math.ceil(last.reach)


def _after(graph: Graph, node: Node, seen: _Sight) -> _Sight | None:
    """Return what the outputs of a node see; None: unknown."""
    if node.op in ("Conv", "MaxPool", "AveragePool"):
        return _convolved(graph, node, seen)
    if node.op == "ConvTranspose":
        return _transposed(graph, node, seen)
    if node.op in ("DepthToSpace", "SpaceToDepth"):
        block = (node.ints("blocksize") or (0,))[0]
        if block < 1:
            return None
        if node.op == "DepthToSpace":
            return _Sight(seen.step / block, seen.reach)
        return _Sight(seen.step * block, seen.reach + seen.step * (block - 1))
    if node.op in ("Resize", "Upsample"):
        return _resized(graph, node, seen)
    if node.op == "Pad":
        return seen
    if node.op == "Gather":
        return seen if node.ints("axis") == (1,) else None
    if node.op == "Slice":
        axes = graph.constants.get(node.inputs[3]) if len(node.inputs) > 3 else node.ints("axes")
        return seen if axes is not None and set(axes) == {1} else None
    is_per_pixel = node.op in _PER_PIXEL
    along_channels = node.ints("axis") in (None, (1,), (-3,))
    return seen if is_per_pixel and along_channels else None


def _kernel(graph: Graph, node: Node) -> tuple[int, ...] | None:
    dims = graph.weights.get(node.inputs[1]) if len(node.inputs) > 1 else None
    return node.ints("kernel_shape") or (dims[2:] if dims and len(dims) == 4 else None)


def _strides(node: Node) -> int | None:
    """Return the step of a window, the same along both axes; None: it has another form."""
    strides = node.ints("strides") or (1, 1)
    is_square = len(strides) == 2 and strides[0] == strides[1] and strides[0] >= 1
    return strides[0] if is_square else None


def _convolved(graph: Graph, node: Node, seen: _Sight) -> _Sight | None:
    kernel, stride = _kernel(graph, node), _strides(node)
    dilations, pads = node.ints("dilations") or (1, 1), node.ints("pads") or (0, 0, 0, 0)
    is_plane = kernel is not None and (len(kernel), len(dilations), len(pads)) == (2, 2, 4)
    if kernel is None or stride is None or not is_plane:
        return None
    reach = 0
    for axis in (0, 1):
        whole = (kernel[axis] - 1) * dilations[axis]
        # without padding the output is shifted, and a later Pad or Slice shifts it back
        reach = max(reach, pads[axis], whole - pads[axis], math.ceil(whole / 2))
    reach += stride - 1
    return _Sight(seen.step * stride, seen.reach + reach * seen.step)


def _transposed(graph: Graph, node: Node, seen: _Sight) -> _Sight | None:
    kernel, stride = _kernel(graph, node), _strides(node)
    if kernel is None or stride is None or not kernel:
        return None
    return _Sight(seen.step / stride, seen.reach + math.ceil(max(kernel) / stride) * seen.step)


def _resized(graph: Graph, node: Node, seen: _Sight) -> _Sight | None:
    scales = next((graph.constants[each] for each in node.inputs[1:]
                   if len(graph.constants.get(each, ())) == 4), None)  # fmt: skip
    if scales is None or scales[:2] != (1.0, 1.0) or scales[2] != scales[3] or scales[2] <= 0:
        return None
    # the mode is a string; the widest kernel covers all of them
    wide = max(_RESIZE_REACH.values())
    reach = wide * max(1.0, 1 / scales[2])
    return _Sight(seen.step / scales[2], seen.reach + reach * seen.step)
