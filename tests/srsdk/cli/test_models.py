"""Test `srsdk models`: one line for each model, in groups, within 100 columns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import srsdk
from srsdk.cli.main import main
from srsdk.manifest import METADATA_KEY
from srsdk.models.catalog import PURPOSES
from srsdk.models.terms import in_words, may_be_shipped
from tests import networks


def test_one_line_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    """With what it is for, its precisions and its PSNR; then what --kind and the license say."""
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    names = [name for name in srsdk.models.shipped() if "." not in name]
    for name in names:
        assert len(re.findall(rf"^  {name} ", text, re.MULTILINE)) == 1
    row = r"^  gan_x4 +fidelity; the default +fp32 fp16 int8 +31\.\d\d +(yes|no)$"
    assert re.search(row, text, re.MULTILINE)
    groups = re.findall(r"^([a-z]+, x\d)$", text, re.MULTILINE)
    assert groups == [
        *("photographs, x4", "photographs, x2"),
        *("video, x4", "video, x2", "restoration, x1"),
    ]
    for line in (
        "for --kind photo: gan_x2 or gan_x4\n",
        "for --kind compressed: ae_x1 + gan_x2 or ae_x1 + gan_x4\n",
        "for --kind realworld: realworld_x2 or realworld_x4\n",
        "for --kind drawing: gan_x2 or gan_x4\n",
        "for video --quality realtime: realtime_x2 or realtime_x4\n",
    ):
        assert line in text
    assert re.search(r"^license of all weights: Apache-2.0$", text, re.MULTILINE)


def test_a_model_for_video_by_quality_and_scale() -> None:
    """Each quality has one for x2 and one for x4; the error names what there is."""
    assert srsdk.models.for_video() == "realtime_x2"
    assert srsdk.models.for_video("realtime", 4) == "realtime_x4"
    with pytest.raises(srsdk.UsageError, match="no best model enlarges 3 times, only 2 or 4"):
        srsdk.models.for_video("best", 3)
    with pytest.raises(srsdk.UsageError, match="expected one of realtime, balanced, best"):
        srsdk.models.for_video("fast")


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_it_fits_a_terminal(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No line is longer than 100 columns."""
    assert main(["models", *options]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    """`--all` has one line for each file, with its size, then the licenses in full."""
    assert main(["models", "--all"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^gan_x4.int8 +x4 +int8 +\d+ +Set5 31\.\d\d, Set14 28", text, re.MULTILINE)
    for name in srsdk.models.shipped():
        assert re.search(rf"^{re.escape(name)} ", text, re.MULTILINE)
    assert "license of ae_x1, gan_x2, gan_x2_quality" in text


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object for each file: the manifest, the size, and what it is for."""
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sorted(one["model"] for one in listed) == srsdk.models.shipped()
    for one in listed:
        assert one["purpose"] == PURPOSES[one["model"].partition(".")[0]]
        assert one["bytes"] > 0
        assert one["licence"]
        assert one["may_be_shipped"] is may_be_shipped(one["licence"], one["training_licenses"])
        assert one["may_be_shipped"] is not None


@pytest.mark.parametrize(
    ("licenses", "answer"),
    [(("CC-BY-4.0", "CC0-1.0"), True), (("CC0-1.0", "NOASSERTION"), False), ((), None)],
)
def test_whether_a_file_may_be_shipped(
    licenses: tuple[str, ...],
    answer: bool | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`models` and `info` say yes, no or not stated, of files of one's own, too."""
    about = srsdk.Manifest(
        name="toy", scale=1, channels=3, radius_px=0, licence="MIT", training_licenses=licenses
    )
    metadata = {METADATA_KEY: about.to_json()}
    path = networks.identity(tmp_path / "toy.onnx", metadata=metadata)
    for command in (["models", str(tmp_path)], ["info", str(path)]):
        assert main([*command, "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        one = values[0] if command[0] == "models" else values
        assert (one["may_be_shipped"], one["training_licenses"]) == (answer, list(licenses))
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    shown = ", ".join(licenses) or "not stated"
    assert re.search(rf"^training_licenses +{shown}$", text, re.MULTILINE)
    assert re.search(rf"^may_be_shipped +{in_words(answer)}$", text, re.MULTILINE)


def test_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file of it, with or without a manifest; an empty folder is an error."""
    assert main(["models", str(tmp_path)]) == 1
    assert "contains no model files" in capsys.readouterr().err
    networks.nearest(tmp_path / "toy.onnx", scale=3)
    assert main(["models", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "carries no manifest" in text
    assert "--kind" not in text
    assert main(["models", str(tmp_path), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert set(one) == {"model", "bytes"}
