"""The conditional VAE: the bound, its parent, samples, confidence, collapse, export."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Laplace, Normal, kl_divergence

from export.graph.vae_wrapper import VaeGraph
from tests.training.runs import (
    assert_exports,
    assert_resumes_exactly,
    assert_the_seed_decides,
    pairs,
    tiny,
)
from training import networks
from training.data.pictures import Batch, Patches
from training.evaluation.evaluate import network
from training.networks.plain import PlainNet
from training.networks.vae import CONFIDENT_WITHIN, ConditionalVae, confidence
from training.objectives.vae import Elbo, active_units, free_bits, gaussian_kl, laplace_nll
from training.recipe.schema import RecipeError


def build(scale: int = 4, seed: int = 0) -> ConditionalVae:
    """Return a narrow net."""
    torch.manual_seed(seed)
    net = networks.for_recipe(tiny("vae", scale))
    assert isinstance(net, ConditionalVae)
    return net.eval()


def log_density(distribution: Laplace, value: torch.Tensor) -> torch.Tensor:
    """Return torch's own logarithm of the density."""
    density: torch.Tensor = distribution.log_prob(value)  # type: ignore[no-untyped-call]
    return density


def batch_of(scale: int, seed: int = 0) -> Batch:
    """Return one batch of drawn pictures."""
    return Patches(pairs(scale), 12, 4, seed).draw()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_shapes(scale: int) -> None:
    """Picture and confidence are `scale` times the input; the confidence is one map in 0..1."""
    with torch.no_grad():
        picture, sure = build(scale)(torch.rand(2, 3, 9, 7), torch.randn(2, 2, 9, 7))
    assert picture.shape == (2, 3, 9 * scale, 7 * scale)
    assert sure.shape == (2, 1, 9 * scale, 7 * scale)
    assert 0 < float(sure.min()) <= float(sure.max()) <= 1


def test_the_shipped_size() -> None:
    """The plain trunk, the prior, the decoder and two layers for the confidence."""
    recipe = tiny("vae", 4, network={"width": 32, "depth": 8}, vae={})
    assert sum(p.numel() for p in networks.for_recipe(recipe).parameters()) == 146_544


def test_zero_noise_is_the_mean_and_noise_decides_the_sample() -> None:
    """No noise is zero noise; the same noise gives the same picture, other noise another."""
    net, lr = build(), torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        net.prior.weight.normal_(0, 0.5)
        eps = torch.randn(1, 2, 9, 7)
        torch.testing.assert_close(net(lr)[0], net(lr, torch.zeros_like(eps))[0])
        assert torch.equal(net(lr, eps)[0], net(lr, eps)[0])
        assert not torch.allclose(net(lr, eps)[0], net(lr, -eps)[0])


def test_kl_is_that_of_torch() -> None:
    """Against torch.distributions; zero if both are equal."""
    torch.manual_seed(0)
    q, p = (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)), (torch.randn(1), torch.randn(1))
    expected = kl_divergence(
        Normal(q[0], torch.exp(0.5 * q[1])), Normal(p[0], torch.exp(0.5 * p[1]))
    )
    torch.testing.assert_close(gaussian_kl(q, p), expected)
    assert float(gaussian_kl(q, q).abs().max()) < 1e-6


def test_kl_to_the_standard_normal_by_hand() -> None:
    """-1/2 (1 + ln s^2 - m^2 - s^2) at m = 1, s^2 = 4."""
    q = (torch.tensor(1.0), torch.log(torch.tensor(4.0)))
    p = (torch.tensor(0.0), torch.tensor(0.0))
    assert float(gaussian_kl(q, p)) == pytest.approx(-0.5 * (1 + math.log(4) - 1 - 4))


def test_laplace_is_that_of_torch() -> None:
    """Against torch.distributions."""
    torch.manual_seed(0)
    error, log_scale = torch.randn(50).abs(), torch.randn(50)
    expected = -log_density(Laplace(torch.zeros(50), torch.exp(log_scale)), error)
    torch.testing.assert_close(laplace_nll(error, log_scale), expected)


def test_the_bound_is_summed_over_dimensions() -> None:
    """`nll` and `kl` times D are the sums of one picture's terms, averaged over the batch."""
    objective = Elbo(tiny("vae", 2, bf16=False))
    net, batch = objective._net, batch_of(2)
    torch.manual_seed(5)
    losses = objective.losses(batch, 1.0)
    torch.manual_seed(5)
    h = net.encode(batch.lr)
    prior = net.prior_of(h)
    enlarged = batch.lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
    q = objective._posterior(batch.hr - enlarged, h)
    z = q[0] + torch.exp(0.5 * q[1]) * torch.randn_like(q[0])
    picture = net.picture(batch.lr, net.decode(h, z))
    b = (batch.hr - picture).abs().mean()
    nll = -log_density(Laplace(picture, b), batch.hr).sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(losses["nll"] * batch.hr[0].numel(), nll)
    sigma_q, sigma_p = torch.exp(0.5 * q[1]), torch.exp(0.5 * prior[1])
    kl = kl_divergence(Normal(q[0], sigma_q), Normal(prior[0], sigma_p))
    expected = kl.sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(losses["kl"] * batch.hr[0].numel(), expected)


def test_free_bits_charge_no_less_than_their_threshold() -> None:
    """Below it the penalty is constant and has no gradient; above it it is the KL."""
    kl = torch.stack([torch.full((3, 4), 0.01), torch.full((3, 4), 2.0)])[None]  # (1, 2, 3, 4)
    kl.requires_grad_(True)
    charged = free_bits(kl, 0.05)
    torch.testing.assert_close(charged, torch.tensor([0.05 * 12, 2.0 * 12]))
    (gradient,) = torch.autograd.grad(charged.sum(), kl)
    assert float(gradient[:, 0].abs().max()) == 0
    torch.testing.assert_close(gradient[:, 1], torch.ones(1, 3, 4))


def test_the_kl_warms_up() -> None:
    """From 0 to beta over the first share of the steps."""
    recipe = tiny("vae", 2, steps=100, vae={"latent": 2, "beta": 0.5, "kl_warm_up": 0.2})
    objective = Elbo(recipe)
    assert [objective.kl_weight(step) for step in (0, 10, 20, 99)] == [0.0, 0.25, 0.5, 0.5]


def test_active_units_tell_collapse() -> None:
    """A posterior equal to the prior has none; one varying channel counts as one."""
    prior = (torch.randn(4, 3, 5, 5), torch.zeros(4, 3, 5, 5))
    assert float(active_units(prior[0], prior)) == 0
    moving = prior[0].clone()
    moving[:, 1] += torch.randn(4, 5, 5)
    assert float(active_units(moving, prior)) == 1


def test_collapse_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A posterior without information logs a warning, and `active` is 0."""
    objective = Elbo(tiny("vae", 2, vae={"latent": 2, "kl_warm_up": 0.0}))
    last = objective._posterior.body[-1]
    with torch.no_grad():
        for parameter in (*last.parameters(), *objective._net.prior.parameters()):
            parameter.zero_()
    with caplog.at_level(logging.WARNING):
        losses = objective.step(batch_of(2), 0)
    assert losses["active"] == 0
    assert "posterior collapse" in caplog.text


def test_the_confidence_changes_nothing_else() -> None:
    """Its loss has gradients at its own two layers only."""
    objective = Elbo(tiny("vae", 2, bf16=False))
    net, batch = objective._net, batch_of(2)

    def gradients(layers: Sequence[nn.Module]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        wanted = [parameter for layer in layers for parameter in layer.parameters()]
        return list(torch.autograd.grad(objective.losses(batch, 1.0)["loss"], wanted))

    own, others = [net.scale_body, net.scale_tail], [net.trunk, net.decoder, net.tail, net.prior]
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients(own))
    before = gradients(others)
    with torch.no_grad():
        net.scale_body.weight.add_(0.5)
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(others), strict=True))


def test_confidence_is_a_probability() -> None:
    """P(|e| <= t) of a Laplace distribution, against torch's; invertible."""
    log_scale = torch.linspace(-6, 0, 20)
    laplace = Laplace(torch.zeros(20), torch.exp(log_scale))
    t = torch.tensor(CONFIDENT_WITHIN)
    expected = laplace.cdf(t) - laplace.cdf(-t)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(confidence(log_scale), expected)


def test_it_begins_as_its_parent() -> None:
    """From a plain net's weights the mean is the plain net's picture."""
    torch.manual_seed(3)
    parent = PlainNet(4, 8, 2).eval()
    net = build()
    networks.warm_start(net, parent.state_dict())
    lr = torch.rand(2, 3, 11, 9)
    torch.testing.assert_close(net(lr)[0], parent(lr), rtol=1e-4, atol=1e-5)


def test_a_parent_that_does_not_fit_is_refused() -> None:
    """Scale, width and depth must match; a VAE's own weights are loaded unchanged."""
    net = build()
    for parent in (PlainNet(2, 8, 2), PlainNet(4, 12, 2), PlainNet(4, 8, 3)):
        with pytest.raises(ValueError, match="another architecture"):
            networks.warm_start(net, parent.state_dict())
    other = build(seed=1)
    networks.warm_start(net, other.state_dict())
    lr = torch.rand(1, 3, 8, 8)
    assert torch.equal(net(lr)[0], other(lr)[0])


def test_it_resumes_exactly(tmp_path: Path) -> None:
    """The noise of z is in the checkpoint, and so is the posterior."""
    assert_resumes_exactly(tiny("vae", 4), pairs(4, side=80), tmp_path)


def test_the_seed_decides(tmp_path: Path) -> None:
    """The noise of z too."""
    assert_the_seed_decides(tiny("vae", 2), pairs(2), tmp_path)


def test_at_x1_it_synthesises_what_was_softened(tmp_path: Path) -> None:
    """The same net at scale 1, on pictures whose texture was removed."""
    recipe = tiny("vae", 1, corrupt={"reduce": 4})
    assert_resumes_exactly(recipe, pairs(1), tmp_path)


def test_evaluation_takes_the_mean() -> None:
    """The picture of the two outputs, at zero noise."""
    net = build()
    lr = pairs(4)[0].lr
    x = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].float() / 255.0
    with torch.no_grad():
        expected = (net(x)[0][0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(network(net)(lr), expected.astype(np.uint8))


@pytest.mark.parametrize("scale", [1, 4])
def test_it_exports(scale: int) -> None:
    """Picture and noise in, picture and confidence out; any size."""
    sizes = {0: "batch", 1: "height", 2: "width"}
    dynamic = (sizes, {0: "batch", 2: "height", 3: "width"})
    random = np.random.default_rng(0)
    inputs = [
        (
            torch.from_numpy(random.integers(0, 256, (n, h, w, 3), np.uint8)),
            torch.from_numpy(random.normal(size=(n, 2, h, w)).astype(np.float32)),
        )
        for n, h, w in ((2, 20, 28), (1, 5, 7))
    ]
    assert_exports(VaeGraph(build(scale)), inputs[0], dynamic, inputs[1:])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"vae": {"latent": 0}}, "vae.latent = 0, allowed: at least 1"),
        ({"vae": {"kl_warm_up": 2.0}}, "vae.kl_warm_up = 2.0, allowed: 0 to 1"),
        ({"vae": {"free_bits": 2.0}}, r"unknown key 'vae.free_bits'; did you mean"),
    ],
)
def test_mistakes_are_named(tables: dict[str, object], message: str) -> None:
    """The error names key, value and allowed values."""
    with pytest.raises(RecipeError, match=message):
        tiny("vae", 4, **tables)


def test_an_unknown_family_is_refused() -> None:
    """The error names the three families."""
    with pytest.raises(RecipeError, match="family = 'vea', allowed: 'gan' or 'ae' or 'vae'"):
        tiny("vea", 4)
