"""The same weights in PyTorch on an NVIDIA GPU, in float16 with channels last."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from benchmarks.peers.adapters import Job, Picture, Upscale
from benchmarks.peers.pytorch import network

DEVICE = "cuda"


def eager(job: Job) -> Upscale:
    """Run the network eagerly."""
    return _Uint8(_half(job))


def torch_tensorrt(job: Job) -> Upscale:
    """Run the network through Torch-TensorRT, as a backend of `torch.compile`, for one size."""
    importlib.import_module("torch_tensorrt")  # registers the backend
    # the network's own float16, instead of what TensorRT would choose
    options: dict[str, Any] = {"use_explicit_typing": True}
    return _Uint8(torch.compile(_half(job), backend="tensorrt", dynamic=False, options=options))


def _half(job: Job) -> Any:
    net = network(job.weights).to(DEVICE, torch.float16)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class _Uint8:
    """Wrap a network for uint8 numpy pictures; they cross the bus as bytes."""

    def __init__(self, net: Any) -> None:
        self._net = net

    def __call__(self, lr: Picture) -> Picture:
        """Upscale (H, W, 3) uint8."""
        with torch.inference_mode():
            image = torch.from_numpy(lr).to(DEVICE).permute(2, 0, 1)[None]
            y = self._net(image.to(torch.float16) / 255)
            levels = (y * 255).clamp_(0, 255).round_().to(torch.uint8)
            result: Picture = levels[0].permute(1, 2, 0).contiguous().cpu().numpy()
            return result
