"""Check that every name that srsdk calls on a GPU library exists in the real library.

The fakes define all names that the runtime calls in the tests of slots and opening; these tests
look up each of them in the real modules.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from srsdk.engines.cuda import driver
from tests.fakes import tensorrt as faketrt


def names_of(kind: type) -> set[str]:
    """Return the public names of a fake class, or the members of an enumeration."""
    if issubclass(kind, enum.Enum):
        return set(kind.__members__)
    fields = {name for name in vars(kind) if not name.startswith("_")}
    source = inspect.getsource(kind)
    public = (line.split("self.")[1].split(":")[0].split(" ")[0] for line in source.splitlines()
              if line.strip().startswith("self.") and ": Any = None" in line)  # fmt: skip
    return fields | {name for name in public if not name.startswith("_")}


def test_the_names_of_the_driver_api(repository: Path) -> None:
    """Everything that srsdk takes from cuda-bindings exists in it, and is of the driver half.

    The runtime half of version 13 refuses drivers older than CUDA 13.
    """
    real = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")
    used = set()
    for path in sorted((repository / "srsdk" / "engines" / "cuda").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert "bindings.runtime" not in text
        assert "import runtime" not in text
        used |= set(re.findall(r"(?:_cuda|cuda|load\(\))\.(cu[A-Z]\w+|CU[A-Za-z_]\w+)", text))
    assert len(used) > 40
    assert used <= set(dir(real))


def test_without_a_driver() -> None:
    """One sentence with the fix, and the bindings import all the same."""
    pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")
    with contextlib.suppress(driver.NoDriverError):
        driver.device_count()
        pytest.skip("there is a GPU")
    words = r"^no CUDA driver on this machine \(.*install the NVIDIA driver, or use an \.onnx model"
    with pytest.raises(driver.NoDriverError, match=words):
        driver.device_count()


def test_the_names_of_tensorrt_rtx() -> None:
    """Classes, methods and members exist in the real module."""
    real = pytest.importorskip("tensorrt_rtx", reason="pip install 'srsdk[rtx]'")
    for kind in faketrt.make_module("rtx", None).classes:
        assert names_of(kind) <= set(dir(getattr(real, kind.__name__))), kind.__name__
    context = real.IRuntimeConfig
    for name in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
        assert isinstance(getattr(context, name), property)


def run_side_names() -> dict[str, set[str]]:
    """Return the names by class that running an engine of plain TensorRT uses."""
    classes = faketrt.make_module("tensorrt", None).classes
    found = {kind.__name__: names_of(kind) for kind in classes}
    # only TensorRT for RTX is configured
    found.pop("IRuntimeConfig", None)
    found["ICudaEngine"].discard("create_runtime_config")
    return found


def listing(version: str) -> dict[str, list[str]]:
    """Return the public names of each class of a version."""
    path = Path(__file__).with_name(f"tensorrt_{version}_names.json")
    names: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return names


def test_the_names_of_tensorrt() -> None:
    """The same for plain TensorRT, from a listing, because its wheel needs GPU libraries.

    The listing is `dir()` of each class of `tensorrt_bindings` 11.4.0.106 (PyPI wheel
    tensorrt-cu13-bindings), loaded with empty stubs of the libraries that it links.
    """
    if importlib.util.find_spec("tensorrt") is not None:
        import tensorrt

        real: dict[str, Any] = {name: dir(getattr(tensorrt, name)) for name in dir(tensorrt)}
    else:
        real = listing("11.4")
    for kind, used in run_side_names().items():
        assert used <= set(real[kind]), kind
    assert "create_runtime_cache" not in real["IRuntimeConfig"]
    assert "get_engine_validity" not in real["Runtime"]
    assert {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"} <= set(real["BuilderFlag"])


OLDER = {
    "10.0": {
        "get_device_memory_size_for_profile_v2": "get_device_memory_size_for_profile",
        "set_device_memory": "device_memory",
    },
    "10.3": {},
    "10.13": {},
    "10.16": {},
}
"""Versions that run engines, and what they have instead of the names that they lack."""


@pytest.mark.parametrize("version", OLDER)
def test_the_names_of_tensorrt_10(version: str) -> None:
    """TensorRT 10 has each name that running an engine uses, or the one that replaces it.

    The listings are of the wheels tensorrt-cu12-bindings 10.0.1, 10.3.0 (of JetPack 6), 10.13.3.9
    and tensorrt-cu13-bindings 10.16.1.11, loaded like the one of 11.4.
    """
    real = listing(version)
    lacking = {name for kind, used in run_side_names().items() for name in used - set(real[kind])}
    assert lacking == set(OLDER[version])
    for name in OLDER[version].values():
        assert name in real["ICudaEngine"] + real["IExecutionContext"]
    assert "engine_host_code_allowed" in real["Runtime"]


def test_the_names_of_onnxruntime() -> None:
    """Names of the GPU path that the other tests do not call for real."""
    import onnxruntime as ort

    assert callable(ort.preload_dlls)
    assert callable(ort.get_available_providers)
    assert "get_providers" in dir(ort.InferenceSession)
