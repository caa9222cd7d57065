"""`srsdk adopt`: a file that says itself what it reads and writes, or one sentence and no file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import srsdk
from srsdk.cli.main import main
from srsdk.manifest import read_manifest
from tests.srsdk.adoption.nets import Net
from tests.srsdk.adoption.test_forms import assert_close, picture


def adopt(*arguments: object) -> int:
    """Run the command and return its exit code."""
    try:
        return main(["adopt", *map(str, arguments)])
    except SystemExit as usage:
        return int(str(usage.code))


def test_the_file_says_all_that_was_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Opened without `io` it gives what a direct run of the original gives, silently."""
    net = Net(dtype="float16", white=255.0, bgr=True, noise="scalar", multiple=4)
    path, target = net.save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    said = ["--range", 255, "--order", "bgr", "--set", "noise=3/255", "--name", "mine_x2"]
    terms = ["--license", "CC-BY-4.0", "--training-data", "DIV2K", "--training-license", "MIT"]
    assert adopt(path, "-o", target, *said, *terms) == 0
    out = capsys.readouterr().out
    for part in ("mine_x2 x2", "tiling: exact", "multiples of 4", "off a direct run"):
        assert part in out
    manifest = read_manifest(target)
    assert manifest is not None
    assert (manifest.name, manifest.licence, manifest.precision) == ("mine_x2", "CC-BY-4.0", "fp32")
    assert (manifest.training_data, manifest.training_licenses) == ("DIV2K", ("MIT",))
    assert (manifest.io["range"], manifest.io["order"], manifest.io["type"]) == (
        "0..255", "bgr", "float16"
    )  # fmt: skip
    source = picture(32, 40)
    with srsdk.Upscaler(target) as up:
        assert "inferred" not in repr(up)
        assert up.self_test() is not None
        assert_close(up(source), net.run(path, source, 3 / 255))
        assert_close(up(source, noise=9), net.run(path, source, 9 / 255))
    assert not caplog.records
    onnx.checker.check_model(onnx.load(target), full_check=True)
    with pytest.raises(srsdk.UsageError, match="omit io="):
        srsdk.Upscaler(target, io=srsdk.IO(range=1))


def test_the_boundary_is_bytes_for_every_library(tmp_path: Path) -> None:
    """ONNX Runtime alone runs the file: uint8 NHWC RGB in and out."""
    net = Net(white=1.0, black=-1.0)
    path, target = net.save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    assert adopt(path, "-o", target, "--range=-1,1", "--order", "rgb") == 0
    source = picture(20, 30)
    session = ort.InferenceSession(target, providers=["CPUExecutionProvider"])
    [got] = session.run(None, {session.get_inputs()[0].name: source[None]})
    assert_close(got[0], net.run(path, source))


def test_info_and_doctor_show_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The network's own boundary, its inputs, and whether it runs in each backend."""
    path, target = Net(noise="map").save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    assert adopt(path, "-o", target, "--set", "noise=15/255", "--order", "rgb") == 0
    capsys.readouterr()
    assert main(["info", str(target)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for part in ("input noise 15 by default", "network range 0..1", "network layout NCHW"):
        assert part in out
    assert main(["doctor", "--model", str(target)]) == 0
    out = capsys.readouterr().out
    assert out.count("[ok]") == 2
    assert "self-test: 99.0 dB" in out


def test_a_number_on_the_command_line(tmp_path: Path) -> None:
    """`srsdk upscale --set noise=50` is `up(picture, noise=50)`."""
    from PIL import Image

    net = Net(noise="channel")
    path, target = net.save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    assert adopt(path, "-o", target, "--set", "noise=15/255", "--order", "rgb") == 0
    source = picture(20, 30)
    Image.fromarray(source).save(tmp_path / "in.png")
    shown = ["upscale", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]
    assert main([*shown, "--model", str(target), "--set", "noise=30"]) == 0
    large = np.asarray(Image.open(tmp_path / "out.png"))
    assert_close(large, net.run(path, source, 30 / 255))


def test_global_context_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the operators do not tell how far a network sees, runs do."""
    path, target = Net().save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    for op, kind in (("Softmax", "exact"), ("GlobalAveragePool", "bounded")):
        model = onnx.load(path)
        last = model.graph.node[-1]
        # a softmax over the channels sees no other pixel, but is no operator that is known
        attributes = {"axis": 1} if op == "Softmax" else {}
        model.graph.node.insert(
            len(model.graph.node) - 1,
            onnx.helper.make_node(op, [last.input[0]], ["seen"], **attributes),
        )
        model.graph.node.insert(
            len(model.graph.node) - 1,
            onnx.helper.make_node("Mul", ["seen", last.input[0]], ["mixed"]),
        )
        last.input[0] = "mixed"
        onnx.save(model, tmp_path / "other.onnx")
        said = ["--range", "1", "--order", "rgb", "--force"]
        assert adopt(tmp_path / "other.onnx", "-o", target, *said) == 0
        assert f"tiling: {kind}" in capsys.readouterr().out


REFUSED: dict[str, tuple[list[Any], str]] = {
    "range": (["--range", "x"], "--range is 'x', expected numbers such as 255 or -1,1"),
    "flat range": (["--range", "3,3"], "expected two different values"),
    "setting": (["--set", "noise"], "expected NAME=VALUE"),
    "input": (["--set", "noise=1"], "has no input 'noise': it takes a picture alone"),
    "output": (["--output-name", "other"], "has no output 'other': expected one of 'out.put'"),
    "multiple": (["--multiple", "300"], "expected a whole number from 1 to 256"),
    "wrong multiple": (["--multiple", "3"], "accepts no sizes that are multiples of 3"),
    "layout": (["--layout", "NHWC"], "is not an image model"),
    "license": (["--training-license", "CC0"], "'CC0' is not an SPDX identifier"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written."""
    options, said = REFUSED[case]
    path, target = Net(multiple=8).save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    assert adopt(path, "-o", target, *options) in (1, 2)
    assert said in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["net.onnx"]


def test_where_it_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known before any work, or not at all: a full disk leaves nothing behind."""
    path = Net().save(tmp_path / "net.onnx")
    assert adopt(path, "-o", tmp_path / "gone" / "mine.onnx") == 1
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "folder.onnx").mkdir()
    assert adopt(path, "-o", tmp_path / "folder.onnx", "--force") == 1
    assert "is a folder, expected a file name" in capsys.readouterr().err

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert adopt(path, "-o", tmp_path / "mine.onnx") == 1
    assert "mine.onnx cannot be written: No space left on device" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["folder.onnx", "net.onnx"]


def test_an_existing_file_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--force` replaces it; a file with a manifest is not adopted again."""
    path, target = Net().save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    target.write_bytes(b"mine")
    assert adopt(path, "-o", target) == 1
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert adopt(path, "-o", target, "--force") == 0
    capsys.readouterr()
    assert adopt(target, "-o", tmp_path / "again.onnx") == 2
    assert "has a manifest" in capsys.readouterr().err
