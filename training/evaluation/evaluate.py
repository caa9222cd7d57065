"""Score networks on pairs of low-resolution pictures and ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from training.data.color import with_luma
from training.data.pictures import Pair
from training.data.resize import Picture, imresize
from training.evaluation.metrics import psnr_y, ssim_y

Upscale = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Score:
    """Means over one folder."""

    psnr_y_db: float
    """PSNR on luma, dB."""
    ssim_y: float
    """Structural similarity on luma."""

    def __str__(self) -> str:
        return f"{self.psnr_y_db:.2f} dB / {self.ssim_y:.4f}"


def score(upscale: Upscale, pairs: Sequence[Pair], scale: int) -> Score:
    """Upscale every low-resolution picture and compare it with its truth."""
    results = [(upscale(pair.lr), pair.hr) for pair in pairs]
    return Score(
        float(np.mean([psnr_y(sr, hr, border_px=scale) for sr, hr in results])),
        float(np.mean([ssim_y(sr, hr, border_px=scale) for sr, hr in results])),
    )


def bicubic(scale: int) -> Upscale:
    """Return MATLAB's bicubic upscaler."""
    return lambda lr: imresize(lr, scale)


def pad_to(picture: Picture, multiple: int) -> Picture:
    """Return a copy, mirror-padded at the bottom and right to multiples of `multiple` px."""
    bottom, right = (-side % multiple for side in picture.shape[:2])
    return np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="reflect")


def network(net: nn.Module, levels: tuple[float, float] | None = None) -> Upscale:
    """Return an upscaler that runs `net` on one whole picture, uint8 in and out.

    Pictures are mirror-padded to the net's `multiple_px`, as in srsdk. If the net returns a tuple,
    its first item is the picture. If it takes luma only, color is enlarged bicubically. `levels`
    are told to an autoencoder that takes them (`training.networks.autoencoder`).
    """
    multiple = int(getattr(net, "multiple_px", 1))
    device = next(net.parameters()).device

    @torch.no_grad()
    def upscale(lr: Picture) -> Picture:
        # always a copy: pictures may be read-only, and torch warns of tensors that are
        x = torch.from_numpy(pad_to(lr, multiple)).to(device).permute(2, 0, 1)[None].float() / 255.0
        result = net(x) if levels is None else net(x, x.new_tensor(levels))
        picture = result[0] if isinstance(result, tuple) else result
        height, width = (side * picture.shape[-1] // x.shape[-1] for side in lr.shape[:2])
        y = picture[0, :, :height, :width].permute(1, 2, 0)
        sr: Picture = (y.clamp(0, 1) * 255.0).round().to(torch.uint8).cpu().numpy()
        return sr

    if getattr(net, "colors", 3) == 1:
        return lambda lr: with_luma(upscale, lr)
    return upscale
