"""The real TensorRT for RTX on a machine without a GPU, and what srsdk makes of its errors."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import srsdk
from srsdk.engines import plan_checks
from srsdk.engines.cuda import driver
from srsdk.engines.plan_checks import open_plan
from srsdk.engines.tensorrt_library import open_library


def has_gpu() -> bool:
    """Return whether the driver finds a GPU."""
    try:
        return driver.device_count() > 0
    except srsdk.SrsdkError:
        return False


pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="needs tensorrt-rtx: pip install 'srsdk[rtx]'",
    ),
    pytest.mark.skipif(has_gpu(), reason="tests the behavior without a GPU"),
]


def test_without_a_driver(real_engine: Path) -> None:
    """A valid engine: srsdk rejects it; the library reports (INVALID, 0) and loads None."""
    with pytest.raises(srsdk.EngineMismatch, match=r"needs a GPU: no CUDA driver"):
        srsdk.Upscaler(real_engine)
    library = open_library("rtx")
    trt = library.module
    runtime = library.runtime("x")
    assert runtime.engine_header_size == 64
    whole = real_engine.read_bytes()
    invalid = trt.EngineValidity.INVALID
    assert tuple(runtime.get_engine_validity(whole[:64])) == (invalid, 0)
    with pytest.raises(srsdk.BackendError, match=r"x: .*cudaError 35"):
        library.call("x", runtime.deserialize_cuda_engine, whole)


def test_garbage(real_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reports (INVALID, 32), and the error names the reason.

    Only the device is a stand-in: the library itself finds no driver.
    """
    here = SimpleNamespace(
        properties=SimpleNamespace(sm=89, name="GPU"), name="cuda:0", active=contextlib.nullcontext
    )
    monkeypatch.setattr(plan_checks, "Device", lambda _: here)
    library = open_library("rtx")
    trt: Any = library.module
    validity = library.runtime("x").get_engine_validity(b"garbage" * 10)
    assert tuple(validity) == (trt.EngineValidity.INVALID, 32)
    path = tmp_path / "bad.engine"
    content = real_engine.read_bytes()
    # the magic bytes are gone, but the manifest still has the flavour
    path.write_bytes(b"XXXX" + content[4:])
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(malformed engine\)"):
        open_plan(path, 0)
    path.write_bytes(content)
    with pytest.raises(srsdk.EngineMismatch, match=r"refuses it \(no CUDA driver\)"):
        open_plan(path, 0)
    path.write_bytes(content[:-1000])
    words = f"truncated: {len(content):,} bytes expected, {len(content) - 1000:,} found"
    with pytest.raises(srsdk.EngineMismatch, match=words):
        open_plan(path, 0)
