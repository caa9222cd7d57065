"""The two rewrites of a model's graph: more than 8 bits, and mixed texture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import srsdk
from srsdk import models
from srsdk.formats.onnx_rewrite import mixed, with_float_boundary
from srsdk.formats.protobuf import join, split
from srsdk.manifest import METADATA_KEY, Manifest
from tests import networks
from tests.conftest import make_picture

AGREE = {"int8": (4, 0.05), "float": (1, 1e-3)}
"""Largest and mean difference between two forms of a network, in levels, by precision.

The forms may be fused to different kernels. A float network then occasionally rounds differently,
by one level; an INT8 network rounds in each layer, and differs no more than two backends do.
"""


def run(model: bytes, picture: np.ndarray, *, fused: bool = True) -> np.ndarray:
    """Run a model with ONNX Runtime; without `fused`, exactly as it is written."""
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image, *others = session.get_inputs()
    feed = {image.name: np.ascontiguousarray(picture[..., : image.shape[3]])}
    for port in others:  # the noise of a sampler, or numbers beside the picture
        shape = port.shape
        if len(shape) == 4:
            shape = (len(picture), shape[1], *picture.shape[1:3])
        feed[port.name] = np.full(shape, 0 if len(shape) == 4 else -1, np.float32)
    result: np.ndarray = session.run(None, feed)[0]
    return result


def in_both_forms(name: str, *, fused: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture's output of the shipped file and of its float form."""
    data, picture = models.find(name).read_bytes(), make_picture(40, 56)[None]
    floats = run(with_float_boundary(data), picture.astype(np.float32), fused=fused)
    return run(data, picture, fused=fused), floats


def assert_agree(levels: np.ndarray, floats: np.ndarray, precision: str) -> None:
    """Rounded, the floats equal the levels, except where kernels round differently."""
    assert floats.dtype == np.float32
    largest, mean = AGREE[precision]
    differ = np.abs(np.rint(floats) - levels)
    assert differ.max() <= largest
    assert differ.mean() <= mean
    assert np.any(floats != levels)


@pytest.mark.parametrize("name", models.shipped())
def test_the_float_form_is_the_same_network(name: str) -> None:
    """It is valid ONNX; run as written and rounded, it gives the levels of the shipped file."""
    derived = with_float_boundary(models.find(name).read_bytes())
    onnx.checker.check_model(onnx.load_from_string(derived), full_check=True)
    assert_agree(*in_both_forms(name, fused=False), "float")


@pytest.mark.parametrize("name", [n for n in models.shipped() if not n.endswith(".gpu")])
def test_the_float_form_agrees_when_fused(name: str) -> None:
    """Run as users do, with INT8 kernels, for the files made for CPUs."""
    assert_agree(*in_both_forms(name, fused=True), "int8" if ".int8" in name else "float")


@pytest.mark.parametrize("name", models.shipped())
def test_taking_apart_and_joining_is_the_identity(name: str) -> None:
    """Splitting and joining returns the same bytes."""
    data = models.find(name).read_bytes()
    assert join(split(data)) == data
    with pytest.raises(srsdk.ModelError, match="cannot be read"):
        split(data[:100])


def test_a_graph_of_another_form_is_refused(tmp_path: Path) -> None:
    """A graph without Round and Cast has no float form; the error names the export command."""
    path = networks.identity(tmp_path / "plain.onnx")
    with (
        srsdk.Upscaler(path) as up,
        pytest.raises(srsdk.ModelError, match=r"its input feeds Identity.*--boundary float32"),
    ):
        up(np.zeros((4, 4, 3), np.uint16))


def test_a_model_of_floats_needs_no_second_form(tmp_path: Path) -> None:
    """A float32 model keeps 16-bit values exactly."""
    path = networks.nearest(tmp_path / "toy.onnx", scale=2)
    picture = np.random.default_rng(0).integers(0, 65536, (9, 11, 3), dtype=np.uint16)
    with srsdk.Upscaler(path) as up:
        np.testing.assert_array_equal(up(picture), picture.repeat(2, 0).repeat(2, 1))


def test_a_luma_model_keeps_the_depth(tmp_path: Path) -> None:
    """One channel: the network upscales luma, bicubic the color, in floats throughout."""
    path = networks.nearest(tmp_path / "luma.onnx", scale=2, channels=1)
    picture = np.empty((8, 8, 3), np.uint16)
    picture[:] = (20001, 40003, 9007)
    with srsdk.Upscaler(path) as up:
        assert np.abs(up(picture).astype(int) - (20001, 40003, 9007)).max() <= 2


def gain(path: Path, value: float) -> Path:
    """Write an x1 model that multiplies by a weight."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "weight"], ["g"]),
        helper.make_node("Round", ["g"], ["r"]),
        helper.make_node("Cast", ["r"], ["upscaled"], to=TensorProto.UINT8),
    ]
    return networks.save(
        path,
        nodes,
        dtype=TensorProto.UINT8,
        input_shape=["n", "h", "w", 3],
        output_shape=["n", "h", "w", 3],
        weights={"weight": np.array([value], np.float32)},
    )


def test_mixing_is_linear_in_the_weights(tmp_path: Path) -> None:
    """0 is exactly the parent and 1 exactly the twin; values between them interpolate."""
    parent, twin = gain(tmp_path / "m.onnx", 0.2), gain(tmp_path / "m_texture.onnx", 0.7)
    for texture, expected in ((0, 0.2), (0.5, 0.45), (1, 0.7)):
        model = onnx.load_from_string(mixed(parent.read_bytes(), twin.read_bytes(), texture))
        (weight,) = numpy_helper.to_array(model.graph.initializer[0])
        assert weight == pytest.approx(expected, abs=1e-7)
    assert mixed(parent.read_bytes(), twin.read_bytes(), 0) == parent.read_bytes()
    # so dark a result fails the output checks
    with srsdk.Upscaler(parent, texture=0.5, health=False) as up:
        assert (up(np.full((5, 5, 3), 100, np.uint8)) == 45).all()
        # the form for 16 bits is derived from the mixture
        assert (up(np.full((5, 5, 3), 10000, np.uint16)) == 4500).all()


def test_a_mixture_knows_what_it_is(tmp_path: Path) -> None:
    """The manifest records the texture, and drops scores that were not measured for it."""
    data = models.find("gan_x4").read_bytes()
    for name in ("a.onnx", "a_texture.onnx"):
        (tmp_path / name).write_bytes(data)
    with (
        srsdk.Upscaler(tmp_path / "a.onnx", texture=0.3) as up,
        srsdk.Upscaler("gan_x4", precision="fp32") as plain,
    ):
        assert up.manifest.texture == 0.3
        assert not up.manifest.scores
        assert up.manifest.parity_db is None
        picture = make_picture(20, 20)
        np.testing.assert_array_equal(up(picture), plain(picture))


@pytest.mark.parametrize(
    ("parent", "twin", "both"),
    [
        (("MIT",), ("CC0-1.0", "MIT"), ("CC0-1.0", "MIT")),
        (("MIT",), (), ()),
        ((), ("MIT",), ()),
    ],
)
def test_a_mixture_has_the_licenses_of_both(
    tmp_path: Path, parent: tuple[str, ...], twin: tuple[str, ...], both: tuple[str, ...]
) -> None:
    """If one of them states none, so does the mixture."""
    about = Manifest(name="a", scale=1, channels=3, radius_px=0)
    for name, licenses in (("a.onnx", parent), ("a_texture.onnx", twin)):
        model = onnx.load(gain(tmp_path / name, 1.0))
        text = dataclasses.replace(about, training_licenses=licenses).to_json()
        helper.set_model_props(model, {METADATA_KEY: text})
        onnx.save(model, tmp_path / name)
    with srsdk.Upscaler(tmp_path / "a.onnx", texture=0.5) as up:
        assert up.manifest.training_licenses == both


def test_what_cannot_be_mixed(tmp_path: Path) -> None:
    """No twin, another architecture, a file that is not float32."""
    without = r"no textured twin realworld_x4_texture\.onnx.*--pa"
    with pytest.raises(srsdk.ModelError, match=without):
        srsdk.Upscaler("realworld_x4", texture=0.5)
    x2, x4, int8 = (models.find(n).read_bytes() for n in ("gan_x2", "gan_x4", "gan_x4.int8"))
    with pytest.raises(srsdk.ModelError, match="differ"):
        mixed(x4, x2, 0.5)
    with pytest.raises(srsdk.ModelError, match="differ"):
        mixed(x4, int8, 0.5)
    with pytest.raises(srsdk.UsageError, match="expected 0"):
        mixed(x4, x4, 1.5)
