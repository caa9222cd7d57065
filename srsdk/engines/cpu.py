"""Open a model on the CPU with the chosen backend, or with the other one if it refuses."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from srsdk.engines.backends import BACKENDS, advice, installed
from srsdk.engines.protocol import Engine
from srsdk.errors import BackendError, ModelError

log = logging.getLogger("srsdk")


def open_on_cpu(
    path: Path,
    backend: str,
    *,
    allow_fallback: bool,
    threads: int | None,
    streams: int,
    precision: str,
    graph: bytes | None,
    cache: bool,
) -> Engine:
    """Open an `.onnx` file with a backend; see `open_engine`.

    Args:
        path: the file.
        backend: `openvino` or `onnxruntime`.
        allow_fallback: the user named no backend: if the library refuses the file on this machine,
            open it with the other backend and log that once.
        threads: see `open_engine`.
        streams: see `open_engine`.
        precision: see `open_engine`.
        graph: see `open_engine`.
        cache: see `open_engine`.

    Raises:
        ModelError: the library cannot read the file, or cannot run it on this machine.
        BackendError: this processor has no bfloat16.
    """
    opened = partial(
        _open,
        path,
        threads=threads,
        streams=streams,
        precision=precision,
        graph=graph,
        cache=cache,
    )
    try:
        return opened(backend)
    except ModelError as error:
        # without a cause the error is our own, and the other backend would raise it too; only one
        # backend supports bfloat16
        if error.__cause__ is None or precision != "auto":
            raise
        other = next(name for name in BACKENDS if name != backend)
        if not allow_fallback or not installed(other):
            raise ModelError(f"{error}; {advice(backend)}") from error.__cause__
        refusal = error
    try:
        engine = opened(other)
    except (ModelError, BackendError):
        raise refusal from refusal.__cause__
    log.warning("backend auto: %s; %s opens it instead", refusal, other)
    return engine


def _open(
    path: Path,
    backend: str,
    *,
    threads: int | None,
    streams: int,
    precision: str,
    graph: bytes | None,
    cache: bool,
) -> Engine:
    if backend == "openvino":
        from srsdk.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(
            path,
            threads=threads,
            streams=streams,
            precision=precision,
            graph=graph,
            cache=cache,
        )
    # ONNX Runtime prepares a shipped model in 8 ms, and in 5 from a file that it has prepared
    from srsdk.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads=threads, streams=streams, graph=graph)
