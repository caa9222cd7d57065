"""QAT: a few hundred steps that teach a network to live with INT8, the float32 one as the teacher.

The network that is tuned computes what `export.quantise.insert` will write: the same layers, the
same steps, the activation ranges of the calibration, frozen, and the inserter's own correction of
the biases. Rounding has no gradient; it is passed straight through (Bengio et al. 2013, "Estimating
or Propagating Gradients", arXiv:1308.3432; Jacob et al. 2018, "Quantization and Training of Neural
Networks", arXiv:1712.05877). What is not simulated: float16 between layers, for GPUs.
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

from export import quantise
from export.calibrate import Calibration
from export.layers import Flavour, conv_layers, quantisable, weights_of
from export.onnx_file import ExportError
from export.options import UsageError
from export.quantise import activation_scale, float_type_of
from export.sources import Source, TorchSource
from training.data import Batch, Pair, Patches, decode, find_pictures, make_pair, refuse
from training.networks import PlainNet

BATCH = 8
PATCH_PX = 48
"""Side of a patch in input pixels."""
PICTURES = 128
"""So many are read, drawn by the seed: more than that would take longer than the steps."""
LEARNING_RATE = 1e-4
TRUTH_SHARE = 0.5
"""Of the loss; the teacher has the rest. None for networks of texture, which truth would blur."""

Draw = Callable[[], Batch]
"""Gives the next batch."""


class FakeQuant(torch.autograd.Function):
    """Round to an integer grid and back; the gradient passes inside the range, and is 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
        """Return what QuantizeLinear and DequantizeLinear make of `x`."""
        codes = torch.round(x / step) + zero
        ctx.save_for_backward((codes >= least) & (codes <= most))
        return (codes.clamp(least, most) - zero) * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of `x`."""
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


def fake_quantise(x: Tensor, step: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
    """Return `x` on the grid of `least` .. `most` around `zero`, with a straight-through gradient.

    Args:
        x: any shape, float32.
        step: width of the grid; of a shape that broadcasts to that of `x`.
        zero: code of 0, float32, like `step`.
        least: smallest code.
        most: largest code.
    """
    result: Tensor = FakeQuant.apply(x, step, zero, least, most)  # type: ignore[no-untyped-call]
    return result


def weight_step(weight: Tensor, flavour: Flavour, float_type: npt.DTypeLike) -> Tensor:
    """Return (out, 1, 1, 1): the steps that `export.quantise.insert` takes, as float32."""
    exact = weight.detach().numpy()
    step = quantise.weight_step(exact, float_type, bounded=flavour == "cpu")
    return torch.from_numpy(step.astype(np.float32))[:, None, None, None]


class FakeConv(nn.Module):
    """A convolution that reads and weighs as its INT8 form does.

    Args:
        conv: what is tuned.
        bounds: smallest and largest value of its input; frozen.
        means: (in,) of its input's channels; frozen.
        flavour: which form of INT8.
        float_type: of the graph, and so of the steps.
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
        weight = fake_quantise(conv.weight, step, zero, -127, 127)
        # as the inserter does; its gradient would be 0, because rounding passes it straight through
        bias = conv.bias + (conv.weight - weight).detach().sum(dim=(2, 3)) @ self._means
        if self._flavour == "cpu":
            limit = np.iinfo(np.int32).max
            bias = fake_quantise(bias, self._step * step.flatten(), zero, -limit, limit)
        read = fake_quantise(x, self._step, self._zero, *self._codes)
        return F.conv2d(read, weight, bias, padding=conv.padding)


def check_offered(source: Source) -> None:
    """Refuse what QAT is not offered for.

    Raises:
        UsageError: the source is no plain network of ours, or its scale is 1.
    """
    network = source.network if isinstance(source, TorchSource) else None
    if not isinstance(network, PlainNet) or not network.int8_friendly or source.facts.scale == 1:
        kind = source.facts.architecture or type(source).__name__
        raise UsageError(
            f"--qat tunes plain convolutional upscalers, given as a checkpoint of ours; this is "
            f"{kind} (x{source.facts.scale}): leave --qat out"
        )


def patches(folder: Path, scale: int, *, seed: int, without: Container[Path] = ()) -> Patches:
    """Return seeded patches of pictures in a folder, reduced by training's bicubic.

    Args:
        folder: of pictures.
        scale: of the network.
        seed: of the draw.
        without: pictures that are not looked at.

    Raises:
        DataError: no picture in it is usable.
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
    """Return the network with the graph's weights, rounding where its INT8 graph will.

    Args:
        network: the float32 one.
        model: its graph, channels evened out; float32 for `cpu`, float16 for `gpu`.
        calibration: of the same graph.
        flavour: which form.
    """
    net = copy.deepcopy(network).train()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.tensor(weights_of(model, _in_graph(name))))
    numbers = {_in_graph(f"convs.{i}.weight"): i for i in range(len(net.convs))}
    for layer in quantisable(conv_layers(model), flavour):
        conv = net.convs[numbers[layer.name]]
        assert isinstance(conv, nn.Conv2d)
        ranges, means = calibration.ranges[layer.name], calibration.means[layer.name]
        kind = float_type_of(model.graph, layer.weight)
        net.convs[numbers[layer.name]] = FakeConv(conv, ranges, means, flavour, kind)
    return net


def train(net: nn.Module, teacher: nn.Module, draw: Draw, steps: int, truth: float) -> None:
    """Take steps of Adam, cosine to 0, against the distance to truth and teacher (L1).

    Raises:
        ExportError: the loss is no longer a number.
    """
    optimiser = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in tqdm(range(steps), "QAT", leave=False, disable=not sys.stderr.isatty()):
        batch = draw()
        with torch.no_grad():
            wanted = teacher(batch.lr)
        got = net(batch.lr)
        loss = truth * F.l1_loss(got, batch.hr) + (1 - truth) * F.l1_loss(got, wanted)
        if not math.isfinite(value := float(loss.detach())):
            raise ExportError(f"QAT: the loss is {value} at step {step}; leave --qat out")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
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
        source: whose network teaches.
        model: its graph, channels evened out; float32 for `cpu`, float16 for `gpu`.
        calibration: of the same graph; its ranges stay as they are.
        flavour: which form of INT8 to tune for.
        draw: gives batches.
        steps: how many.
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
    """Return what the graph calls a parameter: `graph.Uint8Graph` holds the network."""
    return f"network.{name}"
