"""What the sections of `gpu-check` need on a machine: each ingredient is there, or says why not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import srsdk
from benchmarks.gpu.job import SAMPLES, WEIGHTS, Setup
from srsdk.engines.cuda.device import Device

MODEL = "gan_x4"
FREE_BYTES = 200 << 20
"""For results and a training run's checkpoints."""
SAMPLE = SAMPLES / "astronaut.png"


def gpu() -> str | None:
    """Return why no GPU can be used; None: there is one. Loads the driver into the process."""
    try:
        Device(0)
    except srsdk.SrsdkError as error:
        return str(error)
    return None


def lacking(needs: tuple[str, ...], setup: Setup, *, on_gpu: bool) -> list[str]:
    """Return a reason for each missing ingredient.

    Args:
        needs: names of ingredients.
        setup: the arguments of the command.
        on_gpu: also require libraries to find the GPU; False: only that they are installed.
    """
    found = [INGREDIENTS[name](setup) for name in needs]
    reasons = [reason for reason in found if reason is not None]
    if on_gpu and not reasons and "torch-cuda" in needs:
        import torch

        if not torch.cuda.is_available():
            reasons.append(f"torch {torch.__version__} finds no GPU")
    return reasons


def sanitizer_path() -> Path | None:
    """Return compute-sanitizer: on PATH, under CUDA_HOME or CUDA_PATH, or beside nvcc."""
    on_path = shutil.which("compute-sanitizer")
    if on_path:
        return Path(on_path)
    homes = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    nvcc = shutil.which("nvcc")
    homes += [Path(nvcc).resolve().parents[1]] if nvcc else []
    for home in homes:
        for folder in ("bin", "compute-sanitizer"):
            found = shutil.which("compute-sanitizer", path=str(home / folder))
            if found:
                return Path(found)
    return None


def _module(name: str, fix: str) -> Callable[[Setup], str | None]:
    def check(_: Setup) -> str | None:
        if importlib.util.find_spec(name) is not None:
            return None
        return f"{name} is not installed: {fix}"

    return check


def _cuda_bindings(_: Setup) -> str | None:
    try:
        found = importlib.util.find_spec("cuda.bindings")
    except ModuleNotFoundError:  # there is no package `cuda` at all
        found = None
    return None if found else "cuda-bindings is not installed: pip install cuda-bindings"


def _torch_cuda(_: Setup) -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed: pip install torch"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    return None


def _onnxruntime_gpu(_: Setup) -> str | None:
    try:
        importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return "the GPU build of ONNX Runtime is not installed: pip install 'srsdk[cuda]'"
    return None


def _sanitizer(_: Setup) -> str | None:
    if sanitizer_path() is not None:
        return None
    return "compute-sanitizer is neither on PATH nor under CUDA_HOME: install the CUDA toolkit"


def _pictures(setup: Setup) -> str | None:
    return None if setup.pictures() else f"no pictures in {setup.data}: --data DIR"


def _engine(setup: Setup) -> str | None:
    if not setup.engines:
        return "no engine is given: --engine FILE"
    lost = [str(path) for path in setup.engines if not path.is_file()]
    return f"no such engine: {', '.join(lost)}" if lost else None


def _train_data(setup: Setup) -> str | None:
    if setup.train_data is None:
        return "no pictures to train on are given: --train-data DIR"
    needed = (setup.train_data, setup.recipe, setup.start_from, setup.teacher)
    lost = [str(path) for path in needed if path is not None and not path.exists()]
    return f"not found: {', '.join(lost)}" if lost else _safetensors(setup)


def _file(path: Path) -> Callable[[Setup], str | None]:
    return lambda _: None if path.is_file() else f"{path} is not there: use a complete checkout"


def _disk(setup: Setup) -> str | None:
    folder = next(path for path in (setup.out, *setup.out.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free >= FREE_BYTES:
        return None
    return f"{free >> 20} MiB are free at {folder}, expected {FREE_BYTES >> 20}: --out DIR"


_safetensors = _module("safetensors", "pip install safetensors")
_hypothesis = _module("hypothesis", "pip install hypothesis")
_pytest = _module("pytest", "pip install pytest")
_weights = _file(WEIGHTS / f"{MODEL}.safetensors")

INGREDIENTS: dict[str, Callable[[Setup], str | None]] = {
    "cuda-bindings": _cuda_bindings,
    "pytest": lambda setup: _pytest(setup) or _hypothesis(setup),
    "torch-cuda": _torch_cuda,
    "weights": lambda setup: _safetensors(setup) or _weights(setup),
    "cupy": _module("cupy", "pip install cupy-cuda13x"),
    "numba": _module("numba", "pip install numba-cuda"),
    "jax": _module("jax", "pip install 'jax[cuda13]'"),
    "onnxruntime-gpu": _onnxruntime_gpu,
    "pictures": _pictures,
    "sample": _file(SAMPLE),
    "sanitizer": _sanitizer,
    "engine": _engine,
    "train-data": _train_data,
    "disk": _disk,
}
"""Each returns why it is missing; None: it is there."""
