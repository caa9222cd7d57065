"""Gaussian blur kernels in front of a reduction.

A kernel is described in pixels of the *high-resolution* picture. Low-resolution pixel i is centered
at (i + 0.5) * scale - 0.5, as in MATLAB's `imresize`, so a kernel moves nothing: an even scale has
kernels of an even side, centered between two pixels. A kernel that shrinks to a point keeps the
mean of the pixels next to that center, 2x2 at an even scale and one at an odd scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from training.data.resize import Picture

Plane = npt.NDArray[np.float64]

REACH = 3
"""Standard deviations after which a kernel is cut off."""


@dataclass(frozen=True)
class Kernel:
    """A Gaussian that may be longer along one direction."""

    sigma_px: tuple[float, float]
    """Standard deviations along the axis of `angle_deg` and across it, high-resolution pixels."""
    angle_deg: float = 0.0
    """Direction of the first axis, from the x axis (right) toward the y axis (down)."""

    def __str__(self) -> str:
        along, across = self.sigma_px
        return f"sigma {along:.2f} x {across:.2f} px at {self.angle_deg:.0f} degrees"

    def covariance(self) -> Plane:
        """Return the covariance, (2, 2), of x and y in square pixels."""
        angle = math.radians(self.angle_deg)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        found: Plane = turn @ np.diag(np.square(self.sigma_px)) @ turn.T
        return found


def from_covariance(covariance: Plane) -> Kernel:
    """Return the kernel of a (2, 2) covariance, the longer axis first, the angle from 0 to 180."""
    variances, axes = np.linalg.eigh(covariance)
    angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1])) % 180
    return Kernel((math.sqrt(variances[1]), math.sqrt(variances[0])), angle)


def taps(kernel: Kernel, scale: int) -> Plane:
    """Return the weights of a kernel, (side, side), which sum to 1; `side - scale` is even."""
    side = scale + 2 * math.ceil(REACH * max(kernel.sigma_px))
    axis = np.arange(side) - (side - 1) / 2
    offsets = np.stack(np.meshgrid(axis, axis), axis=-1)
    inverse = np.linalg.inv(kernel.covariance())
    q = np.einsum("yxi,ij,yxj->yx", offsets, inverse, offsets)
    # the nearest pixels of a very small kernel must not underflow
    weights: Plane = np.exp(-0.5 * (q - q.min()))
    weights /= weights.sum()
    return weights


def reduce(hr: Picture, weights: Plane, scale: int) -> Picture:
    """Blur a picture with the borders mirrored, and keep one pixel of `scale` along each axis.

    Args:
        hr: (H, W, 3) uint8, sides divisible by `scale`.
        weights: (side, side), of any shape, such as `taps`; `side - scale` is even.
        scale: factor of the reduction.

    Returns:
        (H / scale, W / scale, 3) uint8.
    """
    around = (weights.shape[0] - scale) // 2
    padded = np.pad(hr, ((around, around), (around, around), (0, 0)), mode="symmetric")
    x = torch.from_numpy(padded).permute(2, 0, 1)[:, None].float()
    # conv2d correlates: the kernel is turned by 180 degrees
    turned = torch.from_numpy(weights[::-1, ::-1].astype(np.float32))[None, None]
    made = F.conv2d(x, turned, stride=scale)[:, 0].permute(1, 2, 0)
    reduced: Picture = made.round().clamp(0, 255).to(torch.uint8).numpy()
    return reduced


def picture_of(kernel: Kernel, scale: int, enlarged: int = 16) -> Picture:
    """Return a kernel's weights as a gray picture, (side, side, 3) uint8, the largest one white."""
    weights = taps(kernel, scale)
    gray = np.round(weights / weights.max() * 255).astype(np.uint8)
    picture: Picture = gray.repeat(enlarged, 0).repeat(enlarged, 1)[..., None].repeat(3, axis=2)
    return picture
