"""Give a network random weights whose results look like pictures, so that levels mean something."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STD = 0.2
"""Standard deviation of the results, of 1: black to white are about five of them."""
SIDE_PX = 64
WEAK, STRONG = 0.4, 0.8
"""Deviation of weights, times the square root of a layer's inputs. Constructors of transformers
draw weaker ones, which leave every branch but the first without influence on a level."""


def picture_like(network: nn.Module, call: nn.Module, side_px: int = SIDE_PX) -> None:
    """Draw weights that are 0, and scale the last convolution: mean 0.5, deviation 0.2.

    Constructors set some weights to 0, such as the scales of residual branches, and a network
    without its branches would test little. With random weights most results are all black.

    Args:
        network: its parameters are changed.
        call: maps (N, C, H, W) floats 0..1 with that network.
        side_px: side of the test picture.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not bool(parameter.any()):
                parameter.normal_(0, 0.02 if name.endswith("bias") else 0.1)
            elif "relative_position_bias" in name:
                parameter.mul_(10)
            elif parameter.ndim > 1 and parameter[0].numel() > 1:
                strength = float(parameter.std()) * parameter[0].numel() ** 0.5
                if 0 < strength < WEAK:
                    parameter.mul_(STRONG / strength)
        _scale_last(network, call, _picture(network, side_px))


def _scale_last(network: nn.Module, call: nn.Module, picture: Tensor) -> None:
    """Results are affine in the last convolution's weights: measure both parts, then solve."""
    last = _last_convolution(network, call, picture)
    if last is None:
        return
    weight, bias = last.weight.clone(), None if last.bias is None else last.bias.clone()
    full = call(picture)

    last.weight.zero_()
    if last.bias is not None:
        last.bias.zero_()
    rest = call(picture)
    part = float((full - rest).std())
    if not part > 0:
        last.weight.copy_(weight)
        return
    share = max(STD**2 - float(rest.std()) ** 2, (0.3 * STD) ** 2) ** 0.5 / part
    last.weight.copy_(weight * share)
    if last.bias is None or bias is None:
        return
    last.bias.copy_(bias * share)
    mean = float(call(picture).mean())
    last.bias.add_(0.01)
    slope = (float(call(picture).mean()) - mean) / 0.01
    last.bias.sub_(0.01)
    if abs(slope) > 1e-6:
        last.bias.add_((0.5 - mean) / slope)


def _last_convolution(network: nn.Module, call: nn.Module, picture: Tensor) -> nn.Conv2d | None:
    order: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in network.modules()
        # not those that are constants, such as the mean color
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.requires_grad
    ]
    try:
        call(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return order[-1] if order else None


def _picture(network: nn.Module, side_px: int) -> Tensor:
    channels = 3
    coarse = torch.rand(1, channels, side_px // 8, side_px // 8)
    enlarged: Tensor = nn.functional.interpolate(coarse, (side_px, side_px), mode="bilinear")
    return (enlarged + 0.05 * torch.randn(enlarged.shape)).clamp(0, 1)
