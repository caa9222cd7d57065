"""Check the installation: backends, GPUs, libraries and models, with a fix for each problem."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
from collections.abc import Iterable

import numpy as np

import srsdk
from srsdk import models
from srsdk.device_checks import Check, accelerators
from srsdk.engines.backends import BACKENDS, installed
from srsdk.engines.cuda.device import Device
from srsdk.errors import ModelError, SelfTestError, SrsdkError
from srsdk.options import Backend
from srsdk.system import user_cache
from srsdk.system.processor import processor

GPU_LIBRARIES = (
    ("cuda-bindings", "rtx", "memory, streams and graphs of every GPU engine"),
    ("tensorrt-rtx", "rtx", ".engine files on SM 7.5, 8.x and 12.x"),
    ("tensorrt", "tensorrt", ".engine files on the GPU that they were built on"),
    ("tensorrt-lean-cu13", "lean", ".engine files exported with --version-compatible"),
    ("onnxruntime-gpu", "cuda", ".onnx files on any GPU"),
)
"""Distribution, extra, and what it is used for."""
OTHER_LIBRARIES = (
    ("av", "video", "videos"),
    ("pyvips", "vips", "colors of more than 8 bits, and pictures larger than memory"),
    ("pillow-heif", "heif", "HEIC pictures, as phones write them"),
    ("pylibjxl", "jxl", "JPEG XL pictures"),
    ("fastapi", "http", "the server, srsdk serve"),
    ("shtab", "cli", "srsdk completion"),
)
ONNXRUNTIME_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-trt-rtx",
    "onnxruntime-webgpu",
)
"""Distributions with the same import package."""
SAME = {"pillow-heif": "pi-heif"}
"""Distributions that do the same."""


def examine() -> list[Check]:
    """Run all checks; each backend upscales a test picture."""
    return [
        Check("python", True, f"{platform.python_version()} on {platform.platform()}"),
        Check("srsdk", True, srsdk.__version__),
        *(Check(name, True, _version(name) or "?") for name in ("numpy", "pillow")),
        Check("cpu", True, f"{os.cpu_count()} logical cores, {processor()}"),
        *(_backend(name) for name in BACKENDS),
        *_self_tests(),
        *accelerators(),
        _cache(),
        *_gpus(),
        *_libraries(GPU_LIBRARIES),
        *_libraries(OTHER_LIBRARIES),
        _one_onnxruntime(),
        Check("models", bool(models.shipped()), f"{len(models.shipped())} files: srsdk models"),
    ]


def examine_model(model: str) -> list[Check]:
    """Open a model file in each installed backend on the CPU, upscale a picture and self-test it.

    Raises:
        ModelError: no such model.
    """
    models.find(model)
    return [_in_backend(model, backend) for backend in BACKENDS if installed(backend)]


def _in_backend(model: str, backend: Backend) -> Check:
    title = f"{model} in {backend}"
    try:
        with srsdk.Upscaler(model, backend=backend, device="cpu", self_test=False) as up:
            up(np.full((16, 24, 3), 128, np.uint8))
            agreement, m = up.self_test(), up.manifest
    except (SrsdkError, ImportError) as error:
        return Check(title, False, str(error), "use another backend: backend='...'")
    tested = f"self-test: {agreement}" if agreement else "no self-test in the file: srsdk adopt"
    form = ", ".join(f"{name} {text}" for name, text in m.io.items())
    return Check(title, True, f"x{m.scale} {m.precision}, {tested}" + (f"; {form}" if form else ""))


def can_upscale(checks: list[Check]) -> bool:
    """Return whether at least one backend works."""
    return any(check.works for check in checks if check.name.startswith("backend "))


def _backend(name: Backend) -> Check:
    title = f"backend {name}"
    if not installed(name):
        return Check(title, False, "not installed", "pip install 'srsdk[cpu]'")
    version = _version(name) or "version unknown"
    try:
        refused = {model: why for model in _tried() if (why := _refusal(model, name))}
    except SrsdkError as error:
        return Check(title, False, f"{version}, fails: {error}", f"pip install -U {name}")
    except ImportError as error:
        return Check(
            title, False, f"{version}, cannot be imported: {error}", f"pip install -U {name}"
        )
    ran = [model for model in _tried() if model not in refused]
    if not ran:
        return Check(title, False, f"{version}, fails: {', '.join(refused.values())}")
    but = (
        f"; refuses {', '.join(refused)}, which 'auto' opens with another backend"
        if refused
        else ""
    )
    return Check(title, True, f"{version}, ran {', '.join(ran)} on cpu{but}")


def _self_tests() -> list[Check]:
    """Run the self-test of every shipped CPU model in each backend that opens it."""
    found = [_self_test(backend) for backend in BACKENDS if installed(backend)]
    return [check for check in found if check is not None]


def _self_test(backend: Backend) -> Check | None:
    title = f"self-test {backend}"
    passed: list[tuple[float, str]] = []
    wrong, not_run = [], []
    for name in models.shipped():
        if name.endswith(".int8.gpu"):
            continue
        try:
            with srsdk.Upscaler(name, backend=backend, self_test=False) as up:
                agreement = up.self_test()
        except SelfTestError as error:
            wrong.append(str(error))
        except (SrsdkError, ImportError) as error:
            not_run.append(f"{name} ({error})")
        else:
            passed += [] if agreement is None else [(agreement.psnr_db, name)]
    if wrong:
        return Check(title, False, "; ".join(wrong), "use another backend: backend='...'")
    if not passed:
        # the backend's own check reports why nothing ran
        return None
    worst_db, worst = min(passed)
    found = (
        f"{len(passed)} shipped files pass; lowest PSNR against the float32 network: "
        f"{worst_db:.1f} dB ({worst})"
    )
    but = f"; not run: {'; '.join(not_run)}" if not_run else ""
    return Check(title, True, found + but)


def _cache() -> Check:
    """Check that what was measured on this machine is remembered."""
    if os.environ.get(user_cache.VARIABLE) == "":
        return Check("cache", True, f"off: {user_cache.VARIABLE} is empty")
    trouble = user_cache.trouble()
    if not trouble:
        return Check("cache", True, f"{user_cache.folder()}")
    found = f"{trouble}; each process repeats self-tests and tuning"
    return Check("cache", False, found, f"export {user_cache.VARIABLE}=FOLDER")


def _refusal(model: str, backend: Backend) -> str:
    """Upscale a picture; return why the backend cannot open the file here, or ""."""
    try:
        # the self-test check covers whether the result is right
        up = srsdk.Upscaler(model, backend=backend, self_test=False)
    except ModelError as error:
        return str(error)
    with up:
        up(np.full((16, 24, 3), 128, np.uint8))
    return ""


def _tried() -> list[str]:
    """Return the photograph models in float32 and INT8: the others take the same code paths."""
    names = [name for chain in models.DEFAULTS["photo"].values() for name in chain]
    return [name + form for name in names for form in ("", ".int8")]


def _gpus() -> list[Check]:
    """Query the driver: installed libraries do not prove that there is a GPU."""
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return [Check("gpu", False, f"no CUDA driver ({name} not found); the CPU is used")]
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return [Check("gpu", False, "the CUDA driver finds no usable device; the CPU is used")]
    if _version("cuda-bindings") is None:
        found = f"{count.value} CUDA device(s), which need cuda-bindings"
        return [Check("gpu", False, found, "pip install 'cuda-bindings>=12.9'")]
    try:
        devices = [Device(index) for index in range(count.value)]
        return [_gpu(device) for device in devices] or [Check("gpu", False, "no CUDA device")]
    except SrsdkError as error:
        return [Check("gpu", False, str(error))]


def _gpu(device: Device) -> Check:
    p = device.properties
    with device.active():
        free, total = device.memory()
    return Check(
        f"gpu {device.name}",
        True,
        f"{p.name}, SM {p.sm // 10}.{p.sm % 10}, {free >> 20:,} of {total >> 20:,} MiB free, "
        f"driver for CUDA {p.driver}",
    )


def _libraries(libraries: Iterable[tuple[str, str, str]]) -> list[Check]:
    """List libraries, installed or not; only a GPU can prove that those for GPUs work."""
    checks = []
    for name, extra, purpose in libraries:
        version = _version(name) or _version(SAME.get(name, name))
        fix = "" if version else f"pip install 'srsdk[{extra}]'"
        checks.append(
            Check(f"library {name}", bool(version), f"{version or 'not installed'}: {purpose}", fix)
        )
    return checks


def _one_onnxruntime() -> Check:
    """Check for two ONNX Runtime wheels: they share an import package, so the last one wins."""
    wheels = [name for name in ONNXRUNTIME_WHEELS if _version(name) is not None]
    if len(wheels) < 2:
        return Check("onnxruntime wheels", True, ", ".join(wheels) or "none")
    fix = f"pip uninstall -y {' '.join(wheels)} && pip install 'srsdk[cpu]'"
    return Check("onnxruntime wheels", False, f"{' and '.join(wheels)} overwrite each other", fix)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
