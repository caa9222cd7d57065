"""The cache of compiled models: whole, private, bounded; of one file, library and processor."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk import models
from srsdk.engines import openvino
from srsdk.engines.compiled import cache as compiled_cache
from srsdk.engines.compiled import forms as compiled_forms
from srsdk.engines.openvino import OpenVinoEngine
from srsdk.system import user_cache
from tests.conftest import make_picture

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes mean nothing on Windows")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, and return the folder of its compiled models."""
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(user_cache, "_said", set())
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List what OpenVINO is asked: `read_model`, `compile_model`, `import_model`."""
    asked: list[str] = []

    class Listening:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(self._real, name)

    monkeypatch.setattr(openvino, "_CORE", Listening(openvino._CORE))
    return asked


def upscale(path: Path, **options: Any) -> Any:
    """Upscale one picture with an Upscaler of its own."""
    with srsdk.Upscaler(path, backend="openvino", **options) as up:
        return up(make_picture(40, 30))


@pytest.mark.parametrize("name", ["gan_x2", "gan_x2.int8"])
def test_the_second_open_compiles_nothing(name: str, cache: Path, compilations: list[str]) -> None:
    """Not even the graph is read, until a size recurs; the picture is the same."""
    path = models.find(name)
    expected = upscale(path)
    assert {"read_model", "compile_model"} <= set(compilations)
    [kept] = cache.iterdir()
    compilations.clear()
    np.testing.assert_array_equal(upscale(path), expected)
    assert compilations == ["import_model"]
    assert [kept] == list(cache.iterdir())


def test_cache_false_reads_and_writes_nothing(
    cache: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does an empty `SRSDK_CACHE`."""
    path = models.find("gan_x2")
    upscale(path, cache=False)
    assert not cache.exists()
    upscale(path)
    compilations.clear()
    upscale(path, cache=False)
    assert "import_model" not in compilations
    monkeypatch.setenv(user_cache.VARIABLE, "")
    compilations.clear()
    upscale(path)
    assert "import_model" not in compilations


def test_each_difference_has_its_own_file(tmp_path: Path, cache: Path) -> None:
    """Content, precision, threads, streams, and the instruction sets that oneDNN may use."""
    path = models.find("gan_x2")
    other = tmp_path / "other.onnx"
    other.write_bytes(models.find("gan_x2_texture").read_bytes())
    engines = (
        OpenVinoEngine(path, threads=None),
        OpenVinoEngine(other, threads=None),
        OpenVinoEngine(path, threads=1),
        OpenVinoEngine(path, threads=None, streams=2),
    )
    for engine in engines:
        engine.slot((1, 32, 32, 3)).close()
        engine.close()
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize(
    ("target", "changed"),
    [("processor", lambda: "another processor"), ("SCHEMA", "0")],
)
def test_another_machine_has_another_file(
    monkeypatch: pytest.MonkeyPatch, target: str, changed: Any
) -> None:
    """Another processor, version of the library, or form of the cache is not read."""
    before = compiled_cache.cache_file(b"model", "1.0", {"a": 1})
    assert before == compiled_cache.cache_file(b"model", "1.0", {"a": 1})
    assert before != compiled_cache.cache_file(b"model", "1.1", {"a": 1})
    assert before != compiled_cache.cache_file(b"model", "1.0", {"a": 2})
    assert before != compiled_cache.cache_file(b"modem", "1.0", {"a": 1})
    monkeypatch.setattr(compiled_cache, target, changed)
    assert before != compiled_cache.cache_file(b"model", "1.0", {"a": 1})


def test_a_limit_on_instruction_sets_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """OneDNN obeys `ONEDNN_MAX_CPU_ISA`."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    before = compiled_cache.cache_file(b"model", "1.0", {})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert before != compiled_cache.cache_file(b"model", "1.0", {})


def test_weights_in_other_files_are_not_cached(tmp_path: Path) -> None:
    """The file would stay the same while they change."""
    path = tmp_path / "x.onnx"
    path.write_bytes(b"...location...weights.bin")
    assert compiled_cache.content_of(path, None) is None
    assert compiled_cache.content_of(path, b"graph") == b"graph"
    assert compiled_cache.content_of(tmp_path / "missing.onnx", None) is None


def test_a_changed_file_is_read_as_it_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file replaced after it was opened does not mix with its cached form."""
    path = tmp_path / "x.onnx"
    path.write_bytes(models.find("gan_x2").read_bytes())
    expected = upscale(path)
    monkeypatch.setattr(compiled_forms, "OWN_AFTER_VALUES", 3 * 3 * 40 * 30)
    with srsdk.Upscaler(path, backend="openvino") as up:
        path.write_bytes(models.find("gan_x2_texture").read_bytes())
        for _ in range(4):
            np.testing.assert_array_equal(up(make_picture(40, 30)), expected)
    assert not np.array_equal(upscale(path), expected)


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "no signature"])
def test_damage_is_compiled_again(
    cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is in the file: said, compiled, written again; the picture is the same."""
    path = models.find("gan_x2")
    expected = upscale(path)
    [kept] = cache.iterdir()
    whole, found = kept.read_bytes(), compiled_cache.load(kept)
    assert found is not None
    signature, compiled = found
    if damage == "cut":
        kept.write_bytes(whole[: len(whole) // 2])
    elif damage == "changed":
        kept.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif damage == "foreign":
        compiled_cache.store(kept, signature, b"not a compiled model")
    else:
        user_cache.store(kept, b'{"dtype": 1}\n' + compiled)
    with caplog.at_level(logging.WARNING, "srsdk"):
        np.testing.assert_array_equal(upscale(path), expected)
    assert "again" in caplog.text
    assert [kept] == list(cache.iterdir())
    caplog.clear()
    np.testing.assert_array_equal(upscale(path), expected)
    assert caplog.text == ""


@posix
def test_what_others_may_write_is_not_run(
    cache: Path, compilations: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A compiled model is code."""
    path = models.find("gan_x2")
    upscale(path)
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    compilations.clear()
    upscale(path)
    assert "import_model" not in compilations
    assert "other users own it or can write there" in caplog.text


def test_the_least_recently_used_are_deleted(tmp_path: Path) -> None:
    """Until the rest fits; files being written are left alone, forgotten ones are not."""
    folder = tmp_path / "c"
    for age, name in enumerate(("new", "middle", "old")):
        user_cache.store(folder / f"{name}.blob", b"x" * 1000)
        os.utime(folder / f"{name}.blob", (time.time() - age, time.time() - age))
    for name, age in ((".being.tmp.blob", 10), (".forgotten.tmp.blob", 2 * user_cache.STALE_S)):
        (folder / name).write_bytes(b"y" * 5000)
        os.utime(folder / name, (time.time() - age, time.time() - age))
    (folder / "other.json").write_bytes(b"z" * 5000)
    user_cache.trim(folder, ".blob", 2500)
    left = {path.name for path in folder.iterdir()}
    assert left == {"new.blob", "middle.blob", ".being.tmp.blob", "other.json"}
    signature = OpenVinoEngine(models.find("gan_x2"), threads=None, cache=False).signature
    compiled_cache.store(folder / "old.blob", signature, b"x")
    os.utime(folder / "old.blob", (1, 1))
    assert compiled_cache.load(folder / "old.blob") == (signature, b"x")
    assert (folder / "old.blob").stat().st_mtime > 1


def test_the_cache_stays_within_its_size(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing one more deletes the oldest."""
    monkeypatch.setattr(compiled_cache, "MAX_BYTES", 3000)
    signature = OpenVinoEngine(models.find("gan_x2"), threads=None, cache=False).signature
    for number in range(5):
        compiled_cache.store(cache / f"{number}.blob", signature, b"x" * 1000)
        os.utime(cache / f"{number}.blob", (number, number))
    names = {path.name for path in cache.iterdir()}
    assert "4.blob" in names
    assert len(names) == 2


OPEN = """
import sys
import numpy as np, srsdk
picture = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
with srsdk.Upscaler(sys.argv[1], backend="openvino") as up:
    print(int(np.asarray(up(picture), np.int64).sum()))
"""


def test_processes_that_write_at_once(cache: Path) -> None:
    """All get the same picture, and one whole file is left."""
    call = [sys.executable, "-W", "error", "-c", OPEN, str(models.find("gan_x2.int8"))]

    def run(_: int) -> str:
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(run, range(6)))
    assert len(found) == 1
    [kept] = cache.iterdir()
    assert compiled_cache.load(kept) is not None
