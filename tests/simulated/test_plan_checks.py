"""Checks of engine files: every rejection, in order, before the library sees the bytes."""

from __future__ import annotations

import hashlib
import logging
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import srsdk
from srsdk.engines.cuda.device import Device
from srsdk.engines.cuda.driver import NoDriverError
from srsdk.engines.plan_checks import open_plan
from srsdk.engines.tensorrt_library import make_logger, open_library
from srsdk.formats.tensorrt_plan import hash_file
from srsdk.manifest import read_manifest
from tests.simulated.fixtures import use_fakes, write_engine
from tests.simulators.cuda import Simulator


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
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Manifest, flavour, version, SM, size, hash: of several faults the first is reported."""
    module = use_fakes(monkeypatch, gpu, "rtx")
    monkeypatch.setattr(module, "Runtime", None)  # nothing may be deserialized
    path = rtx_engine(tmp_path / "x.engine")
    told = []
    for fault in ("hash", "size", "sm", "driver", "version", "flavour", "manifest"):
        if fault == "sm":
            gpu.reset(sm=80)
            monkeypatch.setattr(module.ComputeCapability, "_member_map_", {"SM80": 1, "SM86": 2})
        elif fault == "driver":
            gpu.fail("cuInit", 1, 100)
        else:
            corrupt(path, fault)
        with pytest.raises(srsdk.ModelError) as error:
            open_plan(path, 0)
        assert "\n" not in str(error.value)
        told.append(str(error.value))
    kinds = ["damaged", "truncated", "8.6/8.9/12.0", "finds no GPU", "installed is 1.7.1.116"]
    kinds += ["'gpu'", "scale"]
    for text, kind in zip(told, kinds, strict=True):
        assert kind in text
    for text in (told[0], told[1], told[2], told[4]):
        assert "python -m export SOURCE" in text
        assert "--precision fp16 --target rtx --profiles 1x32x48" in text
    assert "--sm 80,86,89,120" in told[2]


def test_the_message_of_each_rejection(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was got, what was expected, and the command that fixes it."""
    module = use_fakes(monkeypatch, gpu, "rtx")
    path = rtx_engine(tmp_path / "x.engine")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(srsdk.EngineMismatch, match=f"{size:,} bytes expected, {size - 5:,} found"):
        open_plan(path, 0)
    path = rtx_engine(tmp_path / "x.engine")
    gpu.reset(sm=90)
    with pytest.raises(srsdk.EngineMismatch, match=r"SM 9\.0, which TensorRT for RTX 1\.7\.1\.116"):
        open_plan(path, 0)
    gpu.reset()
    module.validity = (2, 2)  # type: ignore[attr-defined]
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(unsupported cc\)"):
        open_plan(path, 0)
    module.validity = (2, 0)  # type: ignore[attr-defined]
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(no CUDA driver\)"):
        open_plan(path, 0)
    with pytest.raises(srsdk.UsageError, match="cuda:3 does not exist, this machine has cuda:0"):
        open_plan(path, 3)


def test_a_suboptimal_engine_or_a_missing_hash_still_opens(
    gpu: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first is logged as a warning, the second as an info line."""
    module = use_fakes(monkeypatch, gpu, "rtx")
    path = rtx_engine(tmp_path / "x.engine")
    hash_file(path).unlink()
    module.validity = (1, 0)  # type: ignore[attr-defined]
    with caplog.at_level(logging.INFO, "srsdk"):
        assert open_plan(path, 0).manifest == read_manifest(path)
    assert "reports it as suboptimal" in caplog.text
    assert "there is no x.engine.sha256" in caplog.text


@pytest.mark.parametrize(
    ("code", "version", "words"),
    [
        (100, 13000, r"the NVIDIA driver finds no GPU \(CUDA_ERROR_NO_DEVICE \(100\)\)"),
        (999, 13000, r"the CUDA driver does not start \(CUDA_ERROR_UNKNOWN \(999\)\): check nv"),
        (0, 11030, r"supports CUDA 11\.3, expected 11\.4 or newer: update the driver"),
    ],
)
def test_ways_of_having_no_gpu(
    gpu: Simulator, monkeypatch: pytest.MonkeyPatch, code: int, version: int, words: str
) -> None:
    """No GPU, a driver that does not start, an old one: each has its own message.

    A driver of CUDA 12 is new enough: only the driver half of the bindings is used.
    """
    monkeypatch.setenv("CUDA_SIMULATOR_DRIVER", str(version))
    if code:
        gpu.fail("cuInit", 1, code)
    with pytest.raises(NoDriverError, match=words):
        Device(0)
    monkeypatch.setenv("CUDA_SIMULATOR_DRIVER", "12040")
    assert Device(0).properties.driver == "12.4"


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
    stand_in.import_module = lambda _: SimpleNamespace(__version__="8.6.1")
    with pytest.raises(srsdk.EngineMismatch, match=r"tensorrt is 8\.6\.1, expected 10"):
        open_library("tensorrt")
    open_library.cache_clear()


def test_the_library_logs_to_python_logging(
    gpu: Simulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Severities become levels; the last errors are kept for the exception, without duplicates."""
    module: Any = use_fakes(monkeypatch, gpu, "rtx")
    log, severity = make_logger(module), module.ILogger.Severity
    with caplog.at_level(1, "srsdk"), log.lines.collect() as lines:
        log.log(severity.WARNING, "careful")
        log.log(severity.VERBOSE, "details")
        for index in range(20):
            log.log(severity.ERROR, f"fault {index}")
            log.log(severity.ERROR, "[checkMacros.cpp::catchCudaError::205] again")
    assert list(lines) == [f"fault {index}" for index in range(12, 20)]
    assert {record.levelname for record in caplog.records} == {"WARNING", "INFO", "Level 9"}
    assert "tensorrt_rtx: careful" in caplog.text
