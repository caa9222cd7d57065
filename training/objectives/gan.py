"""The adversarial stage: trades fidelity for texture."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training import checkpoint, networks, optimizers
from training.data.pictures import Batch
from training.losses import adversarial, pixel
from training.networks.discriminator import UNetDiscriminator
from training.objectives.terms import Terms, values, weighted
from training.recipe.schema import Recipe

SMALLEST_NORM = 1e-12


class Gan:
    """Train a generator against a discriminator (Goodfellow et al. 2014, arXiv:1406.2661).

    Each step, with C the discriminator's logits and x, y a low- and a high-resolution patch:

    1. C descends `adversarial.discriminator_loss(C(y), C(G(x)))` on a detached G(x), plus, every
       `r1_every` steps, `r1_every * gamma / 2 * E |grad C(y)|^2`;
    2. G descends the sum of the recipe's weighted terms, among them
       `adversarial.generator_loss(C(y), C(G(x)))` through a frozen C.

    Start from a generator that the pixel stage has trained (Ledig et al. 2017, SRGAN,
    arXiv:1609.04802): from scratch, training is slow and unstable.
    """

    def __init__(self, recipe: Recipe) -> None:
        net = networks.build(recipe.network, recipe.scale)
        net.bf16 = recipe.bf16
        discriminator = UNetDiscriminator(
            recipe.discriminator.width, details=recipe.discriminator.sees == "details"
        )
        discriminator.bf16 = recipe.bf16
        self.network = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = discriminator
        self._recipe = recipe
        self._terms = Terms(recipe)
        self._optimizer = optimizers.build(self.network, recipe.optimizer)
        self._discriminator_optimizer = optimizers.adamw(self.discriminator, recipe.optimizer)
        self._optimizers = {
            "optimizer": self._optimizer,
            "discriminator_optimizer": self._discriminator_optimizer,
        }
        self._averaged: nn.Module | None = None

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step of each network on (N, 3, P, P) and (N, 3, P * scale, P * scale)."""
        rate = optimizers.learning_rate(self._recipe, step)
        relative = self._recipe.discriminator.learning_rate / self._recipe.optimizer.learning_rate
        optimizers.set_learning_rate(self._optimizer, rate)
        optimizers.set_learning_rate(self._discriminator_optimizer, rate * relative)
        sr = self.network(batch.lr)
        discriminator_losses = self.discriminator_step(batch.hr, sr.detach(), step)
        return {**self.generator_step(batch, sr, step), **discriminator_losses}

    def discriminator_step(self, hr: Tensor, sr: Tensor, step: int) -> dict[str, float]:
        """Do one step of the discriminator; `sr` must be detached from the generator."""
        recipe, discriminator = self._recipe, self.discriminator
        discriminator.train()
        # one pass over both: spectral normalization then divides both by the same estimate
        real, fake = discriminator(torch.cat([hr, sr])).chunk(2)
        loss = adversarial.discriminator_loss(recipe.loss.adversarial_kind, real, fake)
        found = {"discriminator": loss.item()}
        gamma, every = recipe.discriminator.r1_gamma, recipe.discriminator.r1_every
        if gamma and step % every == 0:
            penalty = adversarial.r1_penalty(discriminator, hr)
            loss = loss + every * gamma / 2 * penalty
            found["r1"] = penalty.item()
        optimizers.descend(
            self._discriminator_optimizer, discriminator, loss, recipe.optimizer.clip_norm
        )
        return found

    def generator_step(self, batch: Batch, sr: Tensor, step: int) -> dict[str, float]:
        """Do one step of the generator; the discriminator does not change, gradients included."""
        made = sr.detach().requires_grad_(True)
        terms = self._terms(made, batch) | self._ldl(batch, made, step)
        terms |= self._adversarial_terms(batch.hr, made)
        loss, gradient = self._balanced_gradient(made, terms)
        # a surrogate loss with this gradient at the generator's output
        surrogate = (sr * gradient).sum()
        optimizers.descend(
            self._optimizer, self.network, surrogate, self._recipe.optimizer.clip_norm
        )
        if self._averaged is not None:
            optimizers.average(self._averaged, self.network, self._recipe.optimizer.ema, step)
        return {"loss": loss, **values(terms)}

    def _balanced_gradient(self, made: Tensor, terms: dict[str, Tensor]) -> tuple[float, Tensor]:
        """Return the loss and its gradient at the generated pictures.

        With `balance` b the adversarial term is scaled by b |grad others| / |grad adversarial|:
        without a gradient penalty the discriminator becomes steeper by orders of magnitude within
        a few dozen steps, and no fixed weight fits throughout (after Esser et al. 2021, VQGAN,
        arXiv:2012.09841).
        """
        gan_loss = weighted({"adversarial": terms["adversarial"]}, self._recipe)
        (gan_gradient,) = torch.autograd.grad(gan_loss, made, retain_graph=True)
        others = {name: term for name, term in terms.items() if name != "adversarial"}
        if not others:
            return gan_loss.item(), gan_gradient
        other_loss = weighted(others, self._recipe)
        (gradient,) = torch.autograd.grad(other_loss, made)
        factor = 1.0
        if balance := self._recipe.loss.balance:
            norm = max(gan_gradient.norm().item(), SMALLEST_NORM)
            factor = balance * gradient.norm().item() / norm
        loss = other_loss.item() + factor * gan_loss.item()
        return loss, gradient + factor * gan_gradient

    def _adversarial_terms(self, hr: Tensor, sr: Tensor) -> dict[str, Tensor]:
        """Return the generator's terms from the discriminator, which does not change."""
        discriminator, loss = self.discriminator, self._recipe.loss
        discriminator.eval().requires_grad_(False)
        with torch.no_grad():
            real, real_features = discriminator.with_features(hr)
        fake, features = discriminator.with_features(sr)
        discriminator.requires_grad_(True)
        terms = {"adversarial": adversarial.generator_loss(loss.adversarial_kind, real, fake)}
        if loss.feature_matching:
            terms["feature_matching"] = adversarial.feature_distance(features, real_features)
        return terms

    def _ldl(self, batch: Batch, sr: Tensor, step: int) -> dict[str, Tensor]:
        """Return the LDL term, against an average of the generator kept for this term only."""
        if not self._recipe.loss.ldl:
            return {}
        if self._averaged is None:
            self._averaged = copy.deepcopy(self.network).eval()
        if step < self._recipe.loss.ldl_from * self._recipe.steps:
            return {}
        with torch.no_grad():
            stable = self._averaged(batch.lr)
        return {"ldl": pixel.locally_discriminative(sr, batch.hr, stable)}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer states of both networks, and LDL's average."""
        averaged = {} if self._averaged is None else self._averaged.state_dict()
        found = checkpoint.prefixed("net", self.network.state_dict())
        found |= checkpoint.prefixed("discriminator", self.discriminator.state_dict())
        found |= checkpoint.prefixed("averaged", averaged)
        for name, optimizer in self._optimizers.items():
            found |= checkpoint.prefixed(name, checkpoint.optimizer_tensors(optimizer))
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        self.network.load_state_dict(checkpoint.without_prefix("net", tensors))
        self.discriminator.load_state_dict(checkpoint.without_prefix("discriminator", tensors))
        if averaged := checkpoint.without_prefix("averaged", tensors):
            self._averaged = copy.deepcopy(self.network).eval()
            self._averaged.load_state_dict(averaged)
        for name, optimizer in self._optimizers.items():
            checkpoint.restore_optimizer(optimizer, checkpoint.without_prefix(name, tensors))
