"""The plain network: nothing but 3x3 convolutions."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks import blocks, layers

_ADDED = ("along_width", "along_height", "center")
"""Parameters that `reparam` adds to a convolution."""


class PlainNet(nn.Module):
    """conv3x3 + ReLU, a nearest-neighbor anchor, and a PixelShuffle.

    Only convolutions between input and output, because every engine fuses them best and they
    survive INT8 best. With the anchor (the input repeated `scale**2` times, added before the
    shuffle) the net learns only the difference from nearest-neighbor
    (Du et al. 2021, "Anchor-based Plain Net", arXiv:2105.09750).

    With `attention`, a block of `networks.blocks` follows every second convolution of the body;
    with `reparam`, each convolution is a sum of four, which `deployed` merges.

    `bf16 = True` runs the convolutions under bfloat16 autocast while it is in training mode.
    """

    anchor: Tensor

    def __init__(
        self,
        scale: int,
        width: int,
        depth: int,
        *,
        colors: int = 3,
        attention: str = "none",
        reparam: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.width = width
        self.depth = depth
        self.colors = colors
        self.bf16 = False
        self.attention = attention
        self.reparam = reparam
        widths = [colors, *[width] * (depth + 1), colors * scale**2]
        conv = blocks.CollapsedConv if reparam else _conv3x3
        self.convs = nn.ModuleList([conv(a, b) for a, b in itertools.pairwise(widths)])
        count = 0 if attention == "none" else depth // 2
        self.attentions = nn.ModuleList([blocks.attention(attention, width) for _ in range(count)])
        self.register_buffer("anchor", layers.repeat_kernel(colors, scale), persistent=False)
        for layer in self.convs:
            _identity_init(layer)
        with torch.no_grad():
            tail = self.convs[-1].weight
            assert isinstance(tail, Tensor)
            tail.mul_(0.3)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            lr: (N, C, H, W), float, 0..1.

        Returns:
            (N, C, H * scale, W * scale), float, not clipped.
        """
        if self.bf16 and self.training:
            with torch.autocast(lr.device.type, torch.bfloat16):
                residual = self._residual(lr)
        else:
            residual = self._residual(lr)
        # the anchor stays in the input's precision: bf16 has 8 bits, no more than a picture
        anchored = F.conv2d(lr, self.anchor) + residual.to(lr.dtype)
        return F.pixel_shuffle(anchored, self.scale)

    def _residual(self, lr: Tensor) -> Tensor:
        x = F.relu(self.convs[0](lr))
        before = x
        for number, conv in enumerate(self.convs[1:-1], start=1):
            x = conv(x)
            if self.attentions and number % 2 == 0:
                x = before = self.attentions[number // 2 - 1](x, before)
            else:
                x = F.relu(x)
        tail: Tensor = self.convs[-1](x)
        return tail

    @property
    def int8_friendly(self) -> bool:
        """Whether post-training INT8 is worth trying: convolutions only, no products of maps."""
        return self.attention == "none"

    def deployed(self) -> PlainNet:
        """Return the net for inference: itself, or a copy whose convolutions are merged."""
        if not self.reparam:
            return self
        net = PlainNet(
            self.scale, self.width, self.depth, colors=self.colors, attention=self.attention
        )
        state = {n: t for n, t in self.state_dict().items() if n in net.state_dict()}
        for index, conv in enumerate(self.convs):
            assert isinstance(conv, blocks.CollapsedConv)
            state[f"convs.{index}.weight"] = conv.kernel().detach()
        net.load_state_dict(state)
        net.bf16 = self.bf16
        return net.train(self.training)


def warm_start(net: PlainNet, state: dict[str, Tensor]) -> None:
    """Load trained weights of a net of the same or a smaller size, whose scale divides this net's.

    Additional parts change nothing at first (Chen et al. 2016, "Net2Net", arXiv:1511.05641): the
    tail of a smaller scale is repeated, each of its sub-pixels becoming a block of equal ones; new
    layers are the identity; new channels are initialized as in a new net, and the old ones ignore
    them.

    Raises:
        ValueError: the weights belong to another architecture or to a larger net.
    """
    given = _deepened(net, state)
    own_state = net.state_dict()
    # parameters that a plain net lacks are initialized as in a new net, where they change nothing
    state = {n: t for n, t in own_state.items() if n.endswith(_ADDED)} | given
    if state.keys() != own_state.keys():
        odd = sorted(state.keys() ^ own_state.keys())
        raise ValueError(f"weights of another architecture: {odd[:4]} differ")
    tail = f"convs.{len(net.convs) - 1}"
    small = round((state[f"{tail}.bias"].numel() / net.colors) ** 0.5)
    times = net.scale // small
    if small * times != net.scale:
        raise ValueError(f"cannot start a x{net.scale} net from a x{small} one")
    adapted = dict(state)
    for name in [name for name in given if name.startswith(f"{tail}.")]:
        value = state[name]
        grid = value.reshape(net.colors, small, small, *value.shape[1:])
        grid = grid.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
        adapted[name] = grid.flatten(0, 2)
    if not net.attentions and given["convs.0.weight"].shape[0] < net.width:
        adapted = _widened(own_state, adapted)
    layers.load_exactly(net, adapted)


def _deepened(net: PlainNet, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Insert identity layers between the body and the tail of a shallower net.

    The output of a ReLU is never negative: the identity and another ReLU do not change it.
    """
    numbers = [name.split(".")[1] for name in state if name.startswith("convs.")]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    missing = len(net.convs) - 1 - last
    if net.attention != "none" or missing <= 0 or last < 1:
        return state
    renamed = {
        name.replace(f"convs.{last}.", f"convs.{last + missing}.")
        if name.startswith(f"convs.{last}.")
        else name: value
        for name, value in state.items()
    }
    width = state[f"convs.{last}.weight"].shape[1]
    kernel = torch.zeros(width, width, 3, 3)
    kernel[:, :, 1, 1] = torch.eye(width)
    for number in range(last, last + missing):
        renamed[f"convs.{number}.weight"] = kernel.clone()
        renamed[f"convs.{number}.bias"] = torch.zeros(width)
    return renamed


def _widened(own: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy a narrower net's weights into new ones; its channels ignore the new channels."""
    wide = {}
    for name, value in state.items():
        new = own[name].clone()
        if any(old > limit for old, limit in zip(value.shape, new.shape, strict=True)):
            raise ValueError(
                f"weights of another architecture: {name} is {tuple(value.shape)}, "
                f"expected at most {tuple(new.shape)}"
            )
        rows = value.shape[0]
        new[:rows] = 0.0
        new[tuple(slice(size) for size in value.shape)] = value
        wide[name] = new
    return wide


def _conv3x3(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _identity_init(conv: nn.Module) -> None:
    """Initialize as the identity plus 0.3 times Kaiming.

    With the usual initialization, a plain ReLU stack next to an anchor dies under L1: "output 0"
    is a stable state (measured: 23.9 dB, which is nearest-neighbor, against 26.9 dB).
    """
    assert isinstance(conv, nn.Conv2d)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.mul_(0.3)
        for channel in range(min(conv.in_channels, conv.out_channels)):
            conv.weight[channel, channel, 1, 1] += 1.0
        conv.bias.zero_()
