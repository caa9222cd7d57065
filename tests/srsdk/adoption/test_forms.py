"""Files in every form that other people's have: a direct run of the network is the oracle."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import srsdk
from srsdk.options import Backend
from tests.srsdk.adoption.nets import Net

BACKENDS: list[Backend] = ["openvino", "onnxruntime"]


def picture(height: int, width: int, channels: int = 3) -> Any:
    """Return soft colors, uint8, different in each channel."""
    y, x = np.mgrid[:height, :width]
    planes = [120 + 90 * np.sin(y / (4 + c) + c) * np.cos(x / (6 - c % 3)) for c in range(channels)]
    return np.clip(np.dstack(planes), 0, 255).astype(np.uint8)


def assert_close(got: Any, wanted: Any, levels: int = 1) -> None:
    """Compare levels."""
    assert got.shape == wanted.shape
    assert int(np.abs(got.astype(int) - wanted).max()) <= levels


FORMS: dict[str, tuple[Net, dict[str, Any]]] = {
    "float32": (Net(), {}),
    "float16": (Net(dtype="float16"), {}),
    "bfloat16": (Net(dtype="bfloat16"), {}),
    "float64": (Net(dtype="float64"), {}),
    "uint8": (Net(dtype="uint8"), {}),
    "uint8 NHWC": (Net(dtype="uint8", layout="NHWC"), {}),
    "NHWC": (Net(layout="NHWC"), {}),
    "float16 NHWC": (Net(dtype="float16", layout="NHWC"), {}),
    "0..255": (Net(white=255.0), {"range": 255}),
    "float16 0..255": (Net(dtype="float16", white=255.0), {"range": 255}),
    "-1..1": (Net(white=1.0, black=-1.0), {"range": (-1, 1)}),
    "BGR": (Net(bgr=True), {"order": "bgr"}),
    "BGR 0..255": (Net(bgr=True, white=255.0), {"order": "bgr", "range": 255}),
    "RGB uint8 BGR": (Net(dtype="uint8", bgr=True), {"order": "bgr"}),
    "x1": (Net(scale=1), {}),
    "x3": (Net(scale=3), {}),
    "x16": (Net(scale=16), {}),
    "opset 7": (Net(opset=7), {}),
    "opset 10": (Net(opset=10), {}),
    "opset 11": (Net(opset=11), {}),
    "one picture": (Net(batch=1), {}),
    "multiple of 8": (Net(multiple=8), {}),
    "multiple of 12": (Net(multiple=12), {}),
    "one size": (Net(sides=(48, 64)), {}),
    "two outputs": (Net(extra_output=True), {"output": "out.put"}),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMS)
def test_a_form_gives_what_the_network_gives(tmp_path: Path, name: str, backend: Backend) -> None:
    """Within one level of a direct run, for an odd size: padding is mirrored, then cut."""
    net, io = FORMS[name]
    path = net.save(tmp_path / "net.onnx")
    source = picture(48, 64) if net.sides[0] == 48 else picture(37, 53)
    padded = source
    if net.multiple > 1:
        below, right = (-side % net.multiple for side in source.shape[:2])
        padded = np.pad(source, ((0, below), (0, right), (0, 0)), mode="reflect")
    wanted = net.run(path, padded)[: 37 * net.scale + 200, :][: source.shape[0] * net.scale]
    with srsdk.Upscaler(path, backend=backend, io=srsdk.IO(**io), health=False) as up:
        assert_close(up(source), wanted[:, : source.shape[1] * net.scale])
        assert up.manifest.scale == net.scale
        assert up.manifest.multiple_px == net.multiple
        assert up.manifest.size_px == (net.sides if net.sides[0] == 48 else None)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["float32", "float16", "0..255", "-1..1", "opset 7", "BGR"])
def test_more_than_eight_bits(tmp_path: Path, name: str, backend: Backend) -> None:
    """The float form gives the values that 8 bits round."""
    net, io = FORMS[name]
    path = net.save(tmp_path / "net.onnx")
    source = picture(21, 30)
    with srsdk.Upscaler(path, backend=backend, io=srsdk.IO(**io), health=False) as up:
        fine = up(source.astype(np.uint16) * 257)
        assert fine.dtype == np.uint16
        assert_close(fine / 257, net.run(path, source), 1)
        # more than the levels of 8 bits times 257
        assert len(np.unique(fine % 257)) > 30


@pytest.mark.parametrize("backend", BACKENDS)
def test_tiles_of_a_form_have_no_seams(tmp_path: Path, backend: Backend) -> None:
    """The receptive field is read from the graph, so small tiles give the whole picture."""
    path = Net(dtype="float16", multiple=4).save(tmp_path / "net.onnx")
    source = picture(90, 70)
    io = srsdk.IO(range=1, order="rgb")
    with srsdk.Upscaler(path, backend=backend, io=io) as up:
        whole, manifest = up(source), up.manifest
    assert (manifest.tiling, manifest.radius_px) == ("exact", 8)
    with srsdk.Upscaler(path, backend=backend, io=io, tile=24) as up:
        assert up.plan(90, 70).tiles > 4
        assert_close(up(source), whole)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["scalar", "map", "channel"])
def test_a_further_input_is_a_keyword(tmp_path: Path, kind: str, backend: Backend) -> None:
    """Its default comes from `io`, a call gives another, in the unit that `io` says."""
    net = Net(noise=kind)
    path = net.save(tmp_path / "net.onnx")
    source = picture(20, 30)
    name = "noise" if kind == "channel" else "noise_level"
    io = srsdk.IO(inputs={name: (15, 255)}, range=1, order="rgb")
    with srsdk.Upscaler(path, backend=backend, io=io, health=False) as up:
        assert dict(up.manifest.inputs) == {name: 15}
        assert_close(up(source), net.run(path, source, 15 / 255))
        given: dict[str, Any] = {name: 50}
        assert_close(up(source, **given), net.run(path, source, 50 / 255))
        options = srsdk.PictureOptions(inputs={name: 40})
        assert_close(up.submit(source, options=options).result(), net.run(path, source, 40 / 255))
        assert_close(up(source), net.run(path, source, 15 / 255))
        with pytest.raises(srsdk.UsageError, match=f"no input 'nose': it takes {name}"):
            up(source, nose=3)
        with pytest.raises(srsdk.UsageError, match="expected a finite number"):
            up(source, **{**given, name: float("nan")})


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_have_numbers_of_their_own(tmp_path: Path, backend: Backend) -> None:
    """Calls at the same time do not see each other's, tile by tile."""
    net = Net(noise="map")
    path, source = net.save(tmp_path / "net.onnx"), picture(60, 50)
    levels = [0, 10, 20, 30] * 4
    wanted = {level: net.run(path, source, level / 255) for level in levels}
    io = srsdk.IO(inputs={"noise": (15, 255)}, range=1, order="rgb")
    with srsdk.Upscaler(path, backend=backend, io=io, health=False, tile=24) as up:
        options = [srsdk.PictureOptions(inputs={"noise": level}) for level in levels]
        futures = [up.submit(source, options=each) for each in options]
        for level, future in zip(levels, futures, strict=True):
            assert_close(future.result(), wanted[level])
        assert up(source[:1, :1]).shape == (2, 2, 3)


def test_a_further_input_can_be_renamed(tmp_path: Path) -> None:
    """Keywords that are no input's name are given to the inputs in order."""
    path = Net(noise="scalar").save(tmp_path / "net.onnx")
    with srsdk.Upscaler(path, io=srsdk.IO(inputs={"strength": 0.1})) as up:
        assert dict(up.manifest.inputs) == {"strength": 0.1}
    with pytest.raises(srsdk.UsageError, match="has no input 'b': it has a"):
        srsdk.Upscaler(path, io=srsdk.IO(inputs={"a": 0.1, "b": 0.2}))


@pytest.mark.parametrize("backend", BACKENDS)
def test_alpha_goes_through_the_network_or_apart(tmp_path: Path, backend: Backend) -> None:
    """Through the network: its own four channels. Apart: the network sees an opaque picture."""
    net = Net(channels=4)
    path = net.save(tmp_path / "net.onnx")
    source = picture(24, 32, 4)
    opaque = source.copy()
    opaque[..., 3] = 255
    io: dict[str, Any] = {"range": 1, "order": "rgb"}
    with srsdk.Upscaler(path, backend=backend, io=srsdk.IO(alpha="network", **io)) as up:
        assert up.manifest.channels == 4
        assert_close(up(source), net.run(path, source))
        assert_close(up(source[..., :3]), net.run(path, opaque)[..., :3])
    with srsdk.Upscaler(path, backend=backend, io=srsdk.IO(alpha="apart", **io)) as up:
        assert up.manifest.channels == 3
        assert_close(up(source[..., :3]), net.run(path, opaque)[..., :3])
        assert up(source).shape == (48, 64, 4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bgr", [False, True])
def test_mean_and_std(tmp_path: Path, backend: Backend, bgr: bool) -> None:
    """The network reads (x - mean) / std, in its own order, and writes the same."""
    plain = Net(bgr=bgr)
    path, source = plain.save(tmp_path / "net.onnx"), picture(20, 30)
    wanted = plain.run(path, source)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = onnx.load(path)
    graph = model.graph
    for name, value in (("mean", mean), ("std", std)):
        shaped = np.array(value, np.float32).reshape(1, 3, 1, 1)
        graph.initializer.append(onnx.numpy_helper.from_array(shaped, name))
    graph.node[0].input[0], graph.node[-1].output[0] = "unit", "enlarged"
    make = onnx.helper.make_node
    nodes = [
        make("Mul", ["in.put", "std"], ["scaled"]),
        make("Add", ["scaled", "mean"], ["unit"]),
        *graph.node,
        make("Sub", ["enlarged", "mean"], ["centered"]),
        make("Div", ["centered", "std"], ["out.put"]),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)
    io = srsdk.IO(range=1, mean=mean, std=std, order="bgr" if bgr else "rgb")
    with srsdk.Upscaler(path, backend=backend, io=io) as up:
        assert_close(up(source), wanted)
    with pytest.raises(srsdk.UsageError, match="mean has 4 values, expected 1 or 3"):
        srsdk.Upscaler(path, io=srsdk.IO(range=1, mean=(0, 0, 0, 0)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_four_channels_with_mean(tmp_path: Path, backend: Backend) -> None:
    """Alpha apart: the picture has three of the network's four values."""
    path = Net(channels=4).save(tmp_path / "net.onnx")
    io = srsdk.IO(range=1, mean=(0.5, 0.5, 0.5, 0.5), std=2, order="rgb", alpha="apart")
    with srsdk.Upscaler(path, backend=backend, io=io, health=False) as up:
        assert up(picture(24, 32)).shape == (48, 64, 3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("opset", [10, 20])
def test_a_border_that_is_cut_off(tmp_path: Path, backend: Backend, opset: int) -> None:
    """waifu2x: the picture is mirrored outwards, so that nothing of it is lost."""
    net = Net(margin=7, opset=opset)
    path = net.save(tmp_path / "net.onnx")
    source = picture(30, 41)
    mirrored = np.pad(source, ((7, 7), (7, 7), (0, 0)), mode="reflect")
    with srsdk.Upscaler(path, backend=backend, io=srsdk.IO(range=1, order="rgb")) as up:
        assert_close(up(source), net.run(path, mirrored))
        assert up(source[:3, :2]).shape == (6, 4, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_luma_only(tmp_path: Path, backend: Backend) -> None:
    """One channel: gray as it is, color through luma."""
    net = Net(channels=1, white=255.0)
    path = net.save(tmp_path / "net.onnx")
    gray = picture(20, 30, 1)
    with srsdk.Upscaler(path, backend=backend, io=srsdk.IO(range=255)) as up:
        assert_close(up(gray[..., 0]), net.run(path, gray)[..., 0])
        assert up(picture(20, 30)).shape == (40, 60, 3)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    """External data is read from the folder of the file."""
    net = Net()
    path = net.save(tmp_path / "net.onnx")
    source = picture(20, 30)
    wanted = net.run(path, source)
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0
    )
    assert (tmp_path / "net.data").stat().st_size > 100
    with srsdk.Upscaler(path) as up:
        assert_close(up(source), wanted)
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(srsdk.ModelError, match="copy both files again"):
        srsdk.Upscaler(path)


def test_a_scale_that_the_network_lacks(tmp_path: Path) -> None:
    """`scale` is a check of files without a manifest, too."""
    path = Net(scale=3).save(tmp_path / "net.onnx")
    with srsdk.Upscaler(path, scale=3) as up:
        assert up.scale == 3
    with pytest.raises(srsdk.UsageError, match="net enlarges 3 times, got scale=2"):
        srsdk.Upscaler(path, scale=2)


def test_what_is_found_is_said_once_and_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line names what was found and assumed, and how to overrule it; `io` says it all."""
    path = Net(white=255.0, clip=True).save(tmp_path / "net.onnx")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "srsdk"), srsdk.Upscaler(path) as up:
            assert up.manifest.io["range"] == "0..255"
        [record] = caplog.records
        for part in (str(path), "range 0..255 (", "assumed: RGB", "srsdk.IO(", "srsdk adopt"):
            assert part in record.getMessage()
    caplog.clear()
    io = srsdk.IO(range=255, order="bgr")
    with caplog.at_level(logging.WARNING, "srsdk"), srsdk.Upscaler(path, io=io):
        assert not caplog.records
