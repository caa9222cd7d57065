"""Sampler, Restorer and Chain, on small models built node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import srsdk
from srsdk.engines.backends import BACKENDS
from srsdk.inference.noise import BLOCK_PX, noise_at
from srsdk.options import Backend
from tests import networks
from tests.conftest import make_picture

LATENT = 2


def vae(path: Path) -> Path:
    """Write an x2 model: nearest plus 20 times the first noise channel, with known confidence.

    The confidence is 0.75 where the picture's first channel is above 127, else 0.25.
    """
    up = {"mode": "nearest", "nearest_mode": "floor"}
    up["coordinate_transformation_mode"] = "asymmetric"
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        node("Transpose", ["eps"], ["eps_last"], perm=[0, 2, 3, 1]),
        node("Slice", ["eps_last", "zero", "one", "three"], ["eps_first"]),
        node("Mul", ["eps_first", "twenty"], ["change"]),
        node("Add", ["f", "change"], ["sum"]),
        node("Resize", ["sum", "", "factors"], ["large"], **up),
        node("Clip", ["large", "low", "high"], ["clipped"]),
        node("Round", ["clipped"], ["rounded"]),
        node("Cast", ["rounded"], ["upscaled"], to=TensorProto.UINT8),
        node("Slice", ["f", "zero", "one", "three"], ["red"]),
        node("Greater", ["red", "half"], ["bright"]),
        node("Cast", ["bright"], ["bright_f"], to=TensorProto.FLOAT),
        node("Mul", ["bright_f", "fifty"], ["scaled"]),
        node("Add", ["scaled", "quarter"], ["sure"]),
        node("Resize", ["sure", "", "factors"], ["confidence"], **up),
    ]
    f, i = np.float32, np.int64
    weights = {
        **{"zero": np.array([0], i), "one": np.array([1], i), "three": np.array([3], i)},
        **{"low": f(0), "high": f(255), "half": f(127), "fifty": f(0.5), "quarter": f(0.25)},
        **{"twenty": f(20), "factors": np.array([1, 2, 2, 1], f)},
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            value("image", TensorProto.UINT8, ["n", "h", "w", 3]),
            value("eps", TensorProto.FLOAT, ["n", LATENT, "h", "w"]),
        ],
        [
            value("upscaled", TensorProto.UINT8, ["n", "H", "W", 3]),
            value("confidence", TensorProto.FLOAT, ["n", "H", "W", 1]),
        ],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[networks.OPSET], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_samples_and_confidence(tmp_path: Path, backend: Backend) -> None:
    """The mean is the network without noise; a sample differs by exactly its noise."""
    picture = make_picture(50, 70) // 2 + 64
    with srsdk.Sampler(vae(tmp_path / "v.onnx"), backend=backend) as sampler:
        result = sampler.sample(picture, 3, seed=5, confidence=True)
        np.testing.assert_array_equal(result.mean, picture.repeat(2, 0).repeat(2, 1))
        np.testing.assert_array_equal(sampler(picture), result.mean)
        assert len(result.samples) == 3
        for index, sample in enumerate(result.samples):
            noise = noise_at(5, index + 1, (0, 0), (50, 70), LATENT)[0]
            expected = np.rint(np.clip(picture + 20 * noise[..., None], 0, 255))
            assert np.abs(sample - expected.repeat(2, 0).repeat(2, 1)).max() <= 1
        sure = np.where(picture[..., 0] > 127, 0.75, 0.25).repeat(2, 0).repeat(2, 1)
        assert result.confidence is not None
        np.testing.assert_allclose(result.confidence, sure, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_do_not_depend_on_the_tile(tmp_path: Path, backend: Backend) -> None:
    """Noise and confidence depend on the position in the picture only."""
    path, picture = vae(tmp_path / "v.onnx"), make_picture(150, 170)
    with srsdk.Sampler(path, backend=backend) as whole:
        expected = whole.sample(picture, 2, seed=1, confidence=True)
    with srsdk.Sampler(path, backend=backend, tile=(70, 91), slots=3) as tiled:
        result = tiled.sample(picture, 2, seed=1, confidence=True)
    for a, b in zip(result.samples, expected.samples, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(result.confidence, expected.confidence)


def test_seeds_and_temperature(tmp_path: Path) -> None:
    """A seed fixes the samples, another seed changes them; temperature 0 gives the mean."""
    picture = make_picture(40, 40)
    with srsdk.Sampler(vae(tmp_path / "v.onnx")) as sampler:
        a, b = (sampler.sample(picture, 2, seed=3).samples for _ in range(2))
        np.testing.assert_array_equal(a, b)
        assert np.any(a[0] != a[1])
        assert np.any(sampler.sample(picture, 1, seed=4).samples[0] != a[0])
        cold = sampler.sample(picture, 1, temperature=0.0)
        np.testing.assert_array_equal(cold.samples[0], cold.mean)
        assert cold.confidence is None
        # a call after a sample is the mean again: no noise is left in the slots
        np.testing.assert_array_equal(sampler(picture), cold.mean)


def test_sixteen_bits_are_sampled_too(tmp_path: Path) -> None:
    """They use the derived float32 form."""
    picture = np.full((20, 20, 3), 30011, np.uint16)
    with srsdk.Sampler(vae(tmp_path / "v.onnx")) as sampler:
        result = sampler.sample(picture, 1)
    assert np.abs(result.mean.astype(int) - 30011).max() <= 1
    assert len(np.unique(result.samples[0])) > 300


def test_the_noise_is_standard_normal_and_depends_on_position() -> None:
    """Mean 0, variance 1, no correlation; a window equals that part of the whole; it is stable."""
    whole = noise_at(7, 1, (0, 0), (200, 300), 4)
    assert abs(whole.mean()) < 0.01
    assert abs(whole.std() - 1) < 0.01
    assert abs(np.mean(whole[0] * whole[1])) < 0.02
    assert abs(np.mean(whole[:, 1:] * whole[:, :-1])) < 0.01
    part = noise_at(7, 1, (37, BLOCK_PX - 1), (90, 131), 4)
    np.testing.assert_array_equal(part, whole[:, 37:127, BLOCK_PX - 1 : BLOCK_PX + 130])
    # literal values: every version must reproduce the results of a seed
    np.testing.assert_allclose(whole[0, 0, :3], FIRST, rtol=1e-6)


FIRST = (-0.31700271368026733, -1.0226364135742188, 1.0667634010314941)


def test_what_cannot_be_sampled(tmp_path: Path) -> None:
    """A model without a noise input, a picture with alpha, numbers out of range."""
    with pytest.raises(srsdk.ModelError, match="gan_x4 has no noise input"):
        srsdk.Sampler("gan_x4")
    with srsdk.Sampler(vae(tmp_path / "v.onnx")) as sampler:
        with pytest.raises(srsdk.PictureError, match="alpha"):
            sampler.sample(Image.new("RGBA", (8, 8)))
        wrong: tuple[tuple[dict[str, Any], str], ...] = (
            ({"samples": -1}, "samples is -1"),
            ({"seed": 1.5}, "seed is 1.5"),
            ({"temperature": 2}, "temperature is 2"),
        )
        for options, message in wrong:
            with pytest.raises(srsdk.UsageError, match=message):
                sampler.sample(make_picture(8, 8), **options)


def test_a_restorer_keeps_the_size(tmp_path: Path) -> None:
    """It is an x1 Upscaler; a model that enlarges is rejected."""
    with srsdk.Restorer(networks.identity(tmp_path / "x1.onnx")) as restore:
        picture = make_picture(20, 30)
        np.testing.assert_array_equal(restore(picture), picture)
    with pytest.raises(srsdk.ModelError, match="gan_x2 enlarges 2 times"):
        srsdk.Restorer("gan_x2")


def test_a_chain_is_its_models_one_after_the_other(tmp_path: Path) -> None:
    """Restore, x4 and x2 give x8, equal to separate calls; progress covers all models."""
    picture = make_picture(20, 24)
    with srsdk.Chain(
        srsdk.Restorer(networks.identity(tmp_path / "x1.onnx")),
        srsdk.Upscaler("gan_x4"),
        srsdk.Upscaler("gan_x2"),
    ) as chain:
        assert chain.scale == 8
        assert chain.name == "x1 + gan_x4 + gan_x2"
        seen: list[tuple[int, int]] = []
        result = chain(picture, progress=lambda *at: seen.append(at))
        assert seen == [(1, 3), (2, 3), (3, 3)]
    with srsdk.Upscaler("gan_x4") as first, srsdk.Upscaler("gan_x2") as second:
        np.testing.assert_array_equal(result, second(first(picture)))


def test_invalid_chains() -> None:
    """No model, and a total scale that is too large."""
    with pytest.raises(srsdk.UsageError, match="at least one model"):
        srsdk.Chain()
    with (
        srsdk.Upscaler("gan_x4") as up,
        pytest.raises(srsdk.UsageError, match="64 times in total, at most 16"),
    ):
        srsdk.Chain(up, up, up)


def test_a_chain_for_a_kind_of_picture() -> None:
    """The shipped models in order; an unknown kind or scale is named in the error."""
    picture = make_picture(20, 24)
    with (
        srsdk.Chain.of("compressed", 2, backend="onnxruntime") as chain,
        srsdk.Restorer("ae_x1", backend="onnxruntime") as first,
        srsdk.Upscaler("gan_x2", backend="onnxruntime") as second,
    ):
        assert (chain.name, chain.scale) == ("ae_x1 + gan_x2", 2)
        np.testing.assert_array_equal(chain(picture), second(first(picture)))
    with pytest.raises(srsdk.UsageError, match="kind is 'comic', expected one of photo, "):
        srsdk.Chain.of("comic")
    with pytest.raises(srsdk.UsageError, match=r"drawing enlarges 3 times; available: gan_x2"):
        srsdk.Chain.of("drawing", 3)
    with pytest.raises(srsdk.UsageError, match="needs ae_x1 and gan_x4, expected a kind with one"):
        srsdk.models.default("compressed")
    with pytest.raises(srsdk.UsageError, match="backend 'none'"):
        srsdk.Chain.of("compressed", 2, backend="none")  # type: ignore[arg-type]
    assert srsdk.models.default("drawing") == "gan_x4"
