"""Float32 form of a model, for pictures with more than 8 bits per channel."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

from srsdk.engines.protocol import Engine
from srsdk.errors import BackendError, PictureError
from srsdk.formats.onnx_rewrite import with_float_boundary
from srsdk.inference.slot_pool import SlotPool
from srsdk.inference.tensor_io import Boundary
from srsdk.manifest import Manifest


class Float32Form:
    """The same network with float32 input and output, opened when a picture first needs it.

    It is derived from the model file, or from the float32 file of the same weights if
    `precision="auto"` has opened INT8; so no other file needs to be shipped.
    """

    def __init__(
        self,
        path: Path,
        graph: bytes | None,
        manifest: Manifest,
        open_graph: Callable[[bytes], Engine],
        slots: int | None,
    ) -> None:
        """Store the arguments; `get` opens the model.

        Args:
            path: the file that it is derived from.
            graph: ONNX bytes opened instead of the file's content, or None.
            manifest: the file's manifest.
            open_graph: opens ONNX bytes as the Upscaler opened its own model.
            slots: slots for each input shape; None: as many as the engine wants.
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
            PictureError: an engine file, from which no float32 form can be derived.
            ModelError: a uint8 graph without srsdk's structure.
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
        """Release all resources; safe to call again."""
        with self._lock:
            self._closed = True
            if self._pool is not None and self._engine is not None:
                self._pool.close()
                self._engine.close()

    def _open(self) -> Engine:
        if self._path.suffix != ".onnx":
            raise PictureError(
                f"the picture has more than 8 bits a channel, but {self._path} accepts 8: use the "
                ".onnx file, or an engine built in a checkout of srsdk by `python -m export SOURCE "
                "--boundary float32`"
            )
        graph = with_float_boundary(self._graph or self._path.read_bytes())
        return self._open_graph(graph)
