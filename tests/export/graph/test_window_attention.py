"""A transformer with window attention, from weights to the runtime: its tiles equal the whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import srsdk
from export.graph.onnx_file import attach, write
from export.options import Options, plan
from export.record import Made, Report
from export.sources.module import TorchSource, torch_source
from export.work import Work
from tests.export.sources.test_sources import needs_spandrel

WINDOW_PX = 8


def swinir() -> nn.Module:
    """Return a small SwinIR x2 whose attention is strong enough to be seen in every pixel."""
    from export.sources.spandrel_weights import import_spandrel

    import_spandrel()
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    network: nn.Module = SwinIR(
        img_size=64, depths=[2, 2], embed_dim=24, num_heads=[3, 3], window_size=WINDOW_PX,
        mlp_ratio=2, upscale=2, upsampler="pixelshuffledirect",
    )  # fmt: skip
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(8)
    return network.eval()


class Textured(nn.Module):
    """Add some of a network's result to the enlarged picture, as a trained network does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            result = network(torch.rand(1, 3, 64, 64))
        self.mean, self.share = float(result.mean()), 0.05 / float(result.std())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, 2 * H, 2 * W)."""
        large = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        result: Tensor = large + (self.network(x) - self.mean) * self.share
        return result


pytestmark = [
    needs_spandrel,
    pytest.mark.slow,
    # spandrel's SwinIR leaves out an argument
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),
]


@pytest.fixture(scope="module")
def source() -> TorchSource:
    """The network, as weights in a file would be opened."""
    return torch_source(
        Textured(swinir()), name="s", family="foreign", scale=2, sha256="0" * 64, minimum_px=16
    )


@pytest.fixture(scope="module")
def made(source: TorchSource, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The exported file."""
    folder = tmp_path_factory.mktemp("window")
    (artifact,) = plan(folder / "s.onnx", "s", Options())
    return Work(source, Options(), {}, "", Report("s")).make(artifact, artifact.path)


def test_tiles_of_a_transformer_equal_the_whole(source: TorchSource, made: Made) -> None:
    """For several sizes and tiles, in the file that the exporter writes: at most 1 level."""
    facts, manifest = source.facts, made.manifest
    assert (facts.tiling, facts.multiple_px, facts.radius_measured) == ("aligned", 16, False)
    assert (manifest.tiling, manifest.multiple_px) == ("aligned", 16)
    random = np.random.default_rng(0)
    path = made.artifact.path
    for height, width, tile in ((97, 150, 80), (150, 131, (96, 80)), (176, 90, 96)):
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        with (
            srsdk.Upscaler(path, backend="onnxruntime", tile=192, health=False) as up,
            srsdk.Upscaler(path, backend="onnxruntime", tile=tile, health=False) as tiled,
        ):
            assert up.plan(height, width).tiles == 1
            assert tiled.plan(height, width).tiles > 1
            difference = np.abs(up(picture).astype(int) - tiled(picture))
            assert difference.max() <= 1
            assert f"overlap {facts.radius_px} px on a grid of 16 px" in repr(tiled)


def test_tiles_off_the_grid_differ(made: Made, tmp_path: Path) -> None:
    """The test above has something to find: on another grid, tiles differ from the whole."""
    model = onnx.load(made.artifact.path)
    del model.metadata_props[:]
    attach(model, dataclasses.replace(made.manifest, multiple_px=4, probe=None))
    write(model, tmp_path / "off.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    path = made.artifact.path
    with (
        srsdk.Upscaler(path, backend="onnxruntime", health=False) as up,
        srsdk.Upscaler(tmp_path / "off.onnx", backend="onnxruntime", tile=88, health=False) as off,
    ):
        assert np.abs(up(picture).astype(int) - off(picture)).max() > 1
