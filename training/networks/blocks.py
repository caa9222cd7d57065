"""Optional parts of the plain network: reparameterized convolutions and attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CollapsedConv(nn.Conv2d):
    """A 3x3 convolution whose kernel is the sum of a 3x3, 1x3, 3x1 and 1x1 one.

    Ding et al. 2019 (ACNet, arXiv:1908.03930), but summed in weight space before the one
    convolution, as Bhardwaj et al. 2022 (SESR, arXiv:2103.09404) do: training costs as much as the
    merged net. The small kernels start at 0, so a new one computes the same as a plain one.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)
        self.along_width = nn.Parameter(torch.zeros(after, before, 1, 3))
        self.along_height = nn.Parameter(torch.zeros(after, before, 3, 1))
        self.center = nn.Parameter(torch.zeros(after, before, 1, 1))

    def kernel(self) -> Tensor:
        """Return the merged kernel, (out, in, 3, 3)."""
        return (
            self.weight
            + F.pad(self.along_width, (0, 0, 1, 1))
            + F.pad(self.along_height, (1, 1))
            + F.pad(self.center, (1, 1, 1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, in, H, W) with the merged kernel."""
        return F.conv2d(x, self.kernel(), self.bias, padding=1)


class SqueezeExcite(nn.Module):
    """Channel attention: x * 2 s(W2 relu(W1 mean(x))), s the sigmoid.

    Hu et al. 2018 (arXiv:1709.01507), with a quarter of the channels in between. The factor 2 and
    zero weights in the last layer make a new one a ReLU. The mean is over the whole picture: such a
    net has no finite receptive field, so tiles would differ from the whole.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, max(1, width // 4), 1)
        self.excite = nn.Conv2d(max(1, width // 4), width, 1)
        nn.init.zeros_(self.excite.weight)
        assert self.excite.bias is not None
        nn.init.zeros_(self.excite.bias)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Weigh the channels of (N, C, H, W); `before`, the block's input, is not used."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        gate: Tensor = self.excite(F.relu(self.squeeze(mean)))
        return F.relu(x) * (2 * torch.sigmoid(gate))


class SpanAttention(nn.Module):
    """Parameter-free attention: before + (x + before) * (s(x) - 1/2), s the sigmoid.

    Wan et al. 2024 (SPAN, arXiv:2311.12770), who concatenate distant blocks instead of adding
    `before`; in a plain stack that starts as the identity, the product alone would square the
    signal until it vanishes.
    """

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Weigh (N, C, H, W), the block's last convolution, by itself; `before` is its input."""
        return before + (x + before) * (torch.sigmoid(x) - 0.5)


def attention(kind: str, width: int) -> nn.Module:
    """Build an attention block by its name in the recipe: `se` or `span`."""
    return SqueezeExcite(width) if kind == "se" else SpanAttention()
