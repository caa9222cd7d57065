"""Without the last pixel shuffle of an INT8 file: the same pixels, from fewer operations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

import srsdk
from srsdk import models
from srsdk.engines.compiled import forms as compiled_forms
from srsdk.engines.compiled.forms import OWN_AFTER_VALUES
from srsdk.engines.compiled.openvino_tail import outputs_for, without_shuffle
from srsdk.engines.openvino import OpenVinoEngine, OpenVinoSlot
from srsdk.inference import blocks
from tests.conftest import make_picture

SCALES = {"gan_x2.int8": 2, "gan_x4.int8": 4}
TILES: dict[str, Any] = {"one tile": {}, "tiles": {"tile": 64}, "batches": {"tile": 64, "batch": 3}}


def shuffling(
    channels: int, scale: int, *, swapped: bool = False, kind: Any = np.uint8
) -> ov.Model:
    """Return a graph of static shapes that ends like an INT8 file, after a 1x1 convolution's place.

    Args:
        channels: colors.
        scale: scale of the shuffle.
        swapped: exchange the last two parts of the Split, which is another permutation.
        kind: type of the pixels.
    """
    n, height, width, into = 2, 6, 10, channels * scale**2
    image = ops.parameter([n, height, width, channels], kind)
    planes = ops.transpose(image, np.array([0, 3, 1, 2]))
    wide = ops.concat([planes] * scale**2, 1)
    # distinct bytes in each place
    added = ops.constant(np.arange(into, dtype=kind).reshape(1, into, 1, 1))
    split = ops.variadic_split(ops.add(wide, added), np.array(1), np.full(scale, into // scale))
    parts = [split.output(index) for index in range(scale)]
    if swapped:
        parts[-2:] = parts[:-3:-1]
    turned = [ops.transpose(part, np.array([0, 2, 3, 1])) for part in parts]
    flat = [ops.reshape(part, np.array([0, 0, 1, -1]), special_zero=True) for part in turned]
    shape = np.array([n, height * scale, width * scale, channels])
    result = ops.reshape(ops.concat(flat, 2), shape, special_zero=False)
    return ov.Model([result], [image])


def as_written(path: Path, picture: np.ndarray) -> np.ndarray:
    """Return what OpenVINO computes from the file as it is."""
    core = ov.Core()
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", config)
    found: np.ndarray = compiled(picture[None])[0][0]
    return found


@pytest.fixture(params=SCALES)
def name(request: Any) -> str:
    """Blocks with rows of 6 bytes (x2), and rows of pixels (x4)."""
    return str(request.param)


@contextmanager
def opened(name: str, **options: Any) -> Iterator[srsdk.Upscaler]:
    """Open a file that is compiled for each shape at once, so that its output has blocks."""
    with (
        patch.object(compiled_forms, "OWN_AFTER_VALUES", 0),
        srsdk.Upscaler(models.find(name), backend="openvino", **options) as up,
    ):
        yield up


@pytest.mark.parametrize("tiling", TILES)
def test_no_pixel_changes(name: str, tiling: str) -> None:
    """In one tile, in tiles, in batches."""
    picture = make_picture(131, 150, 3)
    with opened(name, **TILES[tiling]) as up:
        np.testing.assert_array_equal(up(picture), as_written(models.find(name), picture))


def test_any_array_takes_the_result(name: str) -> None:
    """Also one whose colors lie apart or backwards in memory."""
    picture = make_picture(40, 51, 3)
    with opened(name) as up:
        expected = up(picture)
        planes = np.empty((3, *expected.shape[:2]), np.uint8)
        for out in (planes.transpose(1, 2, 0), np.empty_like(expected)[:, ::-1, ::-1]):
            up(picture, out=out)
            np.testing.assert_array_equal(out, expected)


def test_a_wrong_result_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output checks see the pixels of blocks, in their places."""
    wait = OpenVinoSlot.wait

    def shifted(slot: OpenVinoSlot) -> np.ndarray:
        output = wait(slot)
        assert output.ndim == 6
        return np.roll(output, 20, axis=3)

    steps = np.repeat((np.arange(160) // 20 % 2 * 200).astype(np.uint8)[None], 120, axis=0)
    picture = np.repeat(steps[:, :, None], 3, axis=2)
    with opened(name) as up:
        up(picture)
        monkeypatch.setattr(OpenVinoSlot, "wait", shifted)
        with pytest.raises(srsdk.HealthError, match="away from bicubic"):
            up(picture)


def test_the_engine_returns_blocks(name: str) -> None:
    """As soon as the model is compiled for the shape."""
    engine = OpenVinoEngine(models.find(name), threads=1)
    shape = (1, 180, 320, 3)
    slot = engine.slot(shape)
    for _ in range(OWN_AFTER_VALUES // math.prod(shape) + 1):
        slot.submit()
        found = slot.wait().shape
    assert found == (1, 180, SCALES[name], 320, SCALES[name], 3)
    slot.close()
    engine.close()


@pytest.mark.parametrize(("channels", "scale"), [(1, 2), (3, 2), (1, 3), (3, 3), (1, 4), (3, 4)])
def test_each_byte_reaches_its_place(channels: int, scale: int) -> None:
    """Every number of colors and every scale."""
    expected = run(shuffling(channels, scale))[0]
    cut = without_shuffle(shuffling(channels, scale))
    shapes = [tuple(port.shape) for port in cut.outputs]
    buffers, view = outputs_for(shapes, (2, 6, 10, channels), "uint8")
    for buffer, found in zip(buffers, run(cut), strict=True):
        buffer[...] = found
    assert view.shape == (2, 6, scale, 10, scale, channels)
    for index in range(2):
        np.testing.assert_array_equal(blocks.joined(view[index]), expected[index])


def run(model: ov.Model) -> list[np.ndarray]:
    """Compute a graph for the same random pixels each time."""
    port = model.inputs[0]
    pixels = np.random.default_rng(0).integers(0, 99, tuple(port.shape))
    compiled = ov.Core().compile_model(model, "CPU")
    request = compiled.create_infer_request()
    request.infer([pixels.astype(port.element_type.to_dtype())])
    return [request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))]


@pytest.mark.parametrize(
    "model",
    [
        shuffling(3, 4, swapped=True),
        shuffling(3, 2, swapped=True),
        shuffling(3, 2, kind=np.float32),
    ],
    ids=["another order of rows", "another order of two rows", "floats"],
)
def test_other_forms_stay(model: ov.Model) -> None:
    """A graph that only resembles an INT8 file of ours is computed as it is."""
    assert without_shuffle(model) is model


@pytest.mark.parametrize("name", ["gan_x2", "gan_x2.int8"])
def test_dynamic_and_float_graphs_stay(name: str) -> None:
    """The recognition needs static shapes; a float file has no such tail."""
    model = ov.Core().read_model(models.find(name))
    assert without_shuffle(model) is model
