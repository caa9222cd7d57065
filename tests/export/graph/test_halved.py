"""Float16 copies of networks whose modules pass on more than tensors of floats."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.graph.wrapper import halved, rounded


class Part(nn.Module):
    """A layer with a weight of its own that also gets a size and an index, and returns both."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(
        self, x: Tensor, size: tuple[int, int], index: Tensor
    ) -> tuple[Tensor, tuple[int, int], Tensor]:
        """Return features, size and index."""
        return self.layer(x) * self.gain, size, index


class Network(nn.Module):
    """One part, as window attention calls its blocks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.part = Part()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to itself."""
        features, (height, width), index = self.part(x, (4, 5), torch.arange(3))
        assert index.dtype == torch.int64
        moved: Tensor = features[:, index] + (height - width + 1)
        return moved


def test_sizes_and_indexes_stay_as_they_are() -> None:
    """Both copies are close to the network, and return float32."""
    network, picture = Network().eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        wanted = network(picture)
        for copy in (halved(network, picture), rounded(network)):
            found = copy(picture)
            assert found.dtype == torch.float32
            assert 0 < float((found - wanted).abs().max()) < 2e-3
