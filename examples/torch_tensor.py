"""Upscale a PyTorch tensor, on a CPU or without leaving the GPU: `python examples/torch_tensor.py`.

Networks hold (3, H, W) floats in 0..1, srsdk takes (H, W, 3).
"""

from __future__ import annotations

import torch
from torch.utils.dlpack import from_dlpack

import srsdk


def enlarged(up: srsdk.Upscaler, small: torch.Tensor) -> torch.Tensor:
    """Return (3, H * scale, W * scale) for a (3, H, W) float tensor in 0..1, on its device."""
    last = small.permute(1, 2, 0).contiguous()
    if small.is_cuda:  # 8 bits on a GPU, in the order of torch's current stream
        levels = (last * 255).round().to(torch.uint8)
        large = from_dlpack(up(levels, stream=torch.cuda.current_stream()))
        return large.permute(2, 0, 1).float() / 255
    return torch.from_numpy(up(last.numpy())).permute(2, 0, 1)  # float32 all the way


def main() -> None:
    """Upscale noise, on a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with srsdk.Upscaler("gan_x2", device=device) as up:
        large = enlarged(up, torch.rand(3, 40, 60, device=device))
    print(tuple(large.shape), large.device, large.dtype)


if __name__ == "__main__":
    main()
