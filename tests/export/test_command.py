"""`python -m export`: where files go, what they are called, and how mistakes are said."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.cli import main
from export.options import Options, plan
from export.targets.atomic_output import Staging
from srsdk.manifest import read_manifest
from tests.export.conftest import RECIPE


def repeats_pixels(path: Path, *, size: tuple[int, int] | None = None) -> Path:
    """Write an ONNX file that sees one pixel and enlarges twice."""
    weights = np.zeros((12, 3, 1, 1), np.float32)
    weights[np.arange(12), np.arange(12) // 4] = 1
    height, width = size or ("height", "width")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("DepthToSpace", ["c"], ["y"], name="shuffle", blocksize=2, mode="CRD"),
    ]
    shape = [None, 3, *([2 * side for side in size] if size else ["a", "b"])]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


@pytest.fixture
def umask() -> Iterator[None]:
    """Set an umask that is not the default, which a file has to follow."""
    if os.name != "posix":
        pytest.skip("modes are POSIX's")
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.parametrize("name", ["models", "models/", "a/b.1/"])
def test_a_folder_is_made(tmp_path: Path, name: str) -> None:
    """A name without a suffix, or with a slash at its end, is a folder, whose parents are made."""
    source = repeats_pixels(tmp_path / "net.onnx")
    arguments = [str(source), "-o", f"{tmp_path}/{name}", "--precision", "fp32,fp16"]
    assert main([*arguments, "--no-comparison"]) == 0
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
        "net.fp16.onnx",
        "net.onnx",
    ]


def test_the_licenses_of_the_data_are_in_every_file(tmp_path: Path) -> None:
    """Each form states them, sorted; without the option the build key is that of before."""
    source, out = repeats_pixels(tmp_path / "net.onnx"), tmp_path / "out"
    terms = ["--training-license", "CC0-1.0", "--training-license", "CC-BY-4.0"]
    arguments = [str(source), "-o", f"{out}/", "--precision", "fp32,fp16", "--no-comparison"]
    assert main([*arguments, *terms]) == 0
    for path in sorted(out.iterdir()):
        manifest = read_manifest(path)
        assert manifest is not None
        assert manifest.training_licenses == ("CC-BY-4.0", "CC0-1.0"), path
    assert "training_licenses" not in Options().to_dict()
    assert Options(training_licenses=("MIT",)).to_dict()["training_licenses"] == ("MIT",)


def test_a_wrong_license_of_the_data_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a usage error, although the source is missing, too."""
    arguments = [str(tmp_path / "none.onnx"), "-o", f"{tmp_path}/out/"]
    assert main([*arguments, "--training-license", "CC0"]) == 2
    said = capsys.readouterr().err
    assert "--training-license 'CC0' is not an SPDX identifier" in said
    assert "expected CC0-1.0" in said


def test_a_failure_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was made for files that did not pass is removed again."""
    out = tmp_path / "a" / "b"
    with Staging() as staging:
        staging.path(out / "x.onnx").write_text("not published")
    assert list(tmp_path.iterdir()) == []
    with Staging() as staging:
        staging.path(out / "x.onnx").write_text("whole")
        staging.publish()
    assert [path.name for path in out.iterdir()] == ["x.onnx"]
    source = repeats_pixels(tmp_path / "net.onnx")
    source.write_bytes(source.read_bytes()[:100])
    assert main([str(source), "-o", f"{tmp_path}/new/"]) == 1
    assert not (tmp_path / "new").exists()
    assert "net.onnx is not an ONNX model, or is truncated" in capsys.readouterr().err


def test_a_wrong_name_says_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a file's name nor surely a folder's: the error shows how each is written."""
    source = repeats_pixels(tmp_path / "net.onnx")
    for name, fix in (("v2.1", "v2.1/"), ("x.engine", "x/")):
        assert main([str(source), "-o", str(tmp_path / name)]) == 2
        error, usage = capsys.readouterr().err.splitlines()
        assert error.endswith(f"expected a name that ends in .onnx, or a folder: {tmp_path / fix}/")
        assert usage == "usage: see `python -m export --help`"
    (tmp_path / "file").write_text("")
    assert main([str(source), "-o", str(tmp_path / "file" / "models")]) == 1
    assert "file is a file, expected a folder" in capsys.readouterr().err


@pytest.mark.usefixtures("umask")
def test_files_have_the_mode_of_any_other(tmp_path: Path, weights: Path) -> None:
    """Models, and the weights that they come from, are readable for whom the umask allows."""
    assert main([str(weights), "-o", f"{tmp_path}/models", "--no-comparison"]) == 0
    files = [*(tmp_path / "models").iterdir()]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o640]
    assert stat.S_IMODE((tmp_path / "models").stat().st_mode) == 0o750


def test_mistakes_are_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The fact with the word that was meant, and where to read more; not all options."""
    for arguments, message in (
        (
            ["a.onnx", "-o", "x", "--precison", "fp16"],
            "unknown option --precison (did you mean --p",
        ),
        (["a.onnx"], "the following arguments are required: -o/--output"),
        (["a.onnx", "b.onnx", "-o", "x"], "unexpected argument 'b.onnx'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        error, usage = capsys.readouterr().err.splitlines()
        assert error.startswith(f"python -m export: {message}")
        assert usage == "usage: see `python -m export --help`"
    assert main(["a.onnx", "-o", "x", "--precision", "fp17"]) == 2
    assert "'fp17' is not one of fp32, fp16, int8" in capsys.readouterr().err
    assert main([]) == 2


def test_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    """Files, weights, targets, pictures, reports; the first lines fit on a screen."""
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    groups = ("files:", "weights and manifest:", "precisions and targets:", "pictures and INT8:")
    assert [shown.index(group) for group in groups] == sorted(map(shown.index, groups))
    assert shown.startswith("usage: python -m export SOURCE -o FOLDER ")


def test_the_receptive_field_is_said_once(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same number and words, and how it is known: exact or measured, also at one size."""
    radius = RECIPE.network.depth + 2
    any_size = repeats_pixels(tmp_path / "any.onnx")
    one_size = repeats_pixels(tmp_path / "one.onnx", size=(32, 48))
    for source, said in (
        (weights, f"x2, receptive-field radius {radius} px\n"),
        (
            any_size,
            "x2, receptive-field radius 4 px (measured: pixels further away change none by ",
        ),
        (
            one_size,
            "x2, receptive-field radius 4 px (measured: pixels further away change none by ",
        ),
    ):
        assert main([str(source), "-o", f"{tmp_path}/out/", "--no-comparison"]) == 0
        assert said in capsys.readouterr().out


def test_the_readme_is_right_about_names(tmp_path: Path) -> None:
    """`-o models` gives the files of the table, by the model's name."""
    options = Options(precisions=("fp32", "fp16", "int8"), targets=("onnx", "rtx"), data=tmp_path)
    assert {artifact.path for artifact in plan("models", "gan_x4", options)} == {
        Path("models") / f"gan_x4{end}"
        for end in (
            ".onnx",
            ".fp16.onnx",
            ".int8.onnx",
            ".int8.gpu.onnx",
            ".fp32.engine",
            ".fp16.engine",
            ".int8.engine",
        )
    }
