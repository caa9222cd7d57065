"""Compiled for any size, and on its own for a size that recurs: which, when, and the same bits."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk import models
from srsdk.engines.compiled import forms as compiled_forms
from srsdk.engines.compiled.forms import CompiledForms
from srsdk.engines.openvino import OpenVinoEngine
from srsdk.engines.select import open_engine
from srsdk.inference.blocks import joined
from tests import networks
from tests.conftest import make_picture

SHAPES = ((64, 96), (104, 56), (96, 64), (64, 96))
"""Multiples of 8, which ae_x1 needs."""
RECURS = compiled_forms.OWN_AFTER_VALUES
SHIPPED = sorted(
    path.name.removesuffix(".onnx")
    for path in Path(models.__file__).parent.glob("*.onnx")
    if ".fp16." not in path.name and ".gpu." not in path.name
)


def counted(compiled: list[Any]) -> Callable[[tuple[int, ...]], Any]:
    """Return a compiler that lists the shapes that it compiled."""

    def compile_own(shape: tuple[int, ...]) -> Any:
        compiled.append(shape)
        return object()

    return compile_own


def test_a_shape_that_recurs_gets_its_own_form() -> None:
    """After as many values as are worth it, once, and every later slot has it at once."""
    compiled: list[Any] = []
    forms = CompiledForms(lambda: "any", counted(compiled))
    shape = (1, 256, 256, 3)
    runs = math.ceil(RECURS / math.prod(shape))
    assert forms.get(shape) == ("any", False)
    assert [forms.count(shape) for _ in range(runs - 1)] == [None] * (runs - 1)
    own = forms.count(shape)
    assert own is not None
    assert own.is_own
    assert forms.get(shape) == own
    assert compiled == [shape]
    assert forms.get((1, 256, 257, 3)) == ("any", False)


def test_new_shapes_are_never_compiled() -> None:
    """However many there are; only the last are counted."""
    compiled: list[Any] = []
    forms = CompiledForms(lambda: "any", counted(compiled))
    for side in range(1, 500):
        assert forms.count((1, side, 64, 3)) is None
    assert compiled == []
    assert len(forms._done) == compiled_forms.MAX_COUNTED


def test_a_graph_of_known_shapes_only() -> None:
    """Each shape is compiled at once, and the last 8 are kept."""
    compiled: list[Any] = []
    forms = CompiledForms(None, counted(compiled))
    shapes = [(1, side, 64, 3) for side in range(1, 12)]
    assert all(forms.get(shape).is_own for shape in shapes)
    assert all(forms.get(shape).is_own for shape in shapes[-compiled_forms.MAX_COMPILED :])
    assert compiled == shapes
    forms.get(shapes[0])
    assert compiled == [*shapes, shapes[0]]


def test_others_continue_while_one_compiles() -> None:
    """They keep the form for any shape, and nothing is compiled twice."""
    compiled: list[Any] = []
    begun, may_end = threading.Event(), threading.Event()

    def compile_own(shape: tuple[int, ...]) -> Any:
        begun.set()
        assert may_end.wait(20)
        return counted(compiled)(shape)

    forms = CompiledForms(lambda: "any", compile_own)
    shape = (1, 1024, 1024, 3)
    with ThreadPoolExecutor(1) as pool:
        assert forms.get(shape) == ("any", False)
        one = pool.submit(forms.count, shape)
        assert begun.wait(20)
        assert forms.get(shape) == ("any", False)
        assert forms.count((1, 8, 8, 3)) is None
        may_end.set()
        own = one.result(20)
    assert forms.count(shape) == own
    assert compiled == [shape]


def outputs(engine: OpenVinoEngine, shapes: tuple[tuple[int, int], ...]) -> list[Any]:
    """Run a picture of each (height, width), each in a new slot."""
    found = []
    for height, width in shapes:
        slot = engine.slot((1, height, width, engine.signature.input_shape[3] or 3))
        random = np.random.default_rng(height)
        slot.input[...] = random.integers(0, 256, slot.input.shape, np.uint8)
        slot.submit()
        output = slot.wait()
        found.append(np.array(joined(output[0]) if output.ndim == 6 else output[0]))
        slot.close()
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_both_forms_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every shipped file; and the form for any shape does not depend on earlier shapes."""
    path = models.find(name)
    engine = OpenVinoEngine(path, threads=None, cache=False)
    compiled = engine._forms
    for_any = outputs(engine, SHAPES)
    assert bool(compiled._own) == (name == "ae_x1.int8")
    np.testing.assert_array_equal(for_any[0], for_any[3])
    engine.close()
    monkeypatch.setattr(compiled_forms, "OWN_AFTER_VALUES", 1)
    engine = OpenVinoEngine(path, threads=None, cache=False)
    for expected, found in zip(for_any, outputs(engine, SHAPES), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(engine._forms._own) == 3
    engine.close()


@pytest.mark.parametrize("name", ["gan_x2", "gan_x2.int8"])
def test_a_picture_is_the_same_when_its_size_recurs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through an Upscaler, tiled and untiled, before and after the change, and between others."""
    monkeypatch.setattr(compiled_forms, "OWN_AFTER_VALUES", 3 * 3 * 90 * 70)
    picture, other = make_picture(90, 70), make_picture(61, 83)
    options: dict[str, Any] = {"backend": "openvino", "self_test": False}
    with srsdk.Upscaler(models.find(name), **options) as up:
        first = up(picture)
        for _ in range(4):
            up(other)
            np.testing.assert_array_equal(up(picture), first)
        assert (1, 90, 70, 3) in up._engine._forms._own  # type: ignore[attr-defined]
    with srsdk.Upscaler(models.find(name), tile=48, **options) as up:
        for _ in range(3):
            np.testing.assert_array_equal(up(picture), first)


def test_threads_cross_the_change_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads on one size get the same picture while its form is compiled."""
    monkeypatch.setattr(compiled_forms, "OWN_AFTER_VALUES", 10 * 3 * 64 * 48)
    picture = make_picture(64, 48)
    with (
        srsdk.Upscaler(models.find("gan_x2.int8"), backend="openvino") as up,
        ThreadPoolExecutor(8) as pool,
    ):
        expected = up(picture)
        for found in pool.map(up, [picture] * 32):
            np.testing.assert_array_equal(found, expected)


def test_an_unknown_operator_is_compiled_for_each_size(tmp_path: Path) -> None:
    """A foreign graph that resizes, as before: once and kept."""
    engine = open_engine(networks.nearest(tmp_path / "n.onnx"), "openvino")
    for height, width in SHAPES:
        engine.slot((1, 3, height, width)).close()
    assert len(engine._forms._own) == 3  # type: ignore[attr-defined]
    engine.close()
