"""The second form of a model, for pictures of more than 8 bits."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

from srsdk.boundary import Boundary
from srsdk.engines import Engine
from srsdk.errors import BackendError, PictureError
from srsdk.graph_edit import with_float_boundary
from srsdk.manifest import Manifest
from srsdk.pool import SlotPool


class DeepTwin:
    """The same network behind a float32 boundary, opened when a picture first asks for it.

    It is derived from the file at hand, so it holds the same weights by construction, and nobody
    ships or names a second file.
    """

    def __init__(
        self,
        path: Path,
        graph: bytes | None,
        manifest: Manifest,
        open_graph: Callable[[bytes], Engine],
        slots: int | None,
    ) -> None:
        """Open nothing yet.

        Args:
            path: the model file.
            graph: what was opened instead of its bytes, or None.
            manifest: what it says of itself.
            open_graph: opens an ONNX model as the Upscaler's own was opened.
            slots: of each input shape; None: as many as the engine wants.
        """
        self._path = path
        self._graph = graph
        self._open_graph = open_graph
        self._slots = slots
        self._boundary = dataclasses.replace(Boundary.of(manifest), is_float=True)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._pool: SlotPool | None = None
        self._closed = False

    def get(self) -> tuple[Boundary, SlotPool]:
        """Return the boundary and the slots.

        Raises:
            PictureError: an engine file, from which no second form can be derived.
            ModelError: a uint8 graph that is not built as ours are.
            BackendError: closed.
        """
        with self._lock:
            if self._closed:
                raise BackendError("this Upscaler is closed")
            if self._pool is None:
                self._engine = self._open()
                self._pool = SlotPool(self._engine, self._slots)
            return self._boundary, self._pool

    def close(self) -> None:
        """Give everything back; harmless when repeated."""
        with self._lock:
            self._closed = True
            if self._pool is not None and self._engine is not None:
                self._pool.close()
                self._engine.close()

    def _open(self) -> Engine:
        if self._path.suffix != ".onnx":
            raise PictureError(
                f"the picture has more than 8 bits a channel and {self._path} takes 8: use the "
                ".onnx file, or an engine of `python -m export --boundary float32`"
            )
        graph = with_float_boundary(self._graph or self._path.read_bytes())
        return self._open_graph(graph)
