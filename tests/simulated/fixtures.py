"""Engines of a fake TensorRT, opened through the real opening code, memory layer and slots."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import srsdk
from srsdk import opening
from srsdk.engines import tensorrt_library
from srsdk.engines.cuda import dlpack
from srsdk.engines.cuda.device import Device
from srsdk.engines.cuda.engine import CudaEngine
from srsdk.engines.tensorrt import open_tensorrt
from srsdk.engines.tensorrt_library import Library, make_logger
from srsdk.manifest import Manifest
from tests.conftest import Picture
from tests.fakes import tensorrt
from tests.simulators.cuda import Simulator

PROFILE = (1, 32, 48)

_modules: list[Any] = []


def library_violations() -> list[str]:
    """Return what no correct program does with TensorRT, since the last time."""
    found = [text for module in _modules for text in module.violations]
    _modules.clear()
    return found


def write_engine(
    path: Path,
    *profiles: Any,
    flavour: str = "tensorrt",
    manifest: dict[str, Any] | None = None,
    plain: bool = False,
    **facts: Any,
) -> Path:
    """Write a fake plan, with an srsdk manifest unless `plain`."""
    profiles = profiles or (PROFILE,)
    body = tensorrt.plan(list(profiles), **facts)
    sizes = {(h, w) for _, h, w in profiles} if not plain else set()
    one = Manifest(
        name=path.stem,
        scale=facts.get("scale", 2),
        channels=3,
        radius_px=3,
        precision="fp16",
        flavour=flavour,
        profiles=() if plain else profiles,
        size_px=sizes.pop() if len(sizes) == 1 else None,
        library_version={"rtx": "1.7.1.116", "tensorrt": "11.4.0.106"}[flavour],
        sms=(86, 89, 120) if flavour == "rtx" else (),
        parity_of="graph",
        **(manifest or {}),
    )
    text = b"" if plain else one.to_json().encode()
    path.write_bytes(b"ptrt" + bytes(60) + text + bytes(40) + body + bytes(8))
    return path


def use_fakes(patch: pytest.MonkeyPatch, gpu: Simulator, flavour: str = "tensorrt") -> ModuleType:
    """Replace the real library with the fake one, and return it."""
    module: Any = tensorrt.make_module(flavour, gpu)
    _modules.append(module)
    library = Library(flavour, module, module.__version__, make_logger(module))
    patch.setattr("srsdk.engines.plan_checks.open_library", lambda _: library)
    tensorrt_library.open_library.cache_clear()
    return module  # type: ignore[no-any-return]


def open_upscaler(
    patch: pytest.MonkeyPatch, path: Path, gpu: Simulator, *, flavour: str = "tensorrt",
    compute_streams: int = 1, graphs: bool = True, **options: Any,
) -> srsdk.Upscaler:  # fmt: skip
    """Open an Upscaler on the fakes; all other code is real."""
    use_fakes(patch, gpu, flavour)

    def open_engine(
        path: Path, _: str, *, gpus: Any, max_memory: int | None = None, **__: Any
    ) -> CudaEngine:
        return open_tensorrt(
            path,
            gpus[0],
            compute_streams=compute_streams,
            graphs=graphs,
            max_memory=max_memory,
        )

    patch.setattr(opening, "open_engine", open_engine)
    return srsdk.Upscaler(path, **options)


class OnGpu:
    """An array of another library on the GPU, whose content arrives late on its stream."""

    def __init__(self, gpu: Simulator, pixels: Picture, *, stream: int = 1, pitch: int = 0) -> None:
        self.gpu, self.shape, self.stream = gpu, pixels.shape, stream
        line = pixels.shape[1] * pixels.shape[2]
        self.pitch = max(pitch, line)
        self._device = device = Device(0)
        with device.active():
            self._memory = device.allocate(self.pitch * pixels.shape[0])
            self.address = self._memory.handle
            content = pixels.copy()
            gpu.kernel(stream, lambda: self.write(content))

    def rows(self) -> Any:
        """The live memory."""
        line = self.shape[1] * self.shape[2]
        size = self.pitch * self.shape[0]
        return self.gpu.content(self.address, size).reshape(-1, self.pitch)[:, :line]

    def write(self, pixels: Picture) -> None:
        """Fill it, from a kernel."""
        self.rows()[:] = pixels.reshape(self.shape[0], -1)

    def read(self, stream: int = 1) -> Picture:
        """Return what a reader on a stream sees."""
        return read(self.gpu, self, stream)

    def close(self) -> None:
        """Free the memory."""
        with self._device.releasing():
            self._memory.close()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = (self.pitch, self.shape[2], 1)
        return {
            "shape": self.shape, "typestr": "|u1", "data": (self.address, False),
            "strides": strides, "stream": self.stream, "version": 3,
        }  # fmt: skip


class OnGpuByDlpack(OnGpu):
    """The same, of a library that also has DLPack and knows its stream; like PyTorch."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        device = Device(0)
        with device.active():
            event = device.event()
            device.record(event.handle, self.stream)
            device.order(stream or 1, event.handle)
            event.close()
        assert self.pitch == self.shape[1] * self.shape[2], "this export is contiguous"
        return dlpack.lend(self.address, self.shape, (dlpack.CUDA, 0), self)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # version 2 names no stream, and its readers do not wait
        return {**super().__cuda_array_interface__, "stream": None, "version": 2}


def read(gpu: Simulator, array: Any, stream: int = 1) -> Picture:
    """Return what a kernel on a stream sees of an array with `address` and `shape`."""
    seen: list[Picture] = []
    height, width, channels = array.shape
    pitch = getattr(array, "pitch", width * channels)

    def look() -> None:
        rows = gpu.content(array.address, pitch * height).reshape(height, pitch)
        seen.append(rows[:, : width * channels].copy())

    device = Device(0)
    with device.active():
        assert gpu.kernel(stream, look) == 0
        device.drain(stream)
    return seen[0].reshape(array.shape)
