"""Pictures in GPU memory: arrays and streams of other libraries, and srsdk's own array."""

from __future__ import annotations

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
    stream: int | None = None
    """The stream that the producer specifies; None: unspecified."""


class DeviceArray:
    """A picture on a GPU, allocated by srsdk: (H, W, 3) uint8, contiguous.

    Other libraries use it without a copy, through `__cuda_array_interface__` or DLPack:
    `torch.from_dlpack(array)`, `cupy.from_dlpack(array)`, `numba.cuda.as_cuda_array(array)`. The
    memory lives as long as this object or a tensor made from it; `close()` frees it at once.
    """

    def __init__(self, device: Device, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.dtype = "uint8"
        self._device = device
        with device.active():
            self._memory: Owned = device.allocate(shape[0] * shape[1] * shape[2])

    @property
    def address(self) -> int:
        """Address of the first pixel."""
        return self._memory.handle

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self.address, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._device.index

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        # the work that fills it was ordered before the caller's stream when it was returned
        return dlpack.lend(self.address, self.shape, self.__dlpack_device__(), self)

    def close(self) -> None:
        """Free the memory; safe to call again."""
        with self._device.active():
            self._memory.close()

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
        thing: has `__cuda_array_interface__` or `__dlpack__`.
        device: the GPU that will read or write it.
        stream: the stream on which it will be read or written.

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
    interface = getattr(thing, "__cuda_array_interface__", None)
    if interface is None:
        found = dlpack.borrow(thing, stream)
        return _picture(found.address, found.shape, found.strides, found.keeper, None)
    if interface["typestr"] != "|u1":
        raise PictureError(f"got an array of type {interface['typestr']}, {_EXPECTED}")
    shape = tuple(interface["shape"])
    strides = interface.get("strides") or dlpack.contiguous(shape)
    return _picture(interface["data"][0], shape, strides, thing, interface.get("stream"))


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
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], keeper: Any, stream: int | None
) -> DevicePicture:
    if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
        raise PictureError(f"got an array of shape {tuple(shape)}, {_EXPECTED}")
    height, width, channels = shape
    if (width > 1 and strides[1] != channels) or (channels > 1 and strides[2] != 1):
        raise PictureError(f"got an array of strides {tuple(strides)} bytes, {_EXPECTED}")
    pitch = strides[0] if height > 1 else width * channels
    if pitch < width * channels:
        raise PictureError(f"got an array of strides {tuple(strides)} bytes, {_EXPECTED}")
    return DevicePicture(address, height, width, channels, pitch, keeper, stream)
