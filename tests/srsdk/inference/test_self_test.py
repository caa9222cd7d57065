"""Self-test: a file's probe against the output of the float32 network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk import doctor, models
from srsdk.autotune import trials
from srsdk.cli.main import main
from srsdk.formats.probe import EQUAL_DB, SAMPLES, Agreement, Probe, picture, positions
from srsdk.inference import self_test
from srsdk.manifest import METADATA_KEY, parse_manifest, read_manifest
from srsdk.models.lookup import Located
from srsdk.options import Backend
from srsdk.system import user_cache

BACKENDS: tuple[Backend, ...] = ("openvino", "onnxruntime")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a separate cache folder and forget all passed self-tests."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SRSDK_CACHE", str(folder))
    monkeypatch.setattr(self_test, "_passed", set())
    monkeypatch.setattr(user_cache, "_said", set())
    return folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the devices on which a probe runs."""
    found: list[str] = []
    real = self_test._run

    def run(engine: Any, manifest: Any) -> Agreement:
        found.append(engine.device)
        return real(engine, manifest)

    monkeypatch.setattr(self_test, "_run", run)
    return found


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Return a copy of gan_x2.int8 with the large weights of its second convolution clipped."""
    pytest.importorskip("onnx", reason="edits a model by onnx")
    from tests.networks import clip_weights

    return clip_weights(models.find("gan_x2.int8"), tmp_path / "broken.int8.onnx")


def test_the_picture_is_the_same_everywhere() -> None:
    """Integer arithmetic gives the same bytes on every machine and with every NumPy."""
    found = picture(32, 32, 3)
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "85e499a84d9f5356"
    assert found.shape == (32, 32, 3)
    assert {0, 255} <= set(np.unique(found).tolist())
    assert picture(7, 5, 1).shape == (7, 5, 1)
    spread = positions(128 * 128 * 3)
    assert len(set(spread.tolist())) == SAMPLES
    assert spread.max() > 128 * 128 * 3 * 0.99
    assert positions(10).tolist() == [n * 2654435769 % 10 for n in range(10)]


def test_known_differences() -> None:
    """Equal pictures; one level everywhere, 48.13 dB; one sample that is far off."""
    wanted = np.full((16, 16, 3), 100, np.uint8)
    probe = Probe.of((8, 8), wanted, 48.0, 3)
    assert probe.compare(wanted) == Agreement(EQUAL_DB, 0)
    off = probe.compare(wanted + 1)
    assert off.psnr_db == pytest.approx(48.1308, abs=1e-4)
    assert off.max_lsb == 1
    assert probe.holds(off)
    spike = wanted.copy()
    spike.ravel()[positions(spike.size)[5]] = 104
    assert not probe.holds(probe.compare(spike))
    assert not probe.holds(Agreement(47.9, 1))
    # an untrusted manifest with more samples than the output must not crash
    assert probe.compare(wanted[:2, :2]) == Agreement(EQUAL_DB, 0)


def test_manifest_round_trip() -> None:
    """Every shipped file has a probe; an invalid probe is named in the error."""
    for name in models.shipped():
        manifest = read_manifest(models.find(name))
        assert manifest is not None
        assert manifest.probe is not None, name
        assert parse_manifest(manifest.to_json(), source="again") == manifest
        assert len(manifest.to_json()) < 4096
    first = read_manifest(models.find("gan_x2"))
    assert first is not None
    values = json.loads(first.to_json())
    good = values["probe"]
    fixed = json.dumps({**values, "size_px": [24, 24]})
    with pytest.raises(
        srsdk.ManifestError, match=r"probe.size_px is .* \(24, 24\), the file's only"
    ):
        parse_manifest(fixed, source="x")
    for wrong in (
        "abc",
        {**good, "samples": "?"},
        {**good, "samples": ""},
        {**good, "samples": 5},
        {**good, "size_px": [0, 8]},
        {**good, "size_px": 8},
        {**good, "max_lsb": 1.5},
        {**good, "more": 1},
        {name: value for name, value in good.items() if name != "min_psnr_db"},
    ):
        text = json.dumps({**values, "probe": wrong})
        with pytest.raises(srsdk.ManifestError, match="manifest field probe is"):
            parse_manifest(text, source="x")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [n for n in models.shipped() if not n.endswith(".gpu")])
def test_shipped_files_pass_on_this_machine(name: str, backend: Backend) -> None:
    """They pass on any processor."""
    try:
        up = srsdk.Upscaler(name, backend=backend, self_test=False)
    except srsdk.ModelError as error:
        pytest.skip(f"{backend} refuses {name} on this processor: {error}")
    with up:
        agreement = up.self_test()
    assert agreement is not None
    if up.manifest.precision == "fp32":
        assert agreement.max_lsb <= 1


def test_runs_once_per_file_and_machine(
    cache: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second open runs no probe; another file, backend or version runs it again."""
    for _ in range(2):
        srsdk.Upscaler("gan_x2", backend="onnxruntime", precision="fp32").close()
        monkeypatch.setattr(self_test, "_passed", set())
    assert runs == ["cpu"]
    (remembered,) = cache.glob("self-test-*.json")
    content = user_cache.load(remembered)
    assert content is not None
    assert json.loads(content)["file"] == "gan_x2.onnx"
    srsdk.Upscaler("gan_x2", backend="openvino", precision="fp32").close()
    srsdk.Upscaler("gan_x2.fp16", backend="onnxruntime").close()
    assert len(runs) == 3
    monkeypatch.setattr(self_test, "library_version", lambda _: "another")
    srsdk.Upscaler("gan_x2", backend="onnxruntime", precision="fp32").close()
    assert len(runs) == 4
    assert all(path.name.startswith("self-test-") for path in cache.iterdir() if path.is_file())


def test_one_argument_turns_it_off(cache: Path, runs: list[str], damaged: Path) -> None:
    """Nothing is computed and nothing is written."""
    srsdk.Upscaler(damaged, self_test=False).close()
    assert runs == []
    assert not cache.exists()


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The file opens, the process remembers the pass, and a log line gives the reason."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "file"))
    caplog.set_level(logging.INFO, "srsdk")
    for _ in range(2):
        srsdk.Upscaler("gan_x2", backend="onnxruntime", precision="fp32").close()
    assert len(runs) == 1
    assert "self-test of gan_x2.onnx is not remembered" in caplog.text


def test_a_user_without_a_home_directory(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: each process runs the test, without errors."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    for name in ("SRSDK_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for _ in range(2):
        monkeypatch.setattr(self_test, "_passed", set())
        srsdk.Upscaler("gan_x2", backend="onnxruntime", precision="fp32").close()
    assert len(runs) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"key": 1}', b'{"key": "other"}', b"null"])
def test_only_the_pass_of_this_file_counts(
    cache: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A record of something else, whole as it may be, does not replace the test."""
    srsdk.Upscaler("gan_x2", backend="onnxruntime", precision="fp32").close()
    (remembered,) = cache.glob("self-test-*.json")
    user_cache.store(remembered, content)
    monkeypatch.setattr(self_test, "_passed", set())
    srsdk.Upscaler("gan_x2", backend="onnxruntime", precision="fp32").close()
    assert len(runs) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_with_wrong_results(damaged: Path, cache: Path, backend: Backend) -> None:
    """Every open raises the error with figures and a command; `except ModelError` catches it."""
    for _ in range(2):
        try:
            with pytest.raises(
                srsdk.SelfTestError,
                match=r"broken.* \d+\.\d dB and \d+ levels .* expected .* srsdk doctor",
            ):
                srsdk.Upscaler(damaged, backend=backend)
        except srsdk.ModelError as error:
            pytest.skip(f"{backend} refuses the file on this processor: {error}")
    assert not list(cache.glob("self-test-*"))
    assert issubclass(srsdk.SelfTestError, srsdk.ModelError)


def test_tune_rejects_a_file_that_fails(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rejected however fast it is."""
    whole = tmp_path / "broken.onnx"
    whole.write_bytes(models.find("gan_x2").read_bytes())
    monkeypatch.setattr(trials, "TILE_SIDES_PX", (64,))
    monkeypatch.setattr(trials, "PROBE_PX", (48, 64))
    monkeypatch.setattr(trials, "RUNS", 1)
    choice = trials.tuned(whole, backend="onnxruntime", threads=1)
    (int8,) = [trial for trial in choice.trials if trial.name == "int8"]
    assert not int8.passed
    assert "gives wrong results on this machine" in int8.why
    assert choice.file == "broken.onnx"
    with pytest.raises(srsdk.SelfTestError):
        trials.tuned(damaged, backend="onnxruntime", threads=1)
    folder = user_cache.folder()
    assert folder is not None
    assert len(list(folder.glob("tune-*.json"))) == 1


def test_doctor_reports_failing_files(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports how many files pass and which one fails, with a fix."""
    monkeypatch.setattr(models, "shipped", lambda: ["gan_x2.int8"])
    good = doctor._self_test("onnxruntime")
    assert good is not None
    assert good.works
    assert "1 shipped files pass" in good.found
    monkeypatch.setattr(models, "locate", lambda *_: Located(damaged))
    bad = doctor._self_test("onnxruntime")
    assert bad is not None
    assert not bad.works
    assert "broken.int8.onnx gives wrong results on this machine" in bad.found
    assert bad.fix


def test_doctor_reports_what_was_not_run(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that fails the self-test is not reported as refused by the backend."""
    monkeypatch.setattr(models, "shipped", lambda: ["gan_x2", "gone"])
    line = doctor._self_test("onnxruntime")
    assert line is not None
    assert line.works
    assert "not run: gone (" in line.found
    monkeypatch.setattr(models, "find", lambda _: damaged)
    assert doctor._refusal("gan_x2", "onnxruntime") == ""


def test_files_without_a_probe_are_accepted(tmp_path: Path, runs: list[str]) -> None:
    """Foreign files have no probe, and a mix of two files was never measured."""
    onnx = pytest.importorskip("onnx", reason="edits a model by onnx")
    model = onnx.load(models.find("gan_x2"))
    values = json.loads(model.metadata_props[0].value)
    assert model.metadata_props[0].key == METADATA_KEY
    model.metadata_props[0].value = json.dumps({**values, "probe": None})
    onnx.save(model, tmp_path / "mine.onnx")
    with srsdk.Upscaler(tmp_path / "mine.onnx", backend="onnxruntime") as up:
        assert up.self_test() is None
    srsdk.Upscaler("gan_x2", texture=0.5, backend="onnxruntime").close()
    assert runs == []


class FakeGpuEngine:
    """Pretends that an engine runs on a GPU."""

    def __init__(self, engine: Any, device: str) -> None:
        self.engine, self.device, self.backend = engine, device, "onnxruntime"
        self.profiles, self.few_shapes = ((4, 32, 32), (1, 64, 64)), False
        self.signature = engine.signature

    def slot(self, shape: tuple[int, ...]) -> Any:
        """Accept only the shapes of its profiles."""
        assert shape in ((4, 32, 32, 3), (1, 64, 64, 3))
        return self.engine.slot(shape)


def test_runs_once_per_process_on_each_gpu(cache: Path, runs: list[str]) -> None:
    """A pass on a GPU is not cached on disk; the probe uses the batch of its profile."""
    from srsdk.engines.multi_gpu import MultiGpuEngine
    from srsdk.engines.select import open_engine

    path = models.find("gan_x2")
    manifest = read_manifest(path)
    assert manifest is not None
    engine = open_engine(path, "onnxruntime")
    both: Any = MultiGpuEngine([FakeGpuEngine(engine, f"cuda:{n}") for n in range(2)])  # type: ignore[misc]
    for _ in range(2):
        self_test.check_once(path, both, manifest)
    assert runs == ["cuda:0", "cuda:1"]
    assert not cache.exists()
    engine.close()


def test_bfloat16_has_its_own_limits() -> None:
    """bfloat16 cannot meet the limit of float32, 2 levels."""
    probe = Probe.of((8, 8), np.zeros((8, 8, 3), np.uint8), 55.0, 2)
    assert self_test._in_precision(probe, "auto") == probe
    loose = self_test._in_precision(probe, "bf16")
    assert (loose.min_psnr_db, loose.max_lsb) == (45.0, 12)
    assert dataclasses.replace(loose, min_psnr_db=55.0, max_lsb=2) == probe


def test_the_gpu_form_is_rejected_on_a_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every way to open it gives an error with the name of the right file."""
    for backend in (*BACKENDS, "auto"):
        with pytest.raises(srsdk.UsageError, match=r"INT8 form for GPUs.* open gan_x2\.int8, "):
            srsdk.Upscaler("gan_x2.int8.gpu", backend=backend)
    with pytest.raises(srsdk.UsageError, match="INT8 form for GPUs"):
        srsdk.Upscaler("gan_x2.int8.gpu", tune=True)
    Path(tmp_path / "a.png").touch()
    call = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model"]
    assert main([*call, "gan_x2.int8.gpu"]) != 0
    assert "open gan_x2.int8, " in capsys.readouterr().err
