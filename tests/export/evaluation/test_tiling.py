"""What tiles cost is measured on pictures, at the corners, without the border that is cut off."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from export.evaluation.memory import bytes_per_px
from export.evaluation.tiling import OVERLAPS_PX, PICTURE_PX, TILE_PX, measure_cost, with_cost
from export.graph.session import session_run
from export.protocol import Batch, Facts
from tests.conftest import make_picture
from tests.export.sources.test_sources import Fading
from tests.networks import nearest
from training.data.pictures import DataError

FACTS = Facts(
    name="n",
    family="foreign",
    scale=1,
    channels=3,
    radius_px=32,
    radius_measured=True,
    tiling="bounded",
    sha256="",
)


def blurred(image: Batch) -> Batch:
    """Average 25x25 px with zeros beyond the border, so that 12 px of a tile's border are wrong."""
    x = torch.from_numpy(image).float().permute(0, 3, 1, 2)
    y = nn.functional.avg_pool2d(x, 25, stride=1, padding=12)
    result: Batch = y.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()
    return result


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with five pictures of different sizes."""
    for index in range(5):
        Image.fromarray(make_picture(400 + 40 * index, 700)).save(tmp_path / f"{index}.png")
    return tmp_path


def test_the_overlap_is_the_smallest_that_is_as_good(pictures: Path) -> None:
    """With 16 px of overlap nothing is left of a border of 12 px, and 8 px are too few."""
    sizes = []

    def run(image: Batch) -> Batch:
        sizes.append(image.shape)
        return blurred(image)

    cost = measure_cost(run, FACTS, [pictures])
    assert list(cost.psnr_db) == [str(px) for px in OVERLAPS_PX]
    assert (cost.tiling, cost.radius_px) == ("bounded", 16)
    assert cost.psnr_db["8"] < 60
    assert cost.psnr_db["16"] == cost.psnr_db["64"] == 99.0
    # of five pictures, every second one, each with its four corners
    whole, tile = (1, PICTURE_PX, PICTURE_PX, 3), (1, TILE_PX, TILE_PX, 3)
    assert sizes == [whole, *[tile] * 4] * 3


def test_the_psnr_is_that_of_what_is_kept() -> None:
    """Tiles that are 4 levels brighter than the whole agree to 10 log10(255^2 / 4^2) dB."""
    cost = measure_cost(lambda x: x // 2 + (x.shape[1] == TILE_PX) * np.uint8(4), FACTS, [])
    assert set(cost.psnr_db.values()) == {36.09}
    assert (cost.tiling, cost.radius_px) == ("bounded", 8)


def test_tiles_that_make_no_sense_are_refused() -> None:
    """Below 30 dB at every overlap, the network computes whole pictures only."""
    cost = measure_cost(lambda x: x // 2 + (x.shape[1] == TILE_PX) * np.uint8(9), FACTS, [])
    assert cost.tiling == "none"


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    """A folder that is named is meant."""
    with pytest.raises(DataError, match="no pictures"):
        measure_cost(lambda image: image, FACTS, [tmp_path])


def test_without_folders_the_sample_is_measured(caplog: pytest.LogCaptureFixture) -> None:
    """It is said that one picture stands for all."""
    cost = measure_cost(lambda image: image, FACTS, [])
    assert set(cost.psnr_db.values()) == {99.0}
    assert "astronaut.png only" in caplog.text


def test_memory_is_that_of_the_activations(tmp_path: Path) -> None:
    """Nearest-neighbor x4 takes its float32 result, 16 times as large as its input, and copies."""
    from export.sources.onnx_file import open_onnx

    source = open_onnx(nearest(tmp_path / "n.onnx", scale=4))
    least = 3 * 4 * 16
    assert least <= bytes_per_px(source.graph("fp32", "uint8"), 3, 1) <= 8 * least


def test_an_overlap_leaves_something_of_the_only_size() -> None:
    """A fixed size of 64 px cannot have tiles that overlap by 32 px, so they cost something."""
    exact = dataclasses.replace(FACTS, tiling="exact", size_px=(64, 96))
    found = with_cost(exact, onnx.ModelProto(), [])
    assert (found.tiling, found.radius_px, found.radius_measured) == ("bounded", 16, True)
    near = dataclasses.replace(exact, radius_px=31)
    assert with_cost(near, onnx.ModelProto(), []) is near


def test_only_global_context_is_measured(tmp_path: Path) -> None:
    """The facts of an exact network do not change; those of a bounded one become complete."""
    from export.sources.module import torch_source
    from export.sources.onnx_file import open_onnx

    exact = open_onnx(nearest(tmp_path / "n.onnx"))
    assert with_cost(exact.facts, exact.graph("fp32", "uint8"), []) is exact.facts
    source = torch_source(Fading(0.5), name="f", family="foreign", scale=2, sha256="")
    assert source.facts.tiling == "bounded"
    graph = source.graph("fp32", "uint8")
    facts = with_cost(source.facts, graph, [])
    assert facts.bytes_per_px > 0
    assert len(facts.tiling_db) == len(OVERLAPS_PX)
    assert with_cost(facts, graph, []) is facts
    assert session_run(graph)(make_picture(8, 8)[None]).shape == (1, 16, 16, 3)
