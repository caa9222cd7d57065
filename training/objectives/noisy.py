"""Learning to remove noise without clean pictures: from neighboring pixels, then from itself."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training import checkpoint, optimizers
from training.data.pictures import Batch
from training.objectives.ae import Restore
from training.recipe.schema import Recipe

PAIRS = ((0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2))
"""Pairs of neighbors in a cell of 2x2 pixels, numbered by rows."""
MAD_TO_SIGMA = 1 / 0.6745
"""A Gaussian's standard deviation over its median absolute deviation."""
SMALLEST_SIGMA = 1 / 255
TEACHER_DECAY = 0.99
"""Of the averaged weights that make the pictures of the second part."""


class Noisy(Restore):
    """Minimize E |m(g(f(y1))) - y2|^2, then E |g(f(x + n)) - x|^2 with x made by the network.

    First part: y1 and y2 are neighboring pixels of one noisy picture.

    Neighbor2Neighbor (Huang et al. 2021, arXiv:2101.02824): a noisy patch is cut into cells of 2x2
    pixels, and two neighbors of each cell make up two pictures of half the size with the same
    content and independent noise. The mean of the second is the clean picture, so that predicting
    it from the first is denoising. Their regularization, which changed nothing here, is left out.

    Files store noise cut off at 0 and 255, whose mean is not the clean value. m(x) is that mean,
    `clipped_mean`: with it the network learns x, which was worth a third of a dB.

    Second part (`noisy.self_training`): what the network has made of a noisy patch, reduced by 2,
    is sharp and has nearly no noise left. It is the truth x, and noise of the same strength, cut
    off as in a file, is added to it anew: the network sees pixels that are really neighbors, fresh
    noise in each step, and a truth without any. The weights that make x are an average of the
    first part's and stay as they are.

    `ae.loss`, `ae.fft` and `ae.luma` are not used.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._sigma = recipe.noisy.sigma / 255
        self._switch = max(1, round(recipe.steps * (1 - recipe.noisy.self_training)))
        self._teacher = copy.deepcopy(self.network).requires_grad_(requires_grad=False)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on noisy patches, `lr` (N, 3, P, P); `hr` is not looked at."""
        optimizers.set_learning_rate(self._optimizer, optimizers.learning_rate(self._recipe, step))
        noisy = batch.lr
        sigma = noise_sigma(noisy)
        if self._sigma:
            sigma = torch.full_like(sigma, self._sigma)
        if step < self._switch:
            first, second = neighbors(noisy)
            loss = F.mse_loss(clipped_mean(self.network(first), sigma), second)
        else:
            clean = self._cleaned(noisy)
            loss = F.mse_loss(self.network(renoised(clean, sigma)), clean)
        optimizers.descend(self._optimizer, self.network, loss, self._recipe.optimizer.clip_norm)
        if step < self._switch:
            optimizers.average(self._teacher, self.network, TEACHER_DECAY, step)
        return {"loss": loss.item()}

    @torch.no_grad()
    def _cleaned(self, noisy: Tensor) -> Tensor:
        """Return (N, 3, P / 2, P / 2): noisy patches, cleaned by the averaged weights."""
        # not `eval`: the mode would only turn bfloat16 off
        clean: Tensor = self._teacher(noisy).float().clamp(0, 1)
        return F.interpolate(clean, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, averaged weights and optimizer state."""
        return super().tensors() | checkpoint.prefixed("teacher", self._teacher.state_dict())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        super().restore(tensors)
        self._teacher.load_state_dict(checkpoint.without_prefix("teacher", tensors))


def neighbors(noisy: Tensor) -> tuple[Tensor, Tensor]:
    """Return two pictures of half the size, made of neighboring pixels; which, is random.

    Args:
        noisy: (N, C, H, W), H and W even.

    Returns:
        Both (N, C, H / 2, W / 2). All channels of a pixel stay together.
    """
    count, channels, height, width = noisy.shape
    cells = F.pixel_unshuffle(noisy, 2).view(count, channels, 4, height // 2, width // 2)
    drawn = torch.randint(len(PAIRS), (count, height // 2, width // 2))
    chosen = torch.tensor(PAIRS)[drawn].to(noisy.device)

    def pick(index: Tensor) -> Tensor:
        wanted = index[:, None, None].expand(-1, channels, 1, -1, -1)
        return cells.gather(2, wanted).squeeze(2)

    return pick(chosen[..., 0]), pick(chosen[..., 1])


def noise_sigma(noisy: Tensor) -> Tensor:
    """Return each picture's standard deviation of the noise, (N, 1, 1, 1), at least 1 level.

    Median absolute deviation of the finest diagonal Haar coefficients (Donoho and Johnstone 1994):
    edges have few of them; fine texture is taken for noise.

    Args:
        noisy: (N, C, H, W), 0..1, H and W even.
    """
    x = noisy.float()
    even, odd = x[..., ::2, :], x[..., 1::2, :]
    diagonal: Tensor = (even[..., ::2] - even[..., 1::2] - odd[..., ::2] + odd[..., 1::2]) / 2
    sigma = diagonal.abs().flatten(1).median(dim=1).values * MAD_TO_SIGMA
    found: Tensor = sigma.clamp_min(SMALLEST_SIGMA)[:, None, None, None]
    return found


def renoised(clean: Tensor, sigma: Tensor) -> Tensor:
    """Add Gaussian noise as it is in a file: cut off at 0 and 255, in whole levels.

    Args:
        clean: (N, C, H, W), 0..1.
        sigma: standard deviation of the noise, (N, 1, 1, 1).
    """
    noise = torch.randn(clean.shape).to(clean)
    noisy: Tensor = (clean + sigma * noise).clamp(0, 1).mul(255).round() / 255
    return noisy


def clipped_mean(clean: Tensor, sigma: Tensor) -> Tensor:
    """Return E[min(max(x + n, 0), 1)] for Gaussian n: the mean of the noisy pixel in a file.

    Args:
        clean: x, (N, C, H, W).
        sigma: standard deviation of n, (N, 1, 1, 1), over 0.
    """
    low, high = -clean / sigma, (1 - clean) / sigma
    below, above = _cdf(low), _cdf(high)
    density = (torch.exp(-(low**2) / 2) - torch.exp(-(high**2) / 2)) / math.sqrt(2 * math.pi)
    mean: Tensor = clean * (above - below) + sigma * density + (1 - above)
    return mean


def _cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))
