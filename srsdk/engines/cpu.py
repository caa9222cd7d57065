"""The backends of the CPU: a file is opened by the chosen one, or by the other where it refuses."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from srsdk.engines import BACKENDS, Engine, installed
from srsdk.errors import BackendError, ModelError

log = logging.getLogger("srsdk")


def open_on_cpu(
    path: Path,
    backend: str,
    *,
    or_other: bool,
    threads: int | None,
    streams: int,
    precision: str,
    graph: bytes | None,
) -> Engine:
    """Open an `.onnx` file by a backend; see `open_engine`.

    Args:
        path: the file.
        backend: `openvino` or `onnxruntime`.
        or_other: the user named no backend: where the library refuses the file on this machine the
            other backend opens it, which is logged once.
        threads: as for `open_engine`, and so are the others.
        streams: see there.
        precision: see there.
        graph: see there.

    Raises:
        ModelError: the library cannot read the file, or cannot run it on this machine.
        BackendError: no bfloat16 here.
    """
    opened = partial(
        _open, path, threads=threads, streams=streams, precision=precision, graph=graph
    )
    try:
        return opened(backend)
    except ModelError as error:
        # without a cause it is our own refusal, which the other backend would repeat; bfloat16 is
        # a way of one backend only
        if error.__cause__ is None or precision != "auto":
            raise
        other = next(name for name in BACKENDS if name != backend)
        if not or_other or not installed(other):
            raise ModelError(f"{error}; {advice(backend)}") from error.__cause__
        refusal = error
    try:
        engine = opened(other)
    except (ModelError, BackendError):
        raise refusal from refusal.__cause__
    log.warning("backend auto: %s; %s opens it instead", refusal, other)
    return engine


def advice(backend: str) -> str:
    """Return what to try where a backend refuses a file."""
    other = next(name for name in BACKENDS if name != backend)
    return f"try backend={other!r} (--backend {other})"


def _open(
    path: Path,
    backend: str,
    *,
    threads: int | None,
    streams: int,
    precision: str,
    graph: bytes | None,
) -> Engine:
    if backend == "openvino":
        from srsdk.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(
            path, threads=threads, streams=streams, precision=precision, graph=graph
        )
    from srsdk.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads=threads, streams=streams, graph=graph)
