"""Several pixels of a narrow last convolution at once: the same bits."""

from __future__ import annotations

import platform

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from srsdk import models
from srsdk.engines.compiled import openvino_fold
from srsdk.engines.compiled.openvino_tail import outputs_for, without_shuffle

NAME = "realtime_x2.int8"
X86 = platform.machine().lower() in ("x86_64", "amd64")


def read(name: str, *shape: int) -> ov.Model:
    """Read a shipped file for one input shape."""
    model = ov.Core().read_model(models.find(name))
    model.reshape(list(shape))
    return model


def run(model: ov.Model, picture: np.ndarray) -> list[np.ndarray]:
    """Return copies of all outputs."""
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(model, "CPU", config)
    found = compiled(picture)
    return [np.array(found[index]) for index in range(len(compiled.outputs))]


@pytest.mark.parametrize("shape", [(1, 30, 40, 1), (3, 9, 12, 1), (1, 1, 4, 1), (1, 20, 22, 1)])
def test_no_bit_changes(shape: tuple[int, ...]) -> None:
    """Batches, a single row, and a width that is no multiple of four, which stays as it is."""
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    [expected] = run(read(NAME, *shape), picture)
    model = without_shuffle(read(NAME, *shape))
    folded = X86 and shape[2] % openvino_fold.PIXELS == 0
    assert model.outputs[0].get_shape()[2] == (16 if folded else 4)
    buffers, output = outputs_for([tuple(model.outputs[0].shape)], shape, "uint8")
    buffers[0][...] = run(model, picture)[0]
    np.testing.assert_array_equal(output.reshape(expected.shape), expected)


def end_of(model: ov.Model) -> ov.Node:
    """Return the node before the Split."""
    [split] = [each for each in model.get_ops() if each.get_type_name() == "VariadicSplit"]
    return split.input_value(0).get_node()


def test_networks_with_more_channels_stay() -> None:
    """At 12 channels the wider kernel would cost more than it saves."""
    assert not openvino_fold.fold(end_of(read("gan_x2.int8", 1, 16, 16, 3)))


def convolved(**changes: object) -> ov.Node:
    """Return quantized convolutions of a picture, in the form of a file or a similar one."""
    attributes = {"pads_begin": [1, 1], "pads_end": [1, 1], "strides": [1, 1], "dilations": [1, 1]}
    kernel, zero = 3, 0
    if "zero" in changes:
        zero = 3
    elif "kernel" in changes:
        kernel, attributes["pads_end"] = 4, [2, 2]
    elif changes:
        attributes |= changes  # type: ignore[arg-type]
    image = ops.parameter([1, 2, 8, 16], np.float32)
    integers = ops.constant(np.ones((4, 2, kernel, kernel), np.int8))
    difference = ops.subtract(ops.convert(integers, "f32"), ops.constant(np.float32(zero)))
    weights = ops.multiply(difference, ops.constant(np.full((4, 1, 1, 1), 0.1, np.float32)))
    made = ops.convolution(image, weights, **attributes)
    return ops.convert(ops.minimum(made, ops.constant(np.float32(255))), "u8")


def test_the_known_form_is_folded() -> None:
    """Without a change, the constructed graph is like that of a file."""
    assert openvino_fold.fold(convolved()) == X86


def test_other_processors_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ARM64 OpenVINO computes the rewritten convolution wrongly."""
    monkeypatch.setattr(openvino_fold, "_IS_X86", False)
    assert not openvino_fold.fold(convolved())


@pytest.mark.parametrize(
    "changes",
    [{"zero": 3}, {"kernel": 4}, {"dilations": [2, 2], "pads_begin": [2, 2], "pads_end": [2, 2]}],
)
def test_other_forms_stay(changes: dict[str, object]) -> None:
    """A zero point, an even kernel or a dilation is not touched."""
    end = convolved(**changes)
    assert not openvino_fold.fold(end)
    assert end.get_output_shape(0)[3] == 16


def test_unknown_operations_stay() -> None:
    """An operation that may depend on the place or the channel is not passed."""
    image = ops.parameter([1, 4, 8, 16], np.float32)
    assert not openvino_fold.fold(ops.softmax(image, 1))
    assert not openvino_fold.fold(ops.convert(image, "u8"))
