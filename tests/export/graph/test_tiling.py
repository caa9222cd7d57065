"""How a network can be tiled is found by running it: by its position, its reach and its context."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from export.graph.wrapper import Uint8Graph, receptive_radius
from export.protocol import Batch, Run
from srsdk.adoption.tiles.influence import measured_radius
from srsdk.adoption.tiles.reach import Reach, find_reach


class Windows(nn.Module):
    """Add the mean of a window to each of its pixels; then the same in windows shifted by half."""

    def __init__(self, window_px: int, layers: int = 2) -> None:
        super().__init__()
        self.window_px, self.layers = window_px, layers

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to itself; the window that shifting tears apart is left out."""
        size = self.window_px
        for layer in range(self.layers):
            shift = size // 2 if layer % 2 else 0
            inner = x[:, :, shift : x.shape[2] - shift or None, shift : x.shape[3] - shift or None]
            n, c, height, width = inner.shape
            parts = inner.reshape(n, c, height // size, size, width // size, size)
            mean = parts.mean(dim=(3, 5), keepdim=True).expand_as(parts)
            mixed = (0.5 * parts + 0.5 * mean).reshape(inner.shape)
            x = nn.functional.pad(mixed, (shift,) * 4, mode="replicate") if shift else mixed
        return x


class Global(nn.Module):
    """Scale each channel by the mean of the whole picture, as channel attention does."""

    def __init__(self, share: float, window_px: int = 0) -> None:
        super().__init__()
        self.share = share
        self.windows = Windows(window_px) if window_px else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to itself."""
        y: Tensor = self.windows(x)
        return y * (1 - self.share + self.share * 2 * x.mean(dim=(2, 3), keepdim=True))


def blur(size_px: int) -> nn.Module:
    """Return a box filter."""
    layer = nn.Conv2d(3, 3, size_px, padding=size_px // 2, groups=3, bias=False)
    nn.init.constant_(layer.weight, 1 / size_px**2)
    return layer


def runner(network: nn.Module) -> Run:
    """Return the network with a uint8 boundary."""
    graph = Uint8Graph(network).eval()

    @torch.no_grad()
    def run(image: Batch) -> Batch:
        result: Batch = graph(torch.from_numpy(np.ascontiguousarray(image))).numpy()
        return result

    return run


def reach_of(network: nn.Module, *, structural: bool = True, **options: Any) -> Reach:
    """Find the reach, from the structure too or by measuring alone."""

    def radius(grid: int) -> int | None:
        try:
            return receptive_radius(network, 1, multiple_px=grid)
        except ValueError:
            return None

    return find_reach(
        runner(network), 1, 3, structural=radius if structural else lambda _: None, **options
    )


@pytest.mark.parametrize("structural", [True, False])
def test_a_convolution_is_exact(structural: bool) -> None:
    """Its tiles may start anywhere; the radius is that of the filter, known or measured."""
    found = reach_of(blur(9), structural=structural)
    assert found == Reach("exact", 4, not structural, 1)


@pytest.mark.parametrize("window", [4, 8, 12, 14, 16])
def test_windows_are_aligned(window: int) -> None:
    """The grid is that of the windows, not a divisor or a multiple of it."""
    side = {12: 12, 14: 14}.get(window, 1)  # sizes that it does not pad itself
    found = reach_of(Windows(window), structural=False, multiple_px=side)
    assert (found.tiling, found.multiple_px) == ("aligned", window)
    assert window // 2 <= found.radius_px <= 3 * window


def test_the_structure_of_windows_is_used() -> None:
    """The NaN of one pixel spreads by half a window and by a window, from the worst position."""

    class Plain(Windows):
        def forward(self, x: Tensor) -> Tensor:
            size = self.window_px
            padded = nn.functional.pad(x, (0, -x.shape[3] % size, 0, -x.shape[2] % size))
            return super().forward(padded)[:, :, : x.shape[2], : x.shape[3]]

    found = reach_of(Plain(8, layers=1))
    assert (found.tiling, found.multiple_px, found.is_measured) == ("aligned", 8, False)
    assert 7 <= found.radius_px <= 7 + 8


def test_global_context_is_bounded() -> None:
    """No overlap and no grid makes tiles equal to the whole."""
    assert reach_of(Global(0.5)) == Reach("bounded", 32, True, 1)


def test_a_grid_is_found_beside_global_context() -> None:
    """Tiles off the windows' grid would add to what they cost."""
    found = reach_of(Global(0.3, window_px=8), multiple_px=8)
    assert (found.tiling, found.multiple_px) == ("bounded", 8)


def test_context_below_a_level_is_not_global() -> None:
    """What changes no level does not cost anything."""
    assert reach_of(Global(0.004)).tiling == "exact"


def test_the_smallest_input_is_part_of_the_multiple() -> None:
    """A network that needs 20 px, with windows of 8 px, takes multiples of 24."""
    found = reach_of(Windows(8), structural=False, multiple_px=8, minimum_px=20)
    assert (found.tiling, found.multiple_px) == ("aligned", 24)


def test_a_fixed_size_is_measured() -> None:
    """Its tiles are compared with each other, because there is no whole picture."""
    assert reach_of(blur(9), structural=False, size_px=(64, 96)) == Reach("exact", 4, True, 1)
    found = reach_of(Windows(8), structural=False, multiple_px=8, size_px=(64, 96))
    assert (found.tiling, found.multiple_px) == ("aligned", 8)
    found = reach_of(Global(0.5), structural=False, size_px=(64, 96))
    assert found == Reach("bounded", 16, True, 1)


def test_tiles_on_the_grid_equal_the_whole() -> None:
    """What is found holds for another picture, at every position of the grid."""
    network = Windows(8)
    found, run = reach_of(network, structural=False, multiple_px=8), runner(network)
    random = np.random.default_rng(3)
    picture: npt.NDArray[np.uint8] = random.integers(0, 256, (1, 160, 160, 3), dtype=np.uint8)
    whole = run(picture).astype(int)
    side = 2 * found.radius_px + 24
    side += -side % 8
    for start in range(8, 160 - side, 8):
        end = start + side
        tile = run(picture[:, start:end, start:end]).astype(int)
        inner = slice(found.radius_px, side - found.radius_px)
        there = whole[:, start:end, start:end][:, inner, inner]
        assert np.abs(tile[:, inner, inner] - there).max() <= 1


def test_influence_everywhere_is_no_radius() -> None:
    """`measured_radius` tells global context by returning nothing."""
    assert measured_radius(runner(Global(0.5)), 1, 3) is None
