"""Test darktable packages: what opens, what is refused, and where files are written."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import srsdk
from srsdk.errors import ModelError, UsageError
from srsdk.models import darktable, locate
from srsdk.models.darktable import read_package
from tests import networks
from tests.conftest import make_picture
from tests.srsdk.models.packages import CONFIG, short, write


@pytest.fixture
def package(tmp_path: Path, home: Path) -> Path:
    """Write a package of two models, x2 and x4, and files that are not needed."""
    files = {
        f"model_x{scale}.onnx": networks.nearest(tmp_path / "a.onnx", scale=scale).read_bytes()
        for scale in (2, 4)
    }
    return write(tmp_path / "upscale-test.dtmodel", {**files, "LICENSE": b"text", "sub/a.bin": b""})


def test_what_it_says(package: Path) -> None:
    """Card, task, models with their scales, and what darktable feeds to its networks."""
    found = read_package(package)
    assert (found.id, found.task, found.models) == (
        "upscale-test",
        "upscale",
        ("model_x2", "model_x4"),
    )
    assert found.scales() == {2, 4}
    assert (found.card["license"], found.card["author"]) == ("Apache-2.0", "A. Botanist")
    assert found.io("model_x4") == {"range": 1.0, "order": "rgb", "layout": "NCHW", "multiple": 4}


@pytest.mark.parametrize("scale", [2, 4])
def test_it_opens(package: Path, scale: int) -> None:
    """`scale` chooses the model; the result is the network's."""
    picture = make_picture(12, 16)
    with srsdk.Upscaler(package, scale=scale) as up:
        assert np.array_equal(up(picture), picture.repeat(scale, 0).repeat(scale, 1))
        assert (up.manifest.licence, up.manifest.scale) == ("Apache-2.0", scale)
    located = locate(package, scale)
    assert located.card is not None
    assert (located.card.name, located.card.license) == (f"upscale-test_x{scale}", "Apache-2.0")
    assert located.path.name == f"upscale-test_x{scale}.onnx"


def test_it_is_unpacked_once(package: Path, tmp_path: Path) -> None:
    """Below the cache, for this user only, and again where it was damaged."""
    path = locate(package, 2).path
    assert path.is_relative_to(tmp_path / "cache" / "packages")
    if os.name == "posix":
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    whole, made = path.read_bytes(), path.stat().st_ino
    assert locate(package, 2).path.stat().st_ino == made
    path.write_bytes(whole[:-1] + b"x")
    assert locate(package, 2).path.read_bytes() == whole
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


def test_a_cache_that_others_may_write(package: Path) -> None:
    """Models are code: nothing is run from there."""
    if os.name != "posix":
        pytest.skip("modes mean nothing on Windows")
    folder = locate(package, 2).path.parent
    folder.chmod(0o777)
    with pytest.raises(ModelError, match="other users own it or can write there"):
        locate(package, 2)


def test_no_cache(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to do."""
    monkeypatch.setenv("SRSDK_CACHE", "")
    with pytest.raises(ModelError, match="set SRSDK_CACHE=FOLDER, or unzip it and pass the path"):
        locate(package, 2)


@pytest.mark.parametrize("scale", [None, 3])
def test_several_models(package: Path, scale: int | None) -> None:
    """The error names them and their scales."""
    with pytest.raises(UsageError, match=r"holds model_x2 and model_x4: pass scale=N .* 2, 4$"):
        srsdk.Upscaler(package, scale=scale)


def test_a_denoiser(tmp_path: Path, home: Path, model: Path) -> None:
    """It has scale 1, and its second input is the noise level that darktable feeds."""
    config = {**CONFIG, "id": "denoise-test", "task": "denoise", "num_inputs": 2}
    path = write(tmp_path / "a.dtmodel", {"model.onnx": b""}, config=config, folder="denoise-test")
    found = read_package(path)
    assert (found.choose(None), found.scale("model")) == ("model", 1)
    assert found.io("model")["inputs"] == {"noise": (25.0, 255.0)}
    assert found.file_name("model") == "denoise-test"


def test_a_denoiser_runs(tmp_path: Path, home: Path) -> None:
    """A network that adds its noise level: 25 levels unless a call says otherwise."""
    shapes = {"input": 3, "sigma": 1, "output": 3}
    ports = {
        name: onnx.helper.make_tensor_value_info(name, 1, [1, channels, "h", "w"])
        for name, channels in shapes.items()
    }
    add = onnx.helper.make_node("Add", ["input", "sigma"], ["output"])
    graph = onnx.helper.make_graph([add], "g", [ports["input"], ports["sigma"]], [ports["output"]])
    opset = onnx.helper.make_opsetid("", 17)
    network = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    config = {**CONFIG, "id": "denoise-test", "task": "denoise", "num_inputs": 2, "attributes": {}}
    files = {"model.onnx": network.SerializeToString()}
    path = write(tmp_path / "a.dtmodel", files, config=config, folder="denoise-test")
    gray = np.full((40, 50, 3), 100, np.uint8)
    with srsdk.Upscaler(path, health=False) as up:
        assert (up(gray) == 125).all()
        assert (up(gray, noise=50) == 150).all()
        assert up.manifest.name == "denoise-test"
        assert dict(up.manifest.inputs) == {"noise": 25.0}


def _wrong_config(**changes: Any) -> dict[str, Any]:
    return {"config": {**CONFIG, **changes}}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "holds no ONNX file in its folder upscale-test/"),
        ({"../../evil.onnx": b"x"}, {}, "expected all in one folder upscale-test/"),
        ({"/../evil.onnx": b"x"}, {}, "is not a darktable package: its first folder is"),
        ({"/zzz/evil.onnx": b"x"}, {}, "has the entry '[^']+', expected all in one folder"),
        (
            {"zzz": b"x", "/zzz": b"x"},
            {},
            "is not a darktable package: its first folder is 'zzz'|has",
        ),
        ({"a\\b.onnx": b"x"}, {}, "has the entry"),
        ({"a.onnx": b"x"}, {"folder": ".."}, r"its first folder is '\.\.'"),
        (
            {"a.onnx": b"x"},
            _wrong_config(task="mask"),
            "for the task 'mask' and the backend 'onnx'",
        ),
        ({"a.onnx": b"x"}, _wrong_config(task=["upscale"]), "for the task"),
        ({"a.onnx": b"x"}, _wrong_config(backend="ncnn"), "and the backend 'ncnn'"),
        ({"a.onnx": b"x"}, {"config": b"{"}, r"config\.json is not JSON"),
        ({"a.onnx": b"x"}, {"config": b"[" * 100_000}, r"config\.json"),
        ({"a.onnx": b"x"}, {"config": b"[]"}, r"config\.json is not a JSON object"),
        ({"a.onnx": b"x"}, {"config": os.urandom(2 << 20)}, "expected at most 1,048,576"),
        ({"a.onnx": bytes(10 << 20)}, {}, r"would unpack from [\d,]+ to 10,485,760 bytes"),
        ({"a.onnx": b"x"}, {"method": zipfile.ZIP_LZMA}, "packed with method 14, expected 0"),
        ({f"{n}.txt": b"" for n in range(1001)}, {}, "has 1,002 entries"),
    ],
)
def test_packages_that_are_refused(
    tmp_path: Path, home: Path, files: dict[str, bytes], options: dict[str, Any], message: str
) -> None:
    """Each costs one sentence, and nothing is written anywhere."""
    path = write(tmp_path / "a.dtmodel", files, **options)
    with pytest.raises(ModelError, match=message):
        srsdk.Upscaler(path, scale=2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.dtmodel"]


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x05\x06" + bytes(18), bytes(100_000)], ids=short
)
def test_files_that_are_no_packages(tmp_path: Path, home: Path, content: bytes) -> None:
    """Each is one sentence."""
    path = tmp_path / "a.dtmodel"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        srsdk.Upscaler(path)


def test_damage(package: Path) -> None:
    """A package that is cut or changed anywhere opens, or is a `ModelError`."""
    whole = package.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            damaged[at] = random.integers(256)
        package.write_bytes(
            damaged[: random.integers(1, len(whole))] if random.random() < 0.3 else damaged
        )
        try:
            found = locate(package, 2)
        except (ModelError, UsageError):
            continue
        assert found.path.name.endswith("_x2.onnx")


def test_a_size_that_lies(package: Path) -> None:
    """What an entry says of its size bounds what is written."""
    content = bytearray(package.read_bytes())
    with zipfile.ZipFile(package) as archive:
        # the last one: sizes of other entries may be the same
        info = archive.getinfo("upscale-test/model_x4.onnx")
    real = info.file_size.to_bytes(4, "little")
    at = content.rfind(real)
    content[at : at + 4] = (info.file_size - 9).to_bytes(4, "little")
    package.write_bytes(content)
    with pytest.raises(ModelError, match="is a damaged zip file"):
        locate(package, 4)


def test_limits_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many entries are refused before the directory is read."""
    path = write(tmp_path / "a.dtmodel", {f"{n}.onnx": b"" for n in range(20)})
    monkeypatch.setattr(darktable, "MAX_ENTRIES", 10)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(ModelError, match="expected at most 10 entries"):
        read_package(path)


def test_texts_are_shown_plainly(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`srsdk info` shows the card without control characters."""
    from srsdk.cli.main import main

    config = json.loads(json.dumps(CONFIG))
    config["model_card"]["author"] = "\x1b[31mred\x1b[0m"
    path = write(tmp_path / "a.dtmodel", {"model_x2.onnx": b""}, config=config)
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    for part in (r"\x1b[31mred", "Apache-2.0", "upscale", "[2]", "range 1.0, order rgb"):
        assert part in text
