"""Quantization-aware training (QAT): a few hundred steps with the float32 network as the teacher.

The student simulates the graph that `qdq.insert` will write: the same layers and steps, the frozen
activation ranges of the calibration, and the same bias correction. Rounding has no gradient, so a
straight-through estimator is used (Bengio et al. 2013, "Estimating or Propagating Gradients",
arXiv:1308.3432; Jacob et al. 2018, "Quantization and Training of Neural Networks",
arXiv:1712.05877). Float16 between layers, on GPUs, is not simulated.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn
from tqdm import tqdm

from export.errors import ExportError, UsageError
from export.graph.layers import Flavour, conv_layers, quantizable, weights_of
from export.protocol import Source
from export.quantization import qdq
from export.quantization.calibration import Calibration
from export.quantization.qdq import activation_scale, float_type_of
from export.sources.module import TorchSource
from training.data.pictures import (
    Batch,
    Pair,
    Patches,
    decode,
    find_pictures,
    make_pair,
    refuse,
)
from training.networks import PlainNet

BATCH = 8
PATCH_PX = 48
"""Side of a patch in input pixels."""
PICTURES = 128
"""Pictures to read, drawn by the seed; more would take longer than the training steps."""
LEARNING_RATE = 1e-4
TRUTH_SHARE = 0.5
"""Weight of the ground truth in the loss; the teacher has the rest. For networks trained for
texture it is 0, because the ground truth would blur them."""

Draw = Callable[[], Batch]
"""Returns the next batch."""


class FakeQuant(torch.autograd.Function):
    """Quantize and dequantize; the gradient passes inside the range and is 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
        """Return `x` after QuantizeLinear and DequantizeLinear."""
        codes = torch.round(x / step) + zero
        ctx.save_for_backward((codes >= least) & (codes <= most))
        return (codes.clamp(least, most) - zero) * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of `x`."""
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


def fake_quantize(x: Tensor, step: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
    """Return `x` rounded to codes `least` .. `most`, with a straight-through gradient.

    Args:
        x: any shape, float32.
        step: quantization step, of a shape that broadcasts to that of `x`.
        zero: code of 0, float32, of a shape like that of `step`.
        least: smallest code.
        most: largest code.
    """
    result: Tensor = FakeQuant.apply(x, step, zero, least, most)  # type: ignore[no-untyped-call]
    return result


def weight_step(weight: Tensor, flavour: Flavour, float_type: npt.DTypeLike) -> Tensor:
    """Return (out, 1, 1, 1) float32: the steps that `export.quantization.qdq.insert` uses."""
    exact = weight.detach().numpy()
    step = qdq.weight_step(exact, float_type, bounded=flavour == "cpu")
    return torch.from_numpy(step.astype(np.float32))[:, None, None, None]


class FakeConv(nn.Module):
    """A convolution that rounds its input, weights and bias as its INT8 form does.

    Args:
        conv: the convolution to tune.
        bounds: smallest and largest value of its input; frozen.
        means: (in,) means of its input channels; frozen.
        flavour: form of INT8.
        float_type: float type of the graph and of the steps.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        bounds: tuple[float, float],
        means: npt.NDArray[np.float64],
        flavour: Flavour,
        float_type: npt.DTypeLike,
    ) -> None:
        super().__init__()
        self.conv = conv
        self._flavour: Flavour = flavour
        self._float_type = float_type
        self._codes = (0, 255) if flavour == "cpu" else (-128, 127)
        scale = activation_scale(*bounds, flavour, float_type)
        self._step = torch.tensor(float(scale.step))
        self._zero = torch.tensor(float(scale.zero))
        self._means = torch.from_numpy(means.astype(np.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, in, H, W) float32."""
        conv = self.conv
        assert conv.bias is not None
        zero = torch.zeros(())
        step = weight_step(conv.weight, self._flavour, self._float_type)
        weight = fake_quantize(conv.weight, step, zero, -127, 127)
        # as in `qdq.insert`; its gradient would be 0, because rounding passes it straight through
        bias = conv.bias + (conv.weight - weight).detach().sum(dim=(2, 3)) @ self._means
        if self._flavour == "cpu":
            limit = np.iinfo(np.int32).max
            bias = fake_quantize(bias, self._step * step.flatten(), zero, -limit, limit)
        read = fake_quantize(x, self._step, self._zero, *self._codes)
        return F.conv2d(read, weight, bias, padding=conv.padding)


def check_offered(source: Source) -> None:
    """Reject sources that QAT does not support.

    Raises:
        UsageError: the source is not a checkpoint of our plain network, or its scale is 1.
    """
    network = source.network if isinstance(source, TorchSource) else None
    if not isinstance(network, PlainNet) or not network.int8_friendly or source.facts.scale == 1:
        kind = source.facts.architecture or type(source).__name__
        raise UsageError(
            f"--qat supports plain convolutional upscalers from `python -m training`, not "
            f"{kind} (x{source.facts.scale}): leave --qat out"
        )


def patches(folder: Path, scale: int, *, seed: int, without: Container[Path] = ()) -> Patches:
    """Return random patches of the pictures in a folder, reduced with the bicubic of training.

    Args:
        folder: folder of pictures.
        scale: scale of the network.
        seed: random seed.
        without: pictures to exclude.

    Raises:
        DataError: the folder has no usable picture.
    """
    paths = [path for path in find_pictures(folder) if path not in without]
    np.random.default_rng(seed).shuffle(paths)
    pairs: list[Pair] = []
    reasons: dict[Path, str] = {}
    for path in paths:
        picture = decode(path, min_px=PATCH_PX * scale)
        if isinstance(picture, str):
            reasons[path] = picture
        else:
            pairs.append(make_pair(picture, scale, path.stem))
        if len(pairs) == PICTURES:
            break
    if not pairs:
        refuse(folder, reasons, len(paths))
    return Patches(pairs, PATCH_PX, BATCH, seed)


def student(
    network: PlainNet, model: onnx.ModelProto, calibration: Calibration, flavour: Flavour
) -> PlainNet:
    """Return the network with the graph's weights and the rounding of its INT8 graph.

    Args:
        network: the float32 network.
        model: its equalized graph; float32 for `cpu`, float16 for `gpu`.
        calibration: calibration of the same graph.
        flavour: form of INT8.
    """
    net = copy.deepcopy(network).train()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.tensor(weights_of(model, _in_graph(name))))
    numbers = {_in_graph(f"convs.{i}.weight"): i for i in range(len(net.convs))}
    for layer in quantizable(conv_layers(model), flavour):
        conv = net.convs[numbers[layer.name]]
        assert isinstance(conv, nn.Conv2d)
        ranges, means = calibration.ranges[layer.name], calibration.means[layer.name]
        kind = float_type_of(model.graph, layer.weight)
        net.convs[numbers[layer.name]] = FakeConv(conv, ranges, means, flavour, kind)
    return net


def train(net: nn.Module, teacher: nn.Module, draw: Draw, steps: int, truth: float) -> None:
    """Train with Adam and a cosine schedule to 0 on the L1 loss to ground truth and teacher.

    Raises:
        ExportError: the loss is NaN or infinite.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in tqdm(range(steps), "QAT", leave=False, disable=not sys.stderr.isatty()):
        batch = draw()
        with torch.no_grad():
            wanted = teacher(batch.lr)
        got = net(batch.lr)
        loss = truth * F.l1_loss(got, batch.hr) + (1 - truth) * F.l1_loss(got, wanted)
        if not math.isfinite(value := float(loss.detach())):
            raise ExportError(f"QAT: the loss is {value} at step {step}; leave --qat out")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def tuned(
    source: TorchSource,
    model: onnx.ModelProto,
    calibration: Calibration,
    flavour: Flavour,
    draw: Draw,
    steps: int,
) -> onnx.ModelProto:
    """Return the graph with tuned weights and biases, still in float.

    Args:
        source: its network is the teacher.
        model: its equalized graph; float32 for `cpu`, float16 for `gpu`.
        calibration: calibration of the same graph; its ranges do not change.
        flavour: form of INT8 to tune for.
        draw: returns the next batch.
        steps: number of training steps.
    """
    assert isinstance(source.network, PlainNet)
    net = student(source.network, model, calibration, flavour)
    truth = 0.0 if source.facts.textured else TRUTH_SHARE
    train(net, source.network, draw, steps, truth)
    values = {
        _in_graph(name.replace(".conv.", ".")): parameter.detach().numpy()
        for name, parameter in net.named_parameters()
    }
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in values:
            kind = numpy_helper.to_array(tensor).dtype
            changed = numpy_helper.from_array(values[tensor.name].astype(kind), tensor.name)
            tensor.CopyFrom(changed)
    return result


def _in_graph(name: str) -> str:
    """Return the name of a parameter in the graph, where `Uint8Graph` holds the network."""
    return f"network.{name}"
