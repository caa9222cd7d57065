"""Checks of engine files: every rejection, in order, before the library sees the bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import srsdk
from srsdk.engines.plan_checks import open_plan
from srsdk.engines.tensorrt_library import make_logger, open_library
from srsdk.formats.tensorrt_plan import hash_file
from srsdk.manifest import read_manifest
from tests.fakes.cuda import CudaError, FakeRuntime
from tests.srsdk.gpu_fixtures import use_fakes, write_engine


@pytest.fixture
def cuda() -> FakeRuntime:
    """One GPU of SM 8.9."""
    return FakeRuntime(sm=89)


def rtx_engine(path: Path, **manifest: Any) -> Path:
    """Write an engine with a valid TensorRT for RTX header, size and hash file."""
    write_engine(path, flavour="rtx", manifest=manifest)
    content = path.read_bytes()[64:]
    head = struct.pack("<4s12xQ4B4xI28x", b"vtrt", 64 + len(content), 1, 7, 1, 116, 0b011100)
    path.write_bytes(head + content)
    line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    hash_file(path).write_text(line)
    return path


def corrupt(path: Path, what: str) -> None:
    """Corrupt one more thing, in reverse order of the checks."""
    content = path.read_bytes()
    if what == "hash":
        path.write_bytes(content[:-1] + b"!")
    elif what == "size":
        path.write_bytes(content[:-1000] if len(content) > 2000 else content[:-10])
    elif what == "version":
        path.write_bytes(content.replace(b"1.7.1.116", b"1.6.0.001"))
    elif what == "flavour":
        path.write_bytes(content.replace(b'"flavour":"rtx"', b'"flavour":"gpu"'))
    elif what == "manifest":
        path.write_bytes(content.replace(b'"scale":2', b'"scale":0'))


def test_each_check_comes_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: FakeRuntime
) -> None:
    """Manifest, flavour, version, SM, size, hash: of several faults the first is reported."""
    module = use_fakes(monkeypatch, cuda, "rtx")
    monkeypatch.setattr(module, "Runtime", None)  # nothing may be deserialized
    path = rtx_engine(tmp_path / "x.engine")
    told = []
    cuda_here = cuda
    for fault in ("hash", "size", "sm", "driver", "version", "flavour", "manifest"):
        if fault == "sm":
            cuda_here = FakeRuntime(sm=80)
            monkeypatch.setattr(module.ComputeCapability, "_member_map_", {"SM80": 1, "SM86": 2})
        elif fault == "driver":
            cuda_here = FakeRuntime(devices=0)
        else:
            corrupt(path, fault)
        with pytest.raises(srsdk.ModelError) as error:
            open_plan(path, 0, runtime=cuda_here)
        assert "\n" not in str(error.value)
        told.append(str(error.value))
    kinds = ["damaged", "truncated", "8.6/8.9/12.0", "no CUDA driver", "installed is 1.7.1.116"]
    kinds += ["'gpu'", "scale"]
    for text, kind in zip(told, kinds, strict=True):
        assert kind in text
    for text in (told[0], told[1], told[2], told[4]):
        assert "python -m export SOURCE" in text
        assert "--precision fp16 --target rtx --profiles 1x32x48" in text
    assert "--sm 80,86,89,120" in told[2]


def test_the_message_of_each_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: FakeRuntime
) -> None:
    """What was got, what was expected, and the command that fixes it."""
    module = use_fakes(monkeypatch, cuda, "rtx")
    path = rtx_engine(tmp_path / "x.engine")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(srsdk.EngineMismatch, match=f"{size:,} bytes expected, {size - 5:,} found"):
        open_plan(path, 0, runtime=cuda)
    path = rtx_engine(tmp_path / "x.engine")
    with pytest.raises(srsdk.EngineMismatch, match=r"SM 9\.0, which TensorRT for RTX 1\.7\.1\.116"):
        open_plan(path, 0, runtime=FakeRuntime(sm=90))
    module.validity = (2, 2)  # type: ignore[attr-defined]
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(unsupported cc\)"):
        open_plan(path, 0, runtime=cuda)
    module.validity = (2, 0)  # type: ignore[attr-defined]
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(no CUDA driver\)"):
        open_plan(path, 0, runtime=cuda)
    with pytest.raises(srsdk.UsageError, match="cuda:3 does not exist, this machine has cuda:0"):
        open_plan(path, 3, runtime=cuda)


def test_a_suboptimal_engine_or_a_missing_hash_still_opens(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: FakeRuntime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first is logged as a warning, the second as an info line."""
    module = use_fakes(monkeypatch, cuda, "rtx")
    path = rtx_engine(tmp_path / "x.engine")
    hash_file(path).unlink()
    module.validity = (1, 0)  # type: ignore[attr-defined]
    with caplog.at_level(logging.INFO, "srsdk"):
        assert open_plan(path, 0, runtime=cuda).manifest == read_manifest(path)
    assert "reports it as suboptimal" in caplog.text
    assert "there is no x.engine.sha256" in caplog.text


@pytest.mark.parametrize(
    ("version", "served", "words"),
    [
        (0, 35, "no CUDA driver on this machine"),
        (12040, 35, r"supports CUDA 12\.4, expected 13\.0 or newer .*: update the driver"),
        (13000, 100, "the NVIDIA driver finds no GPU"),
    ],
)
def test_three_ways_of_having_no_gpu(version: int, served: int, words: str) -> None:
    """No driver, an old driver, a driver without a GPU: each has its own message."""
    from srsdk.engines.cuda.device import Device

    cuda = FakeRuntime()
    error = CudaError(served)
    cuda.cudaGetDeviceCount = lambda: (error, None)  # type: ignore[method-assign]
    cuda.cudaDriverGetVersion = lambda: (CudaError.cudaSuccess, version)  # type: ignore[method-assign]
    with pytest.raises(srsdk.BackendError, match=words):
        Device(0, cuda)


def test_a_library_that_is_missing_or_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what built the engine and what to install."""
    path = rtx_engine(tmp_path / "x.engine")

    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    open_library.cache_clear()
    stand_in = SimpleNamespace(import_module=missing)
    monkeypatch.setattr("srsdk.engines.tensorrt_library.importlib", stand_in)
    with pytest.raises(
        srsdk.EngineMismatch,
        match=r"built by TensorRT for RTX 1\.7\.1\.116; .*pip install 'srsdk\[rtx\]'",
    ):
        open_plan(path, 0)
    stand_in.import_module = lambda _: SimpleNamespace(__version__="10.16.1")
    with pytest.raises(srsdk.EngineMismatch, match=r"tensorrt is 10\.16\.1, expected 11"):
        open_library("tensorrt")
    open_library.cache_clear()


def test_the_library_logs_to_python_logging(
    caplog: pytest.LogCaptureFixture, cuda: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Severities become levels; the last errors are kept for the exception, without duplicates."""
    module: Any = use_fakes(monkeypatch, cuda, "rtx")
    log, severity = make_logger(module), module.ILogger.Severity
    with caplog.at_level(1, "srsdk"):
        log.log(severity.WARNING, "careful")
        log.log(severity.VERBOSE, "details")
        for index in range(20):
            log.log(severity.ERROR, f"fault {index}")
            log.log(severity.ERROR, "[checkMacros.cpp::catchCudaError::205] again")
    assert list(log.errors) == [f"fault {index}" for index in range(12, 20)]
    assert {record.levelname for record in caplog.records} == {"WARNING", "INFO", "Level 9"}
    assert "tensorrt_rtx: careful" in caplog.text


needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs tensorrt-rtx: pip install 'srsdk[rtx]'",
)


def has_gpu() -> bool:
    """Return whether the driver finds a GPU."""
    from srsdk.engines.cuda import device as cuda

    try:
        return cuda.device_count(cuda.load_runtime()) > 0
    except srsdk.SrsdkError:
        return False


@needs_rtx
@pytest.mark.skipif(has_gpu(), reason="tests the behavior without a GPU")
def test_the_real_library_without_a_driver(
    real_engine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A valid engine: srsdk rejects it; the library reports (INVALID, 0) and loads None."""
    with pytest.raises(srsdk.EngineMismatch, match=r"needs a GPU: no CUDA driver"):
        srsdk.Upscaler(real_engine)
    library = open_library("rtx")
    trt = library.module
    runtime = trt.Runtime(library.logger)
    assert runtime.engine_header_size == 64
    whole = real_engine.read_bytes()
    invalid = trt.EngineValidity.INVALID
    assert tuple(runtime.get_engine_validity(whole[:64])) == (invalid, 0)
    library.logger.errors.clear()
    assert runtime.deserialize_cuda_engine(whole) is None
    assert "cudaError 35" in library.sentence("x")
    assert library.sentence("x") == "x: no reason given"


@needs_rtx
@pytest.mark.skipif(has_gpu(), reason="tests the behavior without a GPU")
def test_the_real_library_refuses_garbage(
    real_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library reports (INVALID, 32), and the error names the reason; on a fake GPU."""
    library = open_library("rtx")
    trt = library.module
    runtime = trt.Runtime(library.logger)
    validity = runtime.get_engine_validity(b"garbage" * 10)
    assert tuple(validity) == (trt.EngineValidity.INVALID, 32)
    path = tmp_path / "bad.engine"
    content = real_engine.read_bytes()
    # the magic bytes are gone, but the manifest still has the flavour
    path.write_bytes(b"XXXX" + content[4:])
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(malformed engine\)"):
        open_plan(path, 0, runtime=FakeRuntime(sm=89))
    path.write_bytes(content)
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(no CUDA driver\)"):
        open_plan(path, 0, runtime=FakeRuntime(sm=89))
    path.write_bytes(content[:-1000])
    words = f"truncated: {len(content):,} bytes expected, {len(content) - 1000:,} found"
    with pytest.raises(srsdk.EngineMismatch, match=words):
        open_plan(path, 0, runtime=FakeRuntime(sm=89))
