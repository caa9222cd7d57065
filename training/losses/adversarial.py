"""Adversarial losses, on logits C(.) of real pictures y and generated ones G(x).

Logits may have any shape (one per picture or one per pixel); means are over all of them. s(t) is
the sigmoid, softplus(t) = log(1 + exp(t)) = -log s(-t).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """Return the loss of the discriminator.

    bce: -E log s(C(y)) - E log(1 - s(C(G(x)))), the minimax game of Goodfellow et al. 2014
    (arXiv:1406.2661). ragan: relativistic average, half of
    -E log s(C(y) - E C(G(x))) - E log(1 - s(C(G(x)) - E C(y))), Jolicoeur-Martineau 2018
    (arXiv:1807.00734). rpgan: relativistic pairing, E softplus(-(C(y) - C(G(x)))), the same paper;
    with R1 the basis of Huang et al. 2024 (R3GAN, arXiv:2501.05441).
    """
    if kind == "bce":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "ragan":
        above, below = real - fake.mean(), fake - real.mean()
        return (F.softplus(-above).mean() + F.softplus(below).mean()) / 2
    return F.softplus(-(real - fake)).mean()


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """Return the loss of the generator, of the same kinds as `discriminator_loss`.

    bce: -E log s(C(G(x))), the non-saturating form (same optimum for the generator, a gradient also
    where the discriminator is sure). ragan and rpgan: that loss with real and fake exchanged.
    """
    if kind == "bce":
        return F.softplus(-fake).mean()
    return discriminator_loss(kind, fake, real)


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Return E |grad_y C(y)|^2, to be weighted by gamma / 2.

    Mescheder et al. 2018 (arXiv:1801.04406): zero gradient on real data makes training converge
    locally. The squared norm is per position (summed over colors, averaged over pixels), so that
    gamma does not depend on the patch size: a per-pixel discriminator is many discriminators.
    """
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return (gradient**2).sum(dim=1).mean()


def feature_distance(result: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Return the mean over scales of mean |f(x) - f(y)|; no gradient flows to `truth`.

    With a discriminator's features: feature matching, Wang et al. 2018 (pix2pixHD,
    arXiv:1711.11585); with another network's: a perceptual loss, Johnson et al. 2016
    (arXiv:1603.08155).
    """
    terms = [F.l1_loss(a, b.detach()) for a, b in zip(result, truth, strict=True)]
    return torch.stack(terms).mean()
