"""The graph that is exported: uint8 NHWC in, the network, uint8 NHWC out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUT, OUTPUT = "image", "upscaled"
PROBE_PX = 129


class Uint8Graph(nn.Module):
    """Wrap a float NCHW network (0..1) so that its boundary is (N, H, W, 3) uint8.

    The order of the operations is TensorRT's rule: cast before transpose at the head, transpose
    before cast at the tail, clip and round before the cast (which truncates).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Upscale (N, H, W, 3) uint8 to (N, H * scale, W * scale, 3) uint8."""
        x = (image.to(torch.float32) / 255.0).permute(0, 3, 1, 2)
        y = self.network(x)
        levels = torch.round(torch.clamp(y * 255.0, 0.0, 255.0))
        return levels.permute(0, 2, 3, 1).to(torch.uint8)


@torch.no_grad()
def receptive_radius(network: nn.Module, scale: int, channels: int = 3) -> int:
    """Return how far, in input pixels, an output pixel can see.

    One input pixel is NaN, the others are 0. NaN survives every multiplication, addition and ReLU,
    so exactly those outputs are NaN that can depend on the pixel, whatever the weights are.

    Raises:
        ValueError: the network sees further than half of the probe (global context).
    """
    probe = torch.zeros(1, channels, PROBE_PX, PROBE_PX)
    centre = PROBE_PX // 2
    probe[:, :, centre, centre] = float("nan")
    touched = torch.isnan(network(probe)).any(dim=1)[0].nonzero() // scale
    reach = int((touched - centre).abs().max())
    if reach >= centre:
        raise ValueError(f"the network sees {reach} px or more: it has global context")
    return reach
