"""Other people's ONNX files as sources: a direct run of the network is the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import srsdk
from export.errors import ExportError
from export.options import Options
from export.pipeline import export
from export.sources.onnx_file import open_onnx
from srsdk.cli.main import main
from tests.srsdk.adoption.nets import Net
from tests.srsdk.adoption.test_forms import assert_close, picture

FORMS = {
    "float16": Net(dtype="float16"),
    "bfloat16": Net(dtype="bfloat16"),
    "uint8": Net(dtype="uint8"),
    "NHWC": Net(dtype="float16", layout="NHWC"),
    "0..255": Net(white=255.0, clip=True),
    "-1..1 as hinted": Net(white=1.0, black=-1.0, clip=True),
    "multiple of 8": Net(multiple=8),
    "a border that is cut off": Net(margin=5),
    "luma": Net(dtype="float16", channels=1),
}


@pytest.mark.parametrize("name", [name for name in FORMS if name != "uint8"])
def test_every_form_is_a_source(tmp_path: Path, name: str) -> None:
    """The float32 graph with srsdk's boundary gives what the network gives, within a level."""
    net = FORMS[name]
    path = net.save(tmp_path / "net.onnx")
    source = picture(32, 40, net.channels)
    padded = np.pad(source, ((net.margin,) * 2, (net.margin,) * 2, (0, 0)), mode="reflect")
    opened = open_onnx(path)
    assert opened.facts.multiple_px % net.multiple == 0
    assert_close(opened.reference(source[None])[0], net.run(path, padded))


def test_an_adopted_file_is_a_source(tmp_path: Path) -> None:
    """What was said to `srsdk adopt` need not be said again."""
    net = Net(dtype="float16", white=255.0, bgr=True)
    path, mine = net.save(tmp_path / "net.onnx"), tmp_path / "mine.onnx"
    said = ["--range", "255", "--order", "bgr"]
    assert main(["adopt", str(path), "-o", str(mine), *said]) == 0
    source = picture(32, 40)
    report = export(mine, tmp_path / "out", Options(precisions=("fp32", "fp16")))
    assert len(report.made) == 2
    for made in report.made:
        with srsdk.Upscaler(made.artifact.path) as up:
            assert (up.manifest.tiling, up.manifest.precision) == ("exact", made.artifact.precision)
            assert_close(up(source), net.run(path, source))


def test_numbers_beside_the_picture_are_refused(tmp_path: Path) -> None:
    """The sentence names them and what to do."""
    path = Net(noise="scalar").save(tmp_path / "net.onnx")
    with pytest.raises(ExportError, match="takes noise_level beside the picture"):
        open_onnx(path)
