"""Pictures in GPU memory: arrays and streams of other libraries, and srsdk's own array."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from srsdk.engines.cuda import dlpack
from srsdk.engines.cuda.device import LEGACY_STREAM, Device, Owned
from srsdk.errors import PictureError, UsageError

_EXPECTED = "expected (H, W, 3) uint8 on the GPU, channels last, with contiguous pixels"


@dataclass(frozen=True)
class DevicePicture:
    """(H, W, C) uint8 on a GPU; rows may be padded, pixels are contiguous."""

    address: int
    """Address of the first pixel."""
    height: int
    """Rows."""
    width: int
    """Pixels per row."""
    channels: int
    """Bytes per pixel."""
    pitch_bytes: int
    """Bytes from one row to the next."""
    keeper: Any
    """Keeps the memory alive."""


class DeviceArray:
    """A picture on a GPU, allocated by srsdk: (H, W, 3) uint8, contiguous.

    Other libraries use it without a copy, through DLPack or `__cuda_array_interface__`:
    `torch.from_dlpack(array)`, `cupy.from_dlpack(array)`, `numba.cuda.as_cuda_array(array)`. Both
    order the reader's stream after the work that fills it. The memory lives as long as this object
    or a tensor made from it; `close()` frees it at once.

    Args:
        device: the GPU.
        shape: (height, width, channels).
        stream: the stream in whose order it is allocated and freed; an object of a library is
            kept, so that its stream exists until then.

    Raises:
        OutOfMemoryError: not enough device memory.
    """

    def __init__(self, device: Device, shape: tuple[int, int, int], stream: Any) -> None:
        self.shape = shape
        self.dtype = "uint8"
        self._device = device
        self._memory: Owned | None = None
        self._written: Owned | None = None
        self.stream: Any = stream
        """The stream of the last work that fills it."""
        # its stream must exist when the memory is freed, whoever writes later
        self._keeper = stream
        self._handle = self._writer = stream_handle(stream)
        self._is_shared = False
        with device.active():
            self._memory = device.allocate_on(self._handle, shape[0] * shape[1] * shape[2])
            self._written = device.event()

    @property
    def address(self) -> int:
        """Address of the first pixel."""
        if self._memory is None:
            raise UsageError("this array is closed")
        return self._memory.handle

    def written(self, stream: Any) -> None:
        """Note that all work that fills it has been enqueued on a stream. Needs `active`."""
        assert self._written is not None
        self.stream, self._writer = stream, stream_handle(stream)
        self._device.record(self._written.handle, self._writer)
        self._is_shared |= self._writer != self._handle

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # the reader may use it on any stream, after waiting for this one
        self._is_shared = True
        return {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self.address, False),
            "strides": None,
            "stream": self._writer,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._device.index

    def __dlpack__(
        self, *, stream: int | None = None, dl_device: tuple[int, int] | None = None,
        copy: bool | None = None, **_: Any,
    ) -> Any:  # fmt: skip
        """Export it; see https://data-apis.org/array-api/latest (`array.__dlpack__`).

        Args:
            stream: the reader's stream: 1 and 2 are the default ones, None is 1, -1: it orders its
                work itself.
            dl_device: where the reader wants it; only its own device.
            copy: True is refused.
        """
        if dl_device not in (None, self.__dlpack_device__()) or copy:
            raise BufferError(
                f"this array is on {self._device.name} and is exported without a copy, "
                f"got dl_device={dl_device} and copy={copy}"
            )
        address = self.address
        reader = LEGACY_STREAM if stream in (None, 0) else stream
        self._is_shared |= reader != self._handle
        if reader not in (-1, self._writer):
            assert self._written is not None
            with self._device.active():
                self._device.order(reader, self._written.handle)
        return dlpack.lend(address, self.shape, self.__dlpack_device__(), self)

    def close(self) -> None:
        """Free the memory in the order of its stream; safe to call again.

        If readers on other streams may still use it, it first waits for the GPU.
        """
        memory, written = self._memory, self._written
        self._memory = self._written = None
        if memory is None:
            return
        with self._device.releasing():
            if self._is_shared and self._device.is_usable:
                self._device.synchronize()
            memory.close()
            if written is not None:
                written.close()

    def __del__(self) -> None:
        # at process exit the driver may be gone, and nobody could catch an error
        with suppress(Exception):
            self.close()


def is_on_gpu(thing: Any) -> bool:
    """Return whether an object is an array on a GPU, from any library."""
    if isinstance(thing, (np.ndarray, Image.Image, str, type)):
        return False
    if hasattr(type(thing), "__dlpack_device__"):
        return int(thing.__dlpack_device__()[0]) in (dlpack.CUDA, dlpack.CUDA_MANAGED)
    try:
        # on a CPU tensor of torch, reading the attribute raises
        return getattr(thing, "__cuda_array_interface__", None) is not None
    except (AttributeError, TypeError, RuntimeError):
        return False


def borrow(thing: Any, device: Device, stream: int) -> DevicePicture:
    """View an array of any library as a picture.

    Args:
        thing: has `__dlpack__` or `__cuda_array_interface__`.
        device: the GPU that will read or write it.
        stream: the stream on which it will be read or written, after the work on it that its
            library has enqueued so far.

    Raises:
        PictureError: not (H, W, 1 or 3) uint8 with contiguous pixels, or on another GPU.
    """
    if hasattr(type(thing), "__dlpack_device__"):
        kind, index = (int(n) for n in thing.__dlpack_device__())
        if (kind, index) not in ((dlpack.CUDA, device.index), (dlpack.CUDA_MANAGED, device.index)):
            raise PictureError(
                f"the array is on device {index} of DLPack's kind {kind}, this runs on "
                f"{device.name}: copy it there, or open the model with its device"
            )
        # first, because torch's other interface names no stream
        found = dlpack.borrow(thing, stream)
        return _picture(found.address, found.shape, found.strides, found.keeper)
    interface = thing.__cuda_array_interface__
    if interface["typestr"] != "|u1":
        raise PictureError(f"got an array of type {interface['typestr']}, {_EXPECTED}")
    shape = tuple(interface["shape"])
    strides = interface.get("strides") or dlpack.contiguous(shape)
    picture = _picture(interface["data"][0], shape, strides, thing)
    if (producer := interface.get("stream")) not in (None, stream):
        _order(device, producer, stream)
    return picture


def _order(device: Device, producer: int, stream: int) -> None:
    """Make a stream wait for the one that a producer works on."""
    event = device.event()
    try:
        device.record(event.handle, producer)
        device.order(stream, event.handle)
    finally:
        event.close()


def current_stream(thing: Any) -> Any:
    """Return the stream on which an array's library works now; None: its default stream.

    The `__cuda_array_interface__` of CuPy, Numba and srsdk names it; PyTorch has its own call.
    """
    if isinstance(thing, DeviceArray):
        return thing.stream
    if type(thing).__module__.partition(".")[0] == "torch":
        return sys.modules["torch"].cuda.current_stream(thing.device)
    return (getattr(thing, "__cuda_array_interface__", None) or {}).get("stream")


def stream_handle(stream: Any) -> int:
    """Return the handle of any library's stream.

    Args:
        stream: an integer handle; an object with `__cuda_stream__` (cuda.core, CuPy, torch); a
            torch (`cuda_stream`), PyCUDA (`handle`) or CuPy (`ptr`) stream; None: the default one.

    Raises:
        UsageError: none of these.
    """
    if stream is None:
        return LEGACY_STREAM
    if isinstance(stream, int) and not isinstance(stream, bool) and stream >= 0:
        return stream or LEGACY_STREAM
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        _, handle = protocol() if callable(protocol) else protocol
        return int(handle) or LEGACY_STREAM
    for name in ("cuda_stream", "handle", "ptr"):
        handle = getattr(stream, name, None)
        if isinstance(handle, int):
            return handle or LEGACY_STREAM
    raise UsageError(
        f"stream is {stream!r}, expected an integer handle, or a stream of torch, CuPy, PyCUDA or "
        "cuda.core"
    )


def _picture(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], keeper: Any
) -> DevicePicture:
    if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
        raise PictureError(f"got an array of shape {tuple(shape)}, {_EXPECTED}")
    height, width, channels = shape
    if (width > 1 and strides[1] != channels) or (channels > 1 and strides[2] != 1):
        raise PictureError(f"got an array of strides {tuple(strides)} bytes, {_EXPECTED}")
    pitch = strides[0] if height > 1 else width * channels
    if pitch < width * channels:
        raise PictureError(f"got an array of strides {tuple(strides)} bytes, {_EXPECTED}")
    return DevicePicture(address, height, width, channels, pitch, keeper)
