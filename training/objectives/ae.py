"""The autoencoder's objective: reconstruct the clean picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, optim
from training.data import Batch
from training.losses import luma_distance
from training.networks.autoencoder import Autoencoder
from training.recipe import Recipe


class Restore:
    """Minimise E |g(f(x')) - x|, with x' the damaged and x the clean picture.

    Denoising autoencoder: Vincent et al. 2008, "Extracting and Composing Robust Features with
    Denoising Autoencoders"; where nothing is damaged it is the plain one, E ||x - g(f(x))||^2 with
    `loss = "mse"`. All means are over batch, channels and pixels. MSE's minimiser is the
    conditional mean (highest PSNR), L1's the conditional median. A little of the spectra's distance
    keeps high frequencies (`fft`). All are homogeneous with L1, so weighing a patch (`relative`) is
    multiplying both its pictures.
    """

    def __init__(self, recipe: Recipe) -> None:
        net = Autoencoder(recipe.ae, recipe.scale)
        net.bf16 = recipe.bf16
        self.network: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._recipe = recipe
        self._optimiser = optim.adamw(self.network, recipe.optimiser)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on (N, 3, P, P) damaged and (N, 3, P * scale, P * scale) clean patches."""
        optim.set_learning_rate(self._optimiser, optim.learning_rate(self._recipe, step))
        ae = self._recipe.ae
        got, wanted = self.network(batch.lr), batch.hr
        if ae.relative:
            share = relative_weights(batch)
            got, wanted = got * share, wanted * share
        losses = self.losses(got, wanted)
        total = losses["pixel"] + ae.fft * losses["fft"] + ae.luma * losses["luma"]
        optim.descend(self._optimiser, self.network, total, self._recipe.optimiser.clip_norm)
        return {"loss": total.item(), **{name: value.item() for name, value in losses.items()}}

    def losses(self, got: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Return `pixel`, `fft` and `luma`, unweighted."""
        pixel = F.l1_loss if self._recipe.ae.loss == "l1" else F.mse_loss
        return {
            "pixel": pixel(got, wanted),
            "fft": spectrum_l1(got, wanted),
            "luma": luma_distance(got, wanted, self._recipe.ae.loss),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser state."""
        return {
            **checkpoint.prefixed("net", self.network.state_dict()),
            **checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self._optimiser)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        self.network.load_state_dict(checkpoint.without_prefix("net", tensors))
        checkpoint.restore_optimiser(
            self._optimiser, checkpoint.without_prefix("optimiser", tensors)
        )


def relative_weights(batch: Batch) -> Tensor:
    """Return 1 / (mean |x' - x| + 1/255) of each patch, over their mean; (N, 1, 1, 1).

    Every patch then counts by the share of its damage that is left, and the loss keeps its size.
    """
    damage = (batch.lr - batch.hr).abs().mean(dim=(1, 2, 3), keepdim=True)
    weights = 1 / (damage + 1 / 255)
    return weights / weights.mean()


def spectrum_l1(got: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of the orthonormal 2-D Fourier transforms, real and imaginary parts.

    Orthonormal, so that its size does not depend on the patch's (MIMO-UNet: Cho et al. 2021,
    arXiv:2108.05054, uses the same distance unnormalised).
    """
    # one transform of the difference is the difference of the transforms
    spectrum = torch.fft.rfft2((got - wanted).contiguous(), norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()
