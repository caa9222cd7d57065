"""Precision: what a shipped name opens without any option, and the ways to ask for another."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk import models, opening
from srsdk.autotune import settings
from srsdk.cli.main import main
from srsdk.engines.select import open_engine
from srsdk.inference import self_test
from srsdk.options import Backend
from srsdk.system.processor import Processor, processor
from tests.conftest import make_picture

BACKENDS = ("openvino", "onnxruntime")
SHIPPED = Path(models.__file__).parent
AVX2 = Processor("a processor", "AVX2", ("sse4_2", "avx", "avx2"))


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a separate cache folder, on a processor on which `auto` may choose INT8."""
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(self_test, "_passed", set())
    if "avx2" not in processor().instruction_sets:
        monkeypatch.setattr(settings, "processor", lambda: AVX2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the folder of the shipped models by one with gan_x2 alone."""
    made = tmp_path / "models"
    made.mkdir()
    shutil.copy(models.find("gan_x2"), made)
    monkeypatch.setattr(models, "FOLDER", made)
    return made


def assert_float32(up: srsdk.Upscaler, why: str = "") -> None:
    """Check that an Upscaler runs the float32 file, and that `repr` shows why."""
    assert up.manifest.precision == "fp32"
    assert f" fp32{f' (auto; {why})' if why else ''}, " in repr(up)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_name_opens_the_int8_file(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """The result is that file's; `repr`, the manifest and the log show the choice."""
    picture = make_picture(40, 50)
    with (
        caplog.at_level(logging.INFO, "srsdk"),
        srsdk.Upscaler("gan_x2", backend=backend) as up,
        srsdk.Upscaler("gan_x2.int8", backend=backend) as int8,
    ):
        assert "int8 (auto; precision='fp32' for the float32 file), " in repr(up)
        assert (up.manifest, up.self_test()) == (int8.manifest, int8.self_test())
        assert "(auto" not in repr(int8)
        assert np.array_equal(up(picture), int8(picture))
    line = "precision auto: gan_x2.int8.onnx (precision='fp32' opens gan_x2.onnx)"
    assert caplog.messages.count(line) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_way_back(backend: Backend) -> None:
    """`fp32` is what the path of the float32 file opens, because a path names a file."""
    picture = make_picture(40, 50)
    with (
        srsdk.Upscaler("gan_x2", backend=backend, precision="fp32") as up,
        srsdk.Upscaler(models.find("gan_x2"), backend=backend) as by_path,
    ):
        assert_float32(up)
        assert_float32(by_path)
        assert np.array_equal(up(picture), by_path(picture))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_more_than_8_bits_are_computed_in_float32(backend: Backend, dtype: Any) -> None:
    """With the INT8 file open, such a picture is the one of the float32 file."""
    levels = np.random.default_rng(0).random((70, 90, 3))
    deep = levels.astype(np.float32) if dtype is np.float32 else (levels * 65535).astype(np.uint16)
    with (
        srsdk.Upscaler("gan_x2", backend=backend, tile=48) as up,
        srsdk.Upscaler("gan_x2", backend=backend, tile=48, precision="fp32") as fp32,
    ):
        result = up(deep)
        assert up.manifest.precision == "int8"
        assert result.dtype == dtype
        assert np.array_equal(result, fp32(deep))
        eight = make_picture(70, 90)
        assert not np.array_equal(up(eight), fp32(eight))


def test_restorer_and_chain() -> None:
    """Every class opens a name alike; a model without an INT8 file is opened as it is."""
    with srsdk.Restorer("ae_x1") as restore:
        assert restore.manifest.precision == "int8"
    with srsdk.Chain.of("photo", 2) as chain:
        assert "int8 (auto; " in repr(chain)
    with srsdk.Chain.of("photo", 2, precision="fp32") as chain:
        assert " fp32, " in repr(chain)
    with srsdk.Sampler("vae_x4") as sampler:
        assert_float32(sampler)


def test_options_that_keep_float32() -> None:
    """A mix of two files has no INT8 form, and without a self-test INT8 is not trusted.

    A self-test that passed before does not count: the cache must not decide what a call computes.
    """
    with srsdk.Upscaler("gan_x2", texture=0.5) as up:
        assert_float32(up)
    srsdk.Upscaler("gan_x2").close()
    with srsdk.Upscaler("gan_x2", self_test=False) as up:
        assert_float32(up)


@pytest.mark.parametrize(
    "sets", [("sse4_2", "avx"), ("asimd", "asimddp", "i8mm"), ()], ids=["avx", "arm64", "unknown"]
)
def test_processors_that_keep_float32(sets: tuple[str, ...], monkeypatch: Any) -> None:
    """INT8 is chosen only where it was measured to be faster; `int8` can be asked for anywhere."""
    monkeypatch.setattr(settings, "processor", lambda: Processor("a processor", "any", sets))
    with srsdk.Upscaler("gan_x2") as up:
        assert_float32(up)
    with srsdk.Upscaler("gan_x2", precision="int8", backend="onnxruntime") as up:
        assert up.manifest.precision == "int8"


def test_wrong_results_of_int8(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`auto` opens float32 with one warning and says so in `repr`; `int8` is an error."""
    pytest.importorskip("onnx", reason="edits a model by onnx")
    from tests.networks import clip_weights

    clip_weights(SHIPPED / "gan_x2.int8.onnx", folder / "gan_x2.int8.onnx")
    with srsdk.Upscaler("gan_x2") as up:
        assert_float32(up, "int8 fails its self-test here")
        assert up(make_picture(9, 9)).shape == (18, 18, 3)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "gan_x2.onnx in float32, because gan_x2.int8.onnx gives wrong" in warning.getMessage()
    with pytest.raises(srsdk.SelfTestError, match=r"gan_x2\.int8\.onnx gives wrong results"):
        srsdk.Upscaler("gan_x2", precision="int8")


def test_a_library_that_refuses_int8(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`auto` opens float32 with the same backend, not INT8 with the other one."""

    def refuse(path: Path, backend: Backend, **options: Any) -> Any:
        if path.name.endswith(".int8.onnx"):
            assert not options["allow_fallback"]
            raise srsdk.ModelError("no such layer here")
        return open_engine(path, backend, **options)

    monkeypatch.setattr(opening, "open_engine", refuse)
    with srsdk.Upscaler("gan_x2") as up:
        assert_float32(up, "int8 cannot be opened here")
    assert "because no such layer here" in caplog.text
    with pytest.raises(srsdk.ModelError, match="no such layer"):
        srsdk.Upscaler("gan_x2", precision="int8", backend="onnxruntime")


def test_a_damaged_int8_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`auto` opens float32 and warns; `int8` is an error."""
    (folder / "gan_x2.int8.onnx").write_bytes(b"\x08")
    with srsdk.Upscaler("gan_x2") as up:
        assert_float32(up, "int8 cannot be opened here")
    assert "precision auto: gan_x2.onnx in float32, because" in caplog.text
    with pytest.raises(srsdk.ModelError, match=r"gan_x2\.int8\.onnx"):
        srsdk.Upscaler("gan_x2", precision="int8")


@pytest.mark.parametrize("other", ["gan_x4.int8", "gan_x2.int8.gpu", "gan_x2.fp16", None])
def test_another_models_file_is_not_the_int8_form(
    folder: Path, other: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A file counts only with the same weights, in INT8, for CPUs."""
    if other is not None:
        shutil.copy(SHIPPED / f"{other}.onnx", folder / "gan_x2.int8.onnx")
    with srsdk.Upscaler("gan_x2") as up:
        assert_float32(up)
    assert not caplog.records
    with pytest.raises(srsdk.UsageError, match=r"needs gan_x2\.int8\.onnx of the same weights"):
        srsdk.Upscaler("gan_x2", precision="int8")


def test_int8_by_request(folder: Path) -> None:
    """It opens the INT8 file, also next to a path and by its own name, for every depth."""
    shutil.copy(SHIPPED / "gan_x2.int8.onnx", folder)
    deep = (np.random.default_rng(0).random((20, 30, 3)) * 65535).astype(np.uint16)
    results = []
    for model in ("gan_x2", "gan_x2.int8", folder / "gan_x2.onnx"):
        with srsdk.Upscaler(model, precision="int8") as up:
            assert " int8, " in repr(up)
            results.append(up(deep))
    with srsdk.Upscaler("gan_x2.int8") as up:
        assert all(np.array_equal(up(deep), result) for result in results)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("gan_x2.int8", {"precision": "fp32"}, "is for float32 files, gan_x2.int8.onnx is int8"),
        ("gan_x2.fp16", {"precision": "fp32"}, "is for float32 files, gan_x2.fp16.onnx is fp16"),
        ("vae_x4", {"precision": "int8"}, r"needs vae_x4\.int8\.onnx of the same weights"),
        ("gan_x2", {"precision": "fp32", "tune": True}, "omit one of the two"),
        ("gan_x2", {"precision": "int8", "texture": 0.5}, "texture mixes float32 files"),
    ],
)
def test_wrong_calls(model: str, options: dict[str, Any], message: str) -> None:
    """Each gets its own message."""
    with pytest.raises(srsdk.UsageError, match=message):
        srsdk.Upscaler(model, **options)


@pytest.mark.parametrize("precision", ["auto", "fp32", "int8"])
def test_the_command_line(tmp_path: Path, precision: str) -> None:
    """`srsdk upscale --precision` gives the picture of the same argument in Python."""
    picture = make_picture(24, 30)
    Image.fromarray(picture).save(tmp_path / "in.png")
    call = ["upscale", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]
    assert main([*call, "--model", "gan_x2", "--precision", precision]) == 0
    options: dict[str, Any] = {"precision": precision}
    with srsdk.Upscaler("gan_x2", **options) as up, Image.open(tmp_path / "out.png") as result:
        assert np.array_equal(np.asarray(result), up(picture))


def test_info_names_the_file_that_auto_opens(capsys: pytest.CaptureFixture[str]) -> None:
    """A path and a model without an INT8 file have no such line."""
    found = []
    for model in ("gan_x2", "gan_x2.int8", "vae_x4", str(models.find("gan_x2"))):
        assert main(["info", model, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out).get("auto_on_cpu"))
    assert found == ["gan_x2.int8.onnx", None, None, None]
