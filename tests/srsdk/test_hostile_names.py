"""Malicious names, links, pipes and paths."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import srsdk
from srsdk.cli.main import main
from srsdk.engines.backends import BACKENDS
from srsdk.models import find
from srsdk.options import Backend
from srsdk.upscaling import files
from tests.conftest import make_picture
from tests.fuzz.workplace import NEAREST

POSIX = pytest.mark.skipif(sys.platform != "linux", reason="names of bytes, pipes, links")


def upscale(source: Path, target: Path) -> None:
    """Upscale twice by repeating pixels: only the code around the model is tested."""
    files.upscale_file((NEAREST,), source, target)


@POSIX
def test_links_where_results_go(tmp_path: Path) -> None:
    """A link is never written through: it counts as an existing file; `--force` replaces it."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    Image.fromarray(make_picture(9, 9)).save(tmp_path / "in.png")
    for name, leads_to in (("there.png", precious), ("nowhere.png", tmp_path / "none")):
        out = tmp_path / name
        out.symlink_to(leads_to)
        with pytest.raises(srsdk.OutputError, match="exists"):
            upscale(tmp_path / "in.png", out)
        files.upscale_file((NEAREST,), tmp_path / "in.png", out, overwrite=True)
        assert not out.is_symlink()
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "none").exists()


@POSIX
def test_links_in_a_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that links to itself is walked once; a dangling link is not a picture."""
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(make_picture(9, 9)).save(source / "a.png")
    (source / "again").symlink_to(source)
    (source / "gone.png").symlink_to(tmp_path / "none.png")
    assert main(["upscale", "-r", str(source), "-o", str(tmp_path / "out"), "--scale", "2"]) == 0
    assert capsys.readouterr().err.count("wrote") == 1


NAMES = [
    "two\nlines.png",
    "red \x1b[31m.png",
    os.fsdecode(b"no \xff utf.png"),
    "%s {0}.png",
    "-o.png",
]


@POSIX
def test_odd_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Newlines, escapes and invalid UTF-8 take one line each and never control the terminal."""
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.jsonl"
    source.mkdir()
    for name in NAMES:
        Image.fromarray(make_picture(20, 30)).save(source / name)
    (source / "bad\nname\udcff.png").write_bytes(b"x")
    call = ["upscale", str(source), "-o", str(out), "--scale", "2", "--report", str(report)]
    assert main(["-v", *call]) == 1
    error = capfd.readouterr().err
    assert "\x1b" not in error
    assert len([line for line in error.splitlines() if "bad" in line]) == 1
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    lines = [json.loads(line) for line in report.read_text("ascii").splitlines()]
    assert {Path(line["source"]).name for line in lines} == {*NAMES, "bad\nname\udcff.png"}
    assert [line["status"] for line in lines].count("done") == len(NAMES)


@POSIX
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_with_an_odd_name(
    tmp_path: Path, backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    """It opens, and `info` shows it."""
    path = tmp_path / "odd\udcff\n\x1b[31m.onnx"
    path.write_bytes(find("gan_x2").read_bytes())
    with srsdk.Upscaler(path, backend=backend) as up:
        assert up(make_picture(9, 9)).shape == (18, 18, 3)
    assert main(["info", str(path)]) == 0
    assert "odd\\udcff\\n\\x1b[31m.onnx" in capfd.readouterr().out


@POSIX
def test_odd_names_of_deep_pictures_and_pages(tmp_path: Path) -> None:
    """Names that libvips cannot take, or would parse as options, work; an HTML page is UTF-8."""
    pytest.importorskip("pyvips", reason="pip install 'srsdk[vips]'")
    import pyvips

    deep = pyvips.Image.new_from_array(np.full((20, 30, 3), 999, np.uint16))
    deep.copy(interpretation="rgb16").tiffsave(str(tmp_path / "a.tiff"))
    for name in ("odd\udcff.tiff", "a.tiff[page=7]"):
        os.link(tmp_path / "a.tiff", tmp_path / name)
        target = tmp_path / f"{name}.out\udcff.tiff"
        upscale(tmp_path / name, target)
        assert target.stat().st_size > 100
    page = tmp_path / "odd\udcff.html"
    assert main(["compare", str(tmp_path / "odd\udcff.tiff"), str(target), "-o", str(page)]) == 0
    assert "odd\\udcff.tiff" in page.read_text("utf-8")


@POSIX
def test_names_that_no_system_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that are too long or contain a null byte give one message."""
    Image.fromarray(make_picture(9, 9)).save(tmp_path / "in.png")
    with pytest.raises(srsdk.OutputError, match="too long"):
        upscale(tmp_path / "in.png", tmp_path / ("x" * 300 + ".png"))
    with pytest.raises(srsdk.OutputError, match="null"):
        upscale(tmp_path / "in.png", tmp_path / "a\0.png")
    with pytest.raises(srsdk.PictureError, match="cannot be read"):
        upscale(tmp_path / "a\0.png", tmp_path / "out.png")
    upscale(tmp_path / "in.png", tmp_path / ("x" * 251 + ".png"))  # the longest name there is
    assert main(["upscale", "x" * 300 + ".png", "-o", str(tmp_path / "out.png")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@POSIX
def test_a_pipe_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Opening a pipe without a writer would block forever."""
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(srsdk.PictureError, match="not a regular file"):
        upscale(tmp_path / "pipe.png", tmp_path / "out.png")
    with pytest.raises(srsdk.ModelError):
        srsdk.Upscaler(tmp_path / "pipe.onnx")
    assert main(["info", str(tmp_path / "pipe.onnx")]) == 1
    assert "is a pipe, expected a model file" in capsys.readouterr().err


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["up", "absolute", "link"])
def test_weights_outside_of_the_models_folder(tmp_path: Path, backend: Backend, kind: str) -> None:
    """The libraries do not read external data outside the model's folder either."""
    folder, secret = tmp_path / "model", tmp_path / "secret.bin"
    folder.mkdir()
    secret.write_bytes(np.ones(3, np.float32).tobytes())
    if kind == "link":
        (folder / "link.bin").symlink_to(secret)
    location = {"up": "../secret.bin", "absolute": str(secret), "link": "link.bin"}[kind]
    added = TensorProto(name="added", data_type=TensorProto.FLOAT, dims=[3])
    added.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        added.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "h", "w", 3])
        for name in ("image", "upscaled")
    ]
    node = helper.make_node("Add", ["image", "added"], ["upscaled"])
    graph = helper.make_graph([node], "test", ports[:1], ports[1:], [added])
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(srsdk.ModelError):
        srsdk.Upscaler(folder / "m.onnx", backend=backend)
    if kind == "link":
        # the same weights inside the folder are read: only the location was rejected
        (folder / "link.bin").unlink()
        (folder / "link.bin").write_bytes(secret.read_bytes())
        with srsdk.Upscaler(folder / "m.onnx", backend=backend) as up:
            assert up.scale == 1
