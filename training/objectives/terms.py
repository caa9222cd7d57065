"""Loss terms that need no discriminator, selected by the recipe."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.data.pictures import Batch
from training.losses import perceptual
from training.losses import pixel as losses
from training.losses.adversarial import feature_distance
from training.recipe.losses import LossRecipe
from training.recipe.schema import Recipe

Term = Callable[[Tensor, Batch], Tensor]


class Terms:
    """The active terms of a recipe's `[loss]`, by name; terms of weight 0 are not computed."""

    def __init__(self, recipe: Recipe) -> None:
        loss, scale = recipe.loss, recipe.scale
        pixel = losses.PIXEL_LOSSES[loss.pixel_kind]
        known: dict[str, Term] = {
            "pixel": lambda sr, batch: pixel(sr, batch.hr),
            "luma": lambda sr, batch: losses.luma_distance(sr, batch.hr, loss.pixel_kind),
            "teacher": lambda sr, batch: _teacher_distance(sr, batch, loss),
            "fourier": lambda sr, batch: losses.fourier_l1(sr, batch.hr),
            "wavelet": lambda sr, batch: losses.wavelet_l1(sr, batch.hr),
            "downscaled": lambda sr, batch: losses.downscaled_l1(sr, batch.hr, scale),
            "grid": lambda sr, batch: losses.grid_l1(sr, batch.hr, scale),
            "consistency": lambda sr, batch: losses.lr_consistency(sr, batch.lr),
        }
        if loss.perceptual:
            net = perceptual.build(loss)
            known["perceptual"] = lambda sr, batch: _perceptual(net, sr, batch.hr)
        self._terms = {name: term for name, term in known.items() if getattr(loss, name)}

    def __call__(self, sr: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the unweighted terms."""
        return {name: term(sr, batch) for name, term in self._terms.items()}


def weighted(terms: dict[str, Tensor], recipe: Recipe) -> Tensor:
    """Return the sum of the terms times their weights in `recipe.loss`."""
    return torch.stack([getattr(recipe.loss, name) * term for name, term in terms.items()]).sum()


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    """Return the terms as plain numbers."""
    return {name: term.item() for name, term in terms.items()}


def _teacher_distance(sr: Tensor, batch: Batch, loss: LossRecipe) -> Tensor:
    """Return the weighted `pixel` and `luma` losses against the teacher's picture."""
    if batch.teacher is None:
        raise ValueError("loss.teacher is over 0, but there are no teacher pictures: see --teacher")
    distance = loss.pixel * losses.PIXEL_LOSSES[loss.pixel_kind](sr, batch.teacher)
    if loss.luma:
        luma = losses.luma_distance(sr, batch.teacher, loss.pixel_kind)
        distance = distance + loss.luma * luma
    return distance


def _perceptual(net: nn.Module, sr: Tensor, hr: Tensor) -> Tensor:
    return feature_distance(net(sr), net(hr))
