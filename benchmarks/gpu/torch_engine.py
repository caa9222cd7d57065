"""Run a PyTorch network in srsdk's slots, to test them on any GPU that PyTorch supports.

TensorRT for RTX does not support every GPU (not A100, H100, H200), and the GPU build of ONNX
Runtime is not always installed; memory, streams, events, graphs and slots are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srsdk.engines.cuda.compute_streams import ComputeStream, make_compute_streams
from srsdk.engines.cuda.device import Device
from srsdk.engines.cuda.engine import CudaEngine, failure
from srsdk.engines.protocol import Signature
from training import checkpoint, networks
from training.recipe.schema import recipe_from_dict

WEIGHTS = Path(__file__).parents[2] / "training" / "weights"


class Bytes(nn.Module):
    """(N, H, W, 3) uint8 to (N, H * scale, W * scale, 3) uint8 around a float NCHW network."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, image: Tensor) -> Tensor:
        """Upscale a batch."""
        y = self.network((image.to(self.dtype) / 255.0).permute(0, 3, 1, 2))
        levels: Tensor = (y * 255.0).clamp(0, 255).round()
        return levels.permute(0, 2, 3, 1).to(torch.uint8)


class Nearest(nn.Module):
    """Nearest-neighbor by two, whose correct result is known."""

    def forward(self, image: Tensor) -> Tensor:
        """Repeat each pixel in both directions."""
        return image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


def load(name: str, dtype: torch.dtype, device: str = "cuda") -> Bytes:
    """Load a trained network from `training/weights`."""
    tensors, facts = checkpoint.load(WEIGHTS / f"{name}.safetensors")
    net = networks.for_recipe(recipe_from_dict(facts["recipe"], source=name))
    net.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    net = networks.deployed(net).eval().to(device, dtype)
    return Bytes(net.to(memory_format=torch.channels_last), dtype).eval()  # type: ignore[call-overload]


class TorchNetwork:
    """A PyTorch module as srsdk's `Network`."""

    capturable = True
    few_shapes = False
    profiles: tuple[tuple[int, int, int], ...] = ()

    def __init__(self, module: Callable[[Tensor], Tensor]) -> None:
        self._module = module
        self.signature = Signature("uint8", (None, None, None, 3), (None, None, None, 3))

    def prepare(self, input_shape: tuple[int, ...], compute_stream: ComputeStream) -> TorchRun:
        """Run once to find the output shape."""
        stream = compute_stream.stream.handle
        with compute_stream.lock, torch.inference_mode(), _on(stream):
            try:
                shape = tuple(self._module(_zeros(input_shape)).shape)
            except torch.OutOfMemoryError as error:
                raise failure(f"CUDA out of memory: {error}") from error
        return TorchRun(self._module, input_shape, shape)

    def scratch_bytes(self, input_shape: tuple[int, ...]) -> int | None:
        """Return None: unknown."""
        return None

    def settled(self) -> None:
        """Do nothing: there is nothing to store."""

    def close(self) -> None:
        """Release PyTorch's cached memory."""
        torch.cuda.empty_cache()


class TorchRun:
    """One input shape at fixed addresses."""

    scratch_bytes = 0

    def __init__(self, module: Any, shape: tuple[int, ...], output: tuple[int, ...]) -> None:
        self._module, self._shape, self.output_shape = module, shape, output
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def bind(self, input_address: int, output_address: int, scratch_address: int) -> None:
        """View srsdk's memory as tensors."""
        self._input = as_tensor(input_address, self._shape)
        self._output = as_tensor(output_address, self.output_shape)

    def enqueue(self, stream: int) -> None:
        """Compute on the given stream."""
        try:
            with torch.inference_mode(), _on(stream):
                assert self._output is not None
                self._output.copy_(self._module(self._input))
        except RuntimeError as error:
            raise failure(f"PyTorch failed: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        """Drop the tensors."""
        self._input = self._output = None


def open_torch(
    module: Callable[[Tensor], Tensor], *, compute_streams: int = 1, graphs: bool = True
) -> CudaEngine:
    """Return an srsdk engine that runs a PyTorch module."""
    device = Device(0)
    made = make_compute_streams(device, compute_streams)
    return CudaEngine("torch", device, TorchNetwork(module), made, graphs=graphs)


def _on(stream: int) -> Any:
    return torch.cuda.stream(torch.cuda.ExternalStream(stream))  # type: ignore[no-untyped-call]


class _Memory:
    """Device memory in the form that `torch.as_tensor` accepts."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": "|u1", "data": (address, False), "version": 3,
        }  # fmt: skip


def as_tensor(address: int, shape: tuple[int, ...]) -> Tensor:
    """View uint8 device memory as a tensor."""
    return torch.as_tensor(_Memory(address, shape), device="cuda")


def _zeros(shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8, device="cuda")
