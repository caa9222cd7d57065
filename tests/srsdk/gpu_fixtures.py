"""Fake engines, opened through the real opening code, memory layer and slots."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import srsdk
from srsdk import opening
from srsdk.engines import tensorrt_library
from srsdk.engines.cuda.engine import CudaEngine
from srsdk.engines.tensorrt import open_tensorrt
from srsdk.engines.tensorrt_library import Library, make_logger
from srsdk.manifest import Manifest
from tests.conftest import Picture
from tests.fakes import tensorrt
from tests.fakes.cuda import FakeRuntime, Op

PROFILE = (1, 32, 48)


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


def use_fakes(
    patch: pytest.MonkeyPatch, cuda: FakeRuntime, flavour: str = "tensorrt"
) -> ModuleType:
    """Replace the real library with the fake one, and return it."""
    module: Any = tensorrt.make_module(flavour, cuda)
    library = Library(flavour, module, module.__version__, make_logger(module))
    patch.setattr("srsdk.engines.plan_checks.open_library", lambda _: library)
    tensorrt_library.open_library.cache_clear()
    return module  # type: ignore[no-any-return]


def open_upscaler(
    patch: pytest.MonkeyPatch, path: Path, cuda: FakeRuntime, *, flavour: str = "tensorrt",
    compute_streams: int = 1, graphs: bool = True, **options: Any,
) -> srsdk.Upscaler:  # fmt: skip
    """Open an Upscaler on the fakes; all other code is real."""
    use_fakes(patch, cuda, flavour)

    def open_engine(
        path: Path, _: str, *, gpus: Any, max_memory: int | None = None, **__: Any
    ) -> CudaEngine:
        return open_tensorrt(
            path,
            gpus[0],
            runtime=cuda,
            compute_streams=compute_streams,
            graphs=graphs,
            max_memory=max_memory,
        )

    patch.setattr(opening, "open_engine", open_engine)
    return srsdk.Upscaler(path, **options)


class OnGpu:
    """An array of another library on the fake GPU, whose content arrives late on its stream."""

    def __init__(
        self, cuda: FakeRuntime, pixels: Picture, *, stream: int = 1, pitch: int = 0
    ) -> None:
        self.cuda, self.shape = cuda, pixels.shape
        line = pixels.shape[1] * pixels.shape[2]
        self.pitch = max(pitch, line)
        self.address = cuda.cudaMalloc(self.pitch * pixels.shape[0])[1]
        cuda.push(stream, Op(lambda: self.write(pixels)))

    def rows(self) -> Any:
        """The live memory."""
        line = self.shape[1] * self.shape[2]
        size = self.pitch * self.shape[0]
        return self.cuda.array(self.address, size).reshape(-1, self.pitch)[:, :line]

    def write(self, pixels: Picture) -> None:
        """Fill it."""
        self.rows()[:] = pixels.reshape(self.shape[0], -1)

    def read(self, stream: int = 1) -> Picture:
        """Return what a reader on a stream sees."""
        seen: list[Picture] = []
        self.cuda.push(stream, Op(lambda: seen.append(self.rows().copy())))
        self.cuda.cudaStreamSynchronize(stream)
        return seen[0].reshape(self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = (self.pitch, self.shape[2], 1)
        return {
            "shape": self.shape, "typestr": "|u1", "data": (self.address, False),
            "strides": strides, "stream": None, "version": 3,
        }  # fmt: skip
