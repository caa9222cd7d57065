"""Wrap a network for export, from input pixels to output pixels, in float32 or float16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

INPUT, OUTPUT = "image", "upscaled"
EPS, CONFIDENCE = "eps", "confidence"  # vae only
PROBE_PX, STRIP_PX = 129, 24


class Uint8Graph(nn.Module):
    """Wrap a float NCHW network (0..1) so that its boundary is (N, H, W, C) uint8.

    TensorRT requires this order of operations: cast before transpose at the input, transpose before
    cast at the output, clip and round before the cast (which truncates). Both ends are float32 in
    every precision: near 255, float16 resolves only 1/8 of a level.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, values: Tensor | None = None) -> Tensor:
        """Upscale (N, H, W, C) uint8 to (N, H * scale, W * scale, C) uint8.

        `values`: (numbers,) float32, of a network that takes numbers beside the picture.
        """
        x = (image.to(torch.float32) / 255.0).permute(0, 3, 1, 2)
        y = self.network(x) if values is None else self.network(x, values)
        levels = torch.round(torch.clamp(y * 255.0, 0.0, 255.0))
        return levels.permute(0, 2, 3, 1).to(torch.uint8)


class FloatGraph(nn.Module):
    """Wrap a network for pictures of more than 8 bits: (N, H, W, C) float32, 0..1, clipped."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, values: Tensor | None = None) -> Tensor:
        """Upscale (N, H, W, C) float32 to (N, H * scale, W * scale, C) float32."""
        x = image.permute(0, 3, 1, 2)
        y = self.network(x) if values is None else self.network(x, values)
        return torch.clamp(y, 0.0, 1.0).permute(0, 2, 3, 1)


def halved(network: nn.Module, probe: Tensor) -> nn.Module:
    """Return a copy that computes in float16, with float32 input and output.

    Modules with weights become float16 and cast their inputs; the last convolution returns float32,
    so its sum with an anchor of the input is float32. On gan_x4 and Set5, in PyTorch's own float16,
    1.3 % of samples are off by 1 LSB, against 3.2 % with everything in float16. A network that
    fails with mixed types is converted as a whole.

    The names of the weights do not change, so layers of both precisions can be matched.

    Args:
        network: maps (N, C, H, W) floats, 0..1.
        probe: an input to test the copy on.
    """
    result = copy.deepcopy(network).eval().half()
    for name, buffer in network.named_buffers(recurse=False):
        # the anchor's kernel stays float32, like the input that it is applied to
        setattr(result, name, buffer.clone())
    for module in _leaves(result):
        module.register_forward_pre_hook(_to_half)
    _last_convolution(network, result, probe).register_forward_hook(_to_float)
    try:
        with torch.no_grad():
            result(probe)
    except RuntimeError:
        result = copy.deepcopy(network).eval().half()
        result.register_forward_pre_hook(_to_half)
        result.register_forward_hook(_to_float)
    return result


def rounded(network: nn.Module) -> nn.Module:
    """Return a float32 copy whose weights and activations are rounded to float16.

    This simulates a GPU, which sums in float32 and stores in float16, at the speed of float32: real
    float16 is slow on CPUs without float16 instructions, and ONNX Runtime computes a float16 graph
    in float32 throughout. On gan_x2, 1.335 % of samples are off by 1 LSB, against 1.341 % in
    PyTorch's own float16. Sums between modules are not rounded.
    """
    result = copy.deepcopy(network).eval()
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.copy_(parameter.half().float())
    for module in _leaves(result):
        module.register_forward_pre_hook(_round_inputs)
        module.register_forward_hook(_round_output)
    return result


def _leaves(network: nn.Module) -> list[nn.Module]:
    """Return the modules that hold weights themselves."""
    return [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]


def _last_convolution(network: nn.Module, twin: nn.Module, probe: Tensor) -> nn.Module:
    """Return the module of the copy `twin` whose original is the last convolution to run."""
    twins = dict(twin.named_modules())
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            network(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return twins[order[-1]] if order else twin


def _to_half(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    # a cast without effect would be traced too, and triple the export time of a deep network
    return tuple(_each(v, lambda t: t if t.dtype == torch.float16 else t.half()) for v in inputs)


def _to_float(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    return _each(output, Tensor.float)


def _round_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_each(value, _rounded) for value in inputs)


def _round_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    return _each(output, _rounded)


def _rounded(value: Tensor) -> Tensor:
    return value.half().float()


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change the float tensors of a value; window attention also passes sizes and indexes on."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return type(value)(_each(each, change) for each in value)
    return value


@torch.no_grad()
def receptive_radius(
    network: nn.Module,
    scale: int,
    channels: int = 3,
    *,
    multiple_px: int = 1,
    minimum_px: int = 1,
) -> int:
    """Return the radius of the receptive field, in input pixels.

    One input pixel is NaN, the others are 0. NaN survives every multiplication, addition and ReLU,
    so exactly the outputs that can depend on this pixel are NaN, whatever the weights are.
    The probe is a horizontal and then a vertical strip: with 16 million weights this takes seconds,
    a square would take minutes. A longer strip is tried for networks with a larger receptive field.

    Args:
        network: maps (N, C, H, W) floats.
        scale: output size over input size.
        channels: of the input.
        multiple_px: input sizes are multiples of this.
        minimum_px: smallest height and width of the input.

    Raises:
        ValueError: the receptive field exceeds half of the probe (global context).
    """

    def strip(length_px: int) -> tuple[int, int]:
        sides = (length_px, max(STRIP_PX, minimum_px))
        length, width = (-(-side // multiple_px) * multiple_px for side in sides)
        return length, width

    reached = 0
    for is_upright in (False, True):
        try:
            reach = _reach(network, scale, channels, strip(PROBE_PX), is_upright)
        except ValueError:
            reach = _reach(network, scale, channels, strip(3 * PROBE_PX), is_upright)
        reached = max(reached, reach)
    # only one position within a block of `multiple_px` pixels was tested
    return reached + multiple_px - 1


def _reach(
    network: nn.Module, scale: int, channels: int, strip_px: tuple[int, int], is_upright: bool
) -> int:
    length, width = strip_px
    probe = torch.zeros(1, channels, *((length, width) if is_upright else (width, length)))
    center = torch.tensor(probe.shape[2:]) // 2
    probe[:, :, center[0], center[1]] = float("nan")
    touched = torch.isnan(network(probe)).any(dim=1)[0].nonzero() // scale
    along = 0 if is_upright else 1
    if not len(touched):
        raise ValueError("no result is NaN: the network compares pixels, which hides it")
    reach = int((touched - center).abs()[:, along].max())
    if reach >= length - int(center[along]) - 1:
        raise ValueError(f"the network sees {reach} px or more: it has global context")
    return reach
