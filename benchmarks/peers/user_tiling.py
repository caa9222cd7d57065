"""PyTorch with Real-ESRGAN's tiling: tiles of 256 pixels with a border of 10.

Each tile is computed with the pixels around it, and its center is pasted into a float canvas.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.adapters import Job, Picture, Upscale
from benchmarks.peers.pytorch import Net, network, to_picture, to_tensor

TILE_PX, BORDER_PX, SCALE = 256, 10, 4


def open_it(job: Job) -> Upscale:
    """Open the network."""
    torch.set_num_threads(job.threads)
    net = network(job.weights)

    def upscale(lr: Picture) -> Picture:
        with torch.inference_mode():
            return to_picture(tiled(net, to_tensor(lr)))

    return upscale


def tiled(net: Net, x: Tensor) -> Tensor:
    """Compute tile by tile; (1, 3, H, W) to (1, 3, H * 4, W * 4)."""
    height, width = x.shape[2:]
    canvas = torch.zeros(1, 3, height * SCALE, width * SCALE)
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            bottom, right = min(top + TILE_PX, height), min(left + TILE_PX, width)
            y0, x0 = max(top - BORDER_PX, 0), max(left - BORDER_PX, 0)
            y1, x1 = min(bottom + BORDER_PX, height), min(right + BORDER_PX, width)
            large = net(x[:, :, y0:y1, x0:x1])
            rows = slice((top - y0) * SCALE, (bottom - y0) * SCALE)
            columns = slice((left - x0) * SCALE, (right - x0) * SCALE)
            canvas[:, :, top * SCALE : bottom * SCALE, left * SCALE : right * SCALE] = large[
                :, :, rows, columns
            ]
    return canvas
