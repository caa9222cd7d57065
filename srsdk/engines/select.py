"""Choose a backend and open a model file with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from srsdk.engines.accelerators.spelling import Accelerator
from srsdk.engines.backends import ALL_BACKENDS, BACKENDS, installed
from srsdk.engines.protocol import Engine
from srsdk.errors import BackendError, UsageError
from srsdk.manifest import Manifest

log = logging.getLogger("srsdk")


def choose_backend(backend: str, *, on_gpu: bool = False, is_engine: bool = False) -> str:
    """Resolve `auto` to a backend, or check that the named backend can be used.

    Raises:
        UsageError: an unknown backend, or one that does not fit the file or device.
        BackendError: the backend is not installed.
    """
    if backend != "auto" and backend not in ALL_BACKENDS:
        raise UsageError(f"backend {backend!r} is not one of auto, {', '.join(ALL_BACKENDS)}")
    if is_engine or backend == "tensorrt":
        if not is_engine:
            raise UsageError(
                "backend tensorrt takes .engine files; to build one, in a checkout of srsdk: "
                "python -m export SOURCE -o FOLDER --precision fp16 --target rtx"
            )
        if backend not in ("auto", "tensorrt"):
            raise UsageError(f"an .engine file needs backend 'tensorrt', got {backend!r}")
        return "tensorrt"
    if on_gpu:
        if backend == "openvino":
            raise UsageError("backend openvino runs on CPUs; on a GPU: backend='onnxruntime'")
        if not installed("onnxruntime"):
            raise BackendError("onnxruntime is not installed: pip install 'srsdk[cuda]'")
        return "onnxruntime"
    return _choose_for_cpu(backend)


def _choose_for_cpu(backend: str) -> str:
    if backend == "auto":
        found = [name for name in BACKENDS if installed(name)]
        if not found:
            raise BackendError("no engine is installed: pip install 'srsdk[cpu]'")
        log.info("backend auto: %s on cpu (installed: %s)", found[0], ", ".join(found))
        return found[0]
    if not installed(backend):
        raise BackendError(f"backend {backend} is not installed: pip install 'srsdk[cpu]'")
    return backend


def open_engine(
    path: Path,
    backend: str,
    *,
    gpus: Sequence[int] = (),
    accelerator: Accelerator | None = None,
    threads: int | None = None,
    streams: int = 1,
    max_memory: int | None = None,
    precision: str = "auto",
    graph: bytes | None = None,
    allow_fallback: bool = False,
    cache: bool = True,
) -> Engine:
    """Open a model file with a backend that `choose_backend` returned.

    Args:
        path: an `.onnx` or `.engine` file.
        backend: name of the backend.
        gpus: indexes of the GPUs; empty: the CPU.
        accelerator: what `choose_accelerator` returned; None: the CPU or `gpus`.
        threads: total threads of a CPU backend; None: the backend decides.
        streams: tiles computed at the same time on a CPU, each with its share of the threads.
        max_memory: device memory in bytes that it may use on each GPU; None: no limit.
        precision: `auto`: the precision of the file; `bf16`: OpenVINO runs a float32 file in
            bfloat16, if the processor supports it.
        graph: ONNX bytes to open instead of the file's content: a form derived from it.
        allow_fallback: the user named no backend: on a CPU, if this backend refuses the file, open
            it with the other one and log that.
        cache: keep what OpenVINO compiles in the user's cache folder (`SRSDK_CACHE`).

    Raises:
        UsageError: `bf16` with another backend.
        ModelError: the library cannot read the file, or cannot run it on this machine.
        EngineMismatch: a TensorRT engine that cannot run here.
        BackendError: no GPU, or the GPU libraries cannot be loaded.
    """
    if precision != "auto" and (gpus or backend != "openvino"):
        raise UsageError(f"precision={precision!r} needs backend='openvino', got {backend!r}")
    if accelerator is not None:
        return _open_on_accelerator(path, accelerator, threads, streams, graph)
    if gpus:
        return _open_on_gpus(path, backend, gpus, max_memory, graph)
    from srsdk.engines.cpu import open_on_cpu

    return open_on_cpu(
        path,
        backend,
        allow_fallback=allow_fallback,
        threads=threads,
        streams=streams,
        precision=precision,
        graph=graph,
        cache=cache,
    )


def _open_on_gpus(
    path: Path,
    backend: str,
    gpus: Sequence[int],
    max_memory: int | None,
    graph: bytes | None,
) -> Engine:
    from srsdk.engines.multi_gpu import open_on_each

    if backend == "tensorrt":
        from srsdk.engines.tensorrt import open_tensorrt

        return open_on_each(lambda gpu: open_tensorrt(path, gpu, max_memory=max_memory), gpus)
    from srsdk.engines.onnxruntime_cuda import open_onnxruntime_cuda

    return open_on_each(
        lambda gpu: open_onnxruntime_cuda(path, gpu, max_memory=max_memory, graph=graph), gpus
    )


def _open_on_accelerator(
    path: Path, accelerator: Accelerator, threads: int | None, streams: int, graph: bytes | None
) -> Engine:
    if accelerator.provider:
        from srsdk.engines.accelerators.provider_engine import ProviderEngine

        return ProviderEngine(path, accelerator, threads=threads, graph=graph)
    from srsdk.engines.accelerators.openvino_engine import OpenVinoDeviceEngine

    return OpenVinoDeviceEngine(path, accelerator, threads=threads, streams=streams, graph=graph)


def refuse_gpu_form(path: Path, manifest: Manifest | None) -> None:
    """Reject the INT8 form for GPUs on a CPU, where its integers saturate or are emulated.

    Raises:
        UsageError: names the form for CPUs.
    """
    if manifest is not None and manifest.flavour == "gpu" and manifest.precision == "int8":
        name = path.name.replace(".int8.gpu", ".int8")
        raise UsageError(
            f"{path.name} is the INT8 form for GPUs, and this runs on a CPU: open "
            f"{name.removesuffix('.onnx')}, the form for CPUs of the same weights"
        )
