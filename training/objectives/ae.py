"""The autoencoder's objective: reconstruct the clean picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, optimizers
from training.data.pictures import Batch
from training.losses.pixel import luma_distance
from training.networks.autoencoder import Autoencoder
from training.recipe.schema import Recipe


class Restore:
    """Minimize E |g(f(x')) - x|, with x' the damaged and x the clean picture.

    Denoising autoencoder: Vincent et al. 2008, "Extracting and Composing Robust Features with
    Denoising Autoencoders"; without damage it is the plain one, E ||x - g(f(x))||^2 with
    `loss = "mse"`. All means are over batch, channels and pixels. MSE's minimizer is the
    conditional mean (highest PSNR), L1's the conditional median. A small spectral term (`fft`)
    preserves high frequencies. With L1 all terms are homogeneous, so a patch is weighted
    (`relative`) by multiplying both its pictures.
    """

    def __init__(self, recipe: Recipe) -> None:
        net = Autoencoder(recipe.ae, recipe.scale)
        net.bf16 = recipe.bf16
        self.network: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._recipe = recipe
        self._optimizer = optimizers.build(self.network, recipe.optimizer)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on (N, 3, P, P) damaged and (N, 3, P * scale, P * scale) clean patches."""
        optimizers.set_learning_rate(self._optimizer, optimizers.learning_rate(self._recipe, step))
        ae = self._recipe.ae
        got, wanted = self._restored(batch), batch.hr
        if ae.relative:
            share = relative_weights(batch)
            got, wanted = got * share, wanted * share
        losses = self.losses(got, wanted)
        total = losses["pixel"] + ae.fft * losses["fft"] + ae.luma * losses["luma"]
        optimizers.descend(self._optimizer, self.network, total, self._recipe.optimizer.clip_norm)
        return {"loss": total.item(), **{name: value.item() for name, value in losses.items()}}

    def _restored(self, batch: Batch) -> Tensor:
        """Restore the inputs; with levels, some are told, and the others restored blindly."""
        ae, levels = self._recipe.ae, batch.levels
        if not ae.levels or levels is None:
            restored: Tensor = self.network(batch.lr)
            return restored
        is_told = torch.rand(len(levels), 1) >= ae.unknown_share
        told: Tensor = self.network(batch.lr, torch.where(is_told, levels.cpu(), -1.0).to(levels))
        return told

    def losses(self, got: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Return `pixel`, `fft` and `luma`, unweighted."""
        pixel = F.l1_loss if self._recipe.ae.loss == "l1" else F.mse_loss
        return {
            "pixel": pixel(got, wanted),
            "fft": spectrum_l1(got, wanted),
            "luma": luma_distance(got, wanted, self._recipe.ae.loss),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer state."""
        return {
            **checkpoint.prefixed("net", self.network.state_dict()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self._optimizer)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        self.network.load_state_dict(checkpoint.without_prefix("net", tensors))
        checkpoint.restore_optimizer(
            self._optimizer, checkpoint.without_prefix("optimizer", tensors)
        )


def relative_weights(batch: Batch) -> Tensor:
    """Return 1 / (mean |x' - x| + 1/255) of each patch, divided by their mean; (N, 1, 1, 1).

    Each patch then counts by the share of its damage that remains; the loss keeps its magnitude.
    """
    damage = (batch.lr - batch.hr).abs().mean(dim=(1, 2, 3), keepdim=True)
    weights = 1 / (damage + 1 / 255)
    return weights / weights.mean()


def spectrum_l1(got: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute difference of the 2-D Fourier transforms, real and imaginary parts.

    The transform is orthonormal, so that the result does not depend on the patch size (MIMO-UNet:
    Cho et al. 2021, arXiv:2108.05054, uses the same distance unnormalized).
    """
    # the transform is linear: one transform of the difference is enough
    spectrum = torch.fft.rfft2((got - wanted).contiguous(), norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()
