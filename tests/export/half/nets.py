"""Networks x1 that pass the picture on, around a part that float16 cannot hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 8


class Around(nn.Module):
    """Convolution to features, a part, convolution back, added to the input: (N, 3, H, W)."""

    def __init__(self, part: nn.Module, *, share: float = 0.05) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.part = part
        self.body = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.tail = nn.Conv2d(WIDTH, 3, 3, padding=1, bias=False)
        with torch.no_grad():
            self.tail.weight.mul_(share)

    def forward(self, x: Tensor) -> Tensor:
        """Restore (N, 3, H, W), 0..1."""
        features: Tensor = torch.relu(self.body(self.part(self.head(x))))
        result: Tensor = x + self.tail(features)
        return result


class Large(nn.Module):
    """Two convolutions with values of about 1e5 between them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Conv2d(WIDTH, WIDTH, 1)
        self.down = nn.Conv2d(WIDTH, WIDTH, 1)
        with torch.no_grad():
            self.up.weight.mul_(3e5)
            self.down.weight.mul_(1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's size."""
        result: Tensor = self.down(torch.relu(self.up(x)))
        return result


class Variance(nn.Module):
    """A normalization by hand whose variance is below float16's smallest number, 6e-8."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's size."""
        x = x * 1e-4
        centered = x - x.mean(dim=1, keepdim=True)
        variance = (centered * centered).mean(dim=1, keepdim=True)
        return centered / torch.sqrt(variance + 2e-8)


class Attention(nn.Module):
    """Attention between the channels; its unscaled logits exceed float16's range."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.project = nn.Conv2d(WIDTH, 3 * WIDTH, 1)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's size."""
        query, key, value = (self.project(x) * self.gain).flatten(2).chunk(3, dim=1)
        logits = query @ key.transpose(1, 2) / (self.gain**2 * 64)
        result: Tensor = torch.softmax(logits, dim=-1) @ value / self.gain
        return result.reshape(x.shape)
