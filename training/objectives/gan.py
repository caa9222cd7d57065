"""The adversarial stage: fidelity given up for texture."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training import adversarial, checkpoint, losses, networks, optim
from training.data import Batch
from training.networks.discriminator import UNetDiscriminator
from training.objectives.terms import Terms, values, weighted
from training.recipe import Recipe

SMALLEST_NORM = 1e-12


class Gan:
    """Play generator against discriminator (Goodfellow et al. 2014, arXiv:1406.2661).

    Each step, with C the discriminator's logits and x, y a low- and a high-resolution patch:

    1. C descends `adversarial.discriminator_loss(C(y), C(G(x)))` on G(x) cut off from G, plus
       every `r1_every` steps `r1_every * gamma / 2 * E |grad C(y)|^2`;
    2. G descends the sum of the recipe's weighted terms, among them
       `adversarial.generator_loss(C(y), C(G(x)))` through a C that stays as it is.

    Begin with a generator that the pixel stage has trained (Ledig et al. 2017, SRGAN,
    arXiv:1609.04802): from scratch the game is slow and unstable.
    """

    def __init__(self, recipe: Recipe) -> None:
        net = networks.build(recipe.network, recipe.scale)
        net.bf16 = recipe.bf16
        judge = UNetDiscriminator(
            recipe.discriminator.width, details=recipe.discriminator.sees == "details"
        )
        judge.bf16 = recipe.bf16
        self.network = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = judge
        self._recipe = recipe
        self._terms = Terms(recipe)
        self._optimiser = optim.adamw(self.network, recipe.optimiser)
        self._judge_optimiser = optim.adamw(self.discriminator, recipe.optimiser)
        self._optimisers = {"optimiser": self._optimiser, "judge_optimiser": self._judge_optimiser}
        self._averaged: nn.Module | None = None

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step of each on (N, 3, P, P) and (N, 3, P * scale, P * scale)."""
        rate = optim.learning_rate(self._recipe, step)
        relative = self._recipe.discriminator.learning_rate / self._recipe.optimiser.learning_rate
        optim.set_learning_rate(self._optimiser, rate)
        optim.set_learning_rate(self._judge_optimiser, rate * relative)
        sr = self.network(batch.lr)
        judged = self.teach_discriminator(batch.hr, sr.detach(), step)
        return {**self.teach_generator(batch, sr, step), **judged}

    def teach_discriminator(self, hr: Tensor, sr: Tensor, step: int) -> dict[str, float]:
        """One step of the discriminator; `sr` must be detached from the generator."""
        recipe, judge = self._recipe, self.discriminator
        judge.train()
        # one pass over both: spectral normalisation then divides both by the same estimate
        real, fake = judge(torch.cat([hr, sr])).chunk(2)
        loss = adversarial.discriminator_loss(recipe.loss.adversarial_kind, real, fake)
        found = {"discriminator": loss.item()}
        gamma, every = recipe.discriminator.r1_gamma, recipe.discriminator.r1_every
        if gamma and step % every == 0:
            penalty = adversarial.r1_penalty(judge, hr)
            loss = loss + every * gamma / 2 * penalty
            found["r1"] = penalty.item()
        optim.descend(self._judge_optimiser, judge, loss, recipe.optimiser.clip_norm)
        return found

    def teach_generator(self, batch: Batch, sr: Tensor, step: int) -> dict[str, float]:
        """One step of the generator; weights, gradients and buffers of the judge stay."""
        made = sr.detach().requires_grad_(True)
        terms = self._terms(made, batch) | self._artefacts(batch, made, step)
        terms |= self._game(batch.hr, made)
        loss, pull = self._pull(made, terms)
        # a surrogate whose gradient at the generator's output is the pull
        surrogate = (sr * pull).sum()
        optim.descend(self._optimiser, self.network, surrogate, self._recipe.optimiser.clip_norm)
        if self._averaged is not None:
            optim.average(self._averaged, self.network, self._recipe.optimiser.ema, step)
        return {"loss": loss, **values(terms)}

    def _pull(self, made: Tensor, terms: dict[str, Tensor]) -> tuple[float, Tensor]:
        """Return the loss and its gradient at the made pictures.

        With `balance` b the adversarial term counts b |grad others| / |grad adversarial| times: a
        discriminator without a gradient penalty becomes steeper by orders of magnitude within some
        dozen steps, and no fixed weight fits both ends (after Esser et al. 2021, VQGAN,
        arXiv:2012.09841).
        """
        play = weighted({"adversarial": terms["adversarial"]}, self._recipe)
        (pull,) = torch.autograd.grad(play, made, retain_graph=True)
        others = {name: term for name, term in terms.items() if name != "adversarial"}
        if not others:
            return play.item(), pull
        rest = weighted(others, self._recipe)
        (towards,) = torch.autograd.grad(rest, made)
        times = 1.0
        if balance := self._recipe.loss.balance:
            times = balance * towards.norm().item() / max(pull.norm().item(), SMALLEST_NORM)
        return rest.item() + times * play.item(), towards + times * pull

    def _game(self, hr: Tensor, sr: Tensor) -> dict[str, Tensor]:
        """What the discriminator says of `sr`, without anything happening to it."""
        judge, loss = self.discriminator, self._recipe.loss
        judge.eval().requires_grad_(False)
        with torch.no_grad():
            real, real_features = judge.judge(hr)
        fake, features = judge.judge(sr)
        judge.requires_grad_(True)
        terms = {"adversarial": adversarial.generator_loss(loss.adversarial_kind, real, fake)}
        if loss.feature_matching:
            terms["feature_matching"] = adversarial.feature_distance(features, real_features)
        return terms

    def _artefacts(self, batch: Batch, sr: Tensor, step: int) -> dict[str, Tensor]:
        """LDL against an average of the generator that is kept for it alone."""
        if not self._recipe.loss.ldl:
            return {}
        if self._averaged is None:
            self._averaged = copy.deepcopy(self.network).eval()
        if step < self._recipe.loss.ldl_from * self._recipe.steps:
            return {}
        with torch.no_grad():
            stable = self._averaged(batch.lr)
        return {"ldl": losses.locally_discriminative(sr, batch.hr, stable)}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser states of both, and the average that LDL needs."""
        averaged = {} if self._averaged is None else self._averaged.state_dict()
        found = checkpoint.prefixed("net", self.network.state_dict())
        found |= checkpoint.prefixed("judge", self.discriminator.state_dict())
        found |= checkpoint.prefixed("averaged", averaged)
        for name, optimiser in self._optimisers.items():
            found |= checkpoint.prefixed(name, checkpoint.optimiser_tensors(optimiser))
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        self.network.load_state_dict(checkpoint.without_prefix("net", tensors))
        self.discriminator.load_state_dict(checkpoint.without_prefix("judge", tensors))
        if averaged := checkpoint.without_prefix("averaged", tensors):
            self._averaged = copy.deepcopy(self.network).eval()
            self._averaged.load_state_dict(averaged)
        for name, optimiser in self._optimisers.items():
            checkpoint.restore_optimiser(optimiser, checkpoint.without_prefix(name, tensors))
