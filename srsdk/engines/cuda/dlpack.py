"""Import and export DLPack tensors without any other library.

The structures are those of dlpack.h, version 0 of the Python protocol (`dltensor` capsules), which
every library accepts. https://dmlc.github.io/dlpack/latest/
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from srsdk.errors import PictureError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
_UNSIGNED = 1
_NAME = b"dltensor"


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("index", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    ]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_api = ctypes.pythonapi
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
# a destructor receives a capsule that is being freed: it must not take a reference to it
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)

_lent: dict[int, tuple[Any, ...]] = {}
"""Exported tensors that a consumer may still use, by the address of their structure."""


@dataclass(frozen=True)
class Borrowed:
    """A view of another library's tensor; valid as long as `keeper` lives."""

    address: int
    """Address of the first element."""
    shape: tuple[int, ...]
    """Shape in elements."""
    strides: tuple[int, ...]
    """Strides in elements, which are bytes here."""
    device: tuple[int, int]
    """Kind (2: CUDA) and index."""
    keeper: Any
    """Keeps the memory alive."""


def borrow(tensor: Any, stream: int | None) -> Borrowed:
    """View a tensor of any library without copying it.

    Args:
        tensor: has `__dlpack__` and `__dlpack_device__`.
        stream: the CUDA stream on which it will be read; the producer orders its work before it.
            None on a CPU.

    Raises:
        PictureError: its elements are not uint8.
    """
    capsule = tensor.__dlpack__() if stream is None else tensor.__dlpack__(stream=stream)
    found = _Managed.from_address(_api.PyCapsule_GetPointer(capsule, _NAME)).tensor
    kind = (found.dtype.code, found.dtype.bits, found.dtype.lanes)
    if kind != (_UNSIGNED, 8, 1):
        raise PictureError(
            f"got a tensor of {found.dtype.bits}-bit elements of DLPack's type "
            f"{found.dtype.code}, expected uint8"
        )
    shape = tuple(found.shape[i] for i in range(found.ndim))
    if found.strides:
        strides = tuple(found.strides[i] for i in range(found.ndim))
    else:
        strides = contiguous(shape)
    address = (found.data or 0) + found.byte_offset
    # the capsule is not consumed: its own destructor releases the tensor
    return Borrowed(address, shape, strides, (found.device.kind, found.device.index), capsule)


def lend(address: int, shape: tuple[int, ...], device: tuple[int, int], owner: Any) -> Any:
    """Export a contiguous uint8 tensor as a capsule; `owner` is kept alive until it is released."""
    sides = (ctypes.c_int64 * len(shape))(*shape)
    steps = (ctypes.c_int64 * len(shape))(*contiguous(shape))
    made = _Managed()
    made.tensor.data = address
    made.tensor.device = _Device(*device)
    made.tensor.ndim = len(shape)
    made.tensor.dtype = _DataType(_UNSIGNED, 8, 1)
    made.tensor.shape = ctypes.cast(sides, ctypes.POINTER(ctypes.c_int64))
    made.tensor.strides = ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64))
    made.deleter = _DELETER
    _lent[ctypes.addressof(made)] = (made, sides, steps, owner)
    return _api.PyCapsule_New(ctypes.addressof(made), _NAME, _DESTRUCTOR)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous array, in elements."""
    steps = [1]
    for side in reversed(shape[1:]):
        steps.append(steps[-1] * side)
    return tuple(reversed(steps))


def _delete(managed: Any) -> None:
    _lent.pop(ctypes.addressof(managed.contents), None)


def _destroy(capsule: int) -> None:
    # a consumed capsule has been renamed: its consumer calls the deleter
    if _is_valid(capsule, _NAME):
        _lent.pop(_pointer_of(capsule, _NAME), None)


_DELETER, _DESTRUCTOR = _Deleter(_delete), _Destructor(_destroy)
