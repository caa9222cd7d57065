"""The textbook models: losses against torch's, separate steps, codec, resume, export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from tests.training.runs import assert_exports, assert_resumes_exactly, pairs, tiny
from training import networks, objectives
from training.data.pictures import Batch, Pair, Patches
from training.evaluation.compression import Quantizer, fit, rate_distortion
from training.loop import TrainingError, train
from training.networks.small import Decoder, FlatAutoencoder, FlatVae, interpolate
from training.objectives.small import (
    GaussianElbo,
    SmallGan,
    discriminator_loss,
    generator_loss,
    hide,
)
from training.recipe.schema import Recipe, RecipeError

FAMILIES = ("ae", "vae", "gan")


def recipe_of(family: str, **small: Any) -> Recipe:
    """Return a recipe of 8 steps on 16x16 pictures."""
    table = {"on": True, "latent": 6, "width": 8, **small}
    return tiny(family, 1, bf16=False, small=table, data={"patch_px": 16, "batch": 4})


def batch(size_px: int = 16) -> Batch:
    """Return one batch of drawn pictures."""
    return Patches(pairs(1), size_px, 4, 0).draw()


def parameters(net: torch.nn.Module) -> list[torch.Tensor]:
    """Return copies of a network's parameters."""
    return [parameter.detach().clone() for parameter in net.parameters()]


def changed(before: list[torch.Tensor], net: torch.nn.Module) -> bool:
    """Whether any parameter differs."""
    return not all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_shapes() -> None:
    """A picture to a flat latent and back; noise to a picture; all in 0..1."""
    torch.manual_seed(0)
    picture = batch().hr
    with torch.no_grad():
        for family in ("ae", "vae"):
            net = networks.for_recipe(recipe_of(family))
            assert isinstance(net, FlatAutoencoder | FlatVae)
            code = net.encoder(picture)
            assert code.shape == (4, 6 if family == "ae" else 12)
            assert net(picture).shape == picture.shape
        generator = networks.for_recipe(recipe_of("gan"))
        made = generator(torch.randn(5, 6))
    assert made.shape == (5, 3, 16, 16)
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1


def test_the_adversarial_losses_are_cross_entropies() -> None:
    """Against torch's binary cross entropy on logits."""
    torch.manual_seed(0)
    real, fake = torch.randn(8), torch.randn(8)
    bce = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(8), torch.zeros(8)
    torch.testing.assert_close(discriminator_loss(real, fake), bce(real, ones) + bce(fake, zeros))
    torch.testing.assert_close(generator_loss(fake), bce(fake, ones))


def test_each_player_moves_in_its_own_step() -> None:
    """With one optimizer disabled, only the other network moves."""
    for still, moving in ((0, 1), (1, 0)):
        objective = objectives.build(recipe_of("gan"))
        assert isinstance(objective, SmallGan)
        players = (objective.network, objective._discriminator)
        objective._optimizers[still].step = lambda *_: None  # type: ignore[method-assign]
        before = [parameters(player) for player in players]
        objective.step(batch(), 0)
        assert not changed(before[still], players[still])
        assert changed(before[moving], players[moving])
        assert all(parameter.requires_grad for parameter in players[1].parameters())


def test_the_bound_is_torchs() -> None:
    """-E ln N(x; g(z), s^2) + KL to the standard normal, over D; s^2 is the batch's."""
    objective = objectives.build(recipe_of("vae", beta=0.5))
    assert isinstance(objective, GaussianElbo)
    net, picture = objective._net, batch().hr
    assert isinstance(net, FlatVae)
    torch.manual_seed(4)
    losses = objective.losses(picture)
    torch.manual_seed(4)
    mean, log_variance = net.moments(picture)
    made = net(picture, torch.randn_like(mean))
    sigma = (made - picture).square().mean().sqrt()
    density = Normal(made, sigma).log_prob(picture)  # type: ignore[no-untyped-call]
    posterior = Normal(mean, torch.exp(0.5 * log_variance))
    kl = kl_divergence(posterior, Normal(torch.zeros(1), torch.ones(1))).sum(dim=1).mean()
    samples = picture[0].numel()
    # sums of thousands of float32 values, in an order that depends on the kernel
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-3)
    close(losses["nll"] * samples, -density.sum(dim=(1, 2, 3)).mean())
    close(losses["kl"] * samples, kl)
    close(losses["loss"], losses["nll"] + 0.5 * losses["kl"])


def test_what_is_hidden_is_gray_and_the_rest_is_not_touched() -> None:
    """One rectangle in each picture, no larger than requested; seeded."""
    picture = torch.rand(50, 3, 32, 32)
    torch.manual_seed(0)
    hidden = hide(picture, 0.5)
    torch.manual_seed(0)
    assert torch.equal(hide(picture, 0.5), hidden)
    gray = (hidden != picture).any(dim=1)
    assert bool((hidden[gray[:, None].expand_as(hidden)] == 0.5).all())
    sides = [gray.any(dim=axis).sum(dim=1) for axis in (1, 2)]
    assert all(int(side.max()) <= 17 and int(side.max()) > 8 for side in sides)
    assert torch.equal(sides[0] * sides[1], gray.sum(dim=(1, 2)))
    assert hide(picture, 0.0) is picture


def test_interpolation_ends_at_both_codes() -> None:
    """A straight line in the latent space, endpoints included."""
    torch.manual_seed(0)
    decoder = networks.for_recipe(recipe_of("gan"))
    assert isinstance(decoder, Decoder)
    codes = torch.randn(2, 6)
    with torch.no_grad():
        line = interpolate(decoder, codes[0], codes[1], 5)
        ends = decoder(codes)
        middle = decoder(codes.mean(dim=0, keepdim=True))
    assert line.shape == (5, 3, 16, 16)
    torch.testing.assert_close(line[[0, 4]], ends)
    torch.testing.assert_close(line[2:3], middle)


def test_the_quantizer_by_hand() -> None:
    """Two bits between 0 and 3 are the integers; values outside are clipped."""
    quantizer = Quantizer(torch.zeros(1), torch.full((1,), 3.0), 2)
    values = torch.tensor([[-1.0], [0.4], [1.6], [9.0]])
    levels = quantizer.encode(values)
    assert levels.flatten().tolist() == [0, 0, 2, 3]
    assert quantizer.decode(levels).flatten().tolist() == [0.0, 0.0, 2.0, 3.0]


def test_more_bits_cost_more_and_lose_less() -> None:
    """Bits per pixel follow from the latent; many bits reach the unquantized PSNR."""
    torch.manual_seed(0)
    net = networks.for_recipe(recipe_of("ae"))
    assert isinstance(net, FlatAutoencoder)
    picture = Patches(pairs(1), 16, 32, 0).draw().hr
    coarse, fine = rate_distortion(net, picture, picture, bits=(1, 12))
    assert coarse.bits_per_px == pytest.approx(6 * 1 / 256)
    assert fine.bits_per_px == pytest.approx(6 * 12 / 256)
    assert coarse.entropy_per_px <= coarse.bits_per_px
    with torch.no_grad():
        exact = -10 * float(torch.log10((net(picture) - picture).square().mean()))
    assert fine.psnr_db == pytest.approx(exact, abs=0.01)
    assert fit(net, picture, 3).encode(net.encoder(picture)).max() == 7


@pytest.mark.parametrize("family", FAMILIES)
def test_it_resumes_exactly(family: str, tmp_path: Path) -> None:
    """Both networks, the noise and the masks included."""
    recipe = recipe_of(family, mask=0.5 if family == "ae" else 0.0)
    assert_resumes_exactly(recipe, pairs(1), tmp_path)


@pytest.mark.parametrize("family", ["ae", "vae"])
def test_it_learns(family: str) -> None:
    """On four pictures the error falls below two thirds within 150 steps."""
    torch.manual_seed(0)
    table = {"learning_rate": 3e-3, "warm_up": 5}
    data = {"patch_px": 16, "batch": 4}
    small = {"on": True, "latent": 16, "width": 16}
    recipe = tiny(family, 1, steps=150, bf16=False, small=small, data=data, optimizer=table)
    objective, picture = objectives.build(recipe), batch()
    name = "mse" if family == "vae" else "loss"
    errors = [objective.step(picture, step)[name] for step in range(150)]
    # ten seeds: 0.07 to 0.44 of the first error (ae), 0.10 to 0.34 (vae)
    assert errors[-1] < errors[0] * 2 / 3


def test_a_generator_is_not_scored(tmp_path: Path) -> None:
    """Its pictures have no ground truth; the error comes at once."""
    with pytest.raises(TrainingError, match="leave --test out"):
        train(recipe_of("gan"), pairs(1), tmp_path, tests={"drawn": pairs(1)})


def test_only_pictures_of_the_size_are_scored(tmp_path: Path) -> None:
    """A flat latent fits one size; the error names another."""
    whole = [Pair("a", pair.lr[:16, :16], pair.hr[:16, :16]) for pair in pairs(1, 1)]
    train(recipe_of("ae"), pairs(1), tmp_path, tests={"right": whole})
    assert '"right": {"psnr_y_db":' in (tmp_path / "log.jsonl").read_text()
    with pytest.raises(TrainingError, match=r"wrong: 0 is \(64, 80\), expected \(16, 16\)"):
        train(recipe_of("ae"), pairs(1), tmp_path / "b", tests={"wrong": pairs(1)})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_exports(family: str) -> None:
    """Encoder, decoder and the whole network; any batch size."""
    torch.manual_seed(0)
    net = networks.for_recipe(recipe_of(family))
    pictures, codes = torch.rand(2, 3, 16, 16), torch.randn(2, 6)
    any_batch: dict[int, Any] = {0: "batch"}
    if isinstance(net, Decoder):
        assert_exports(net, (codes,), (any_batch,), [(torch.randn(5, 6),)])
        return
    assert isinstance(net, FlatAutoencoder | FlatVae)
    assert_exports(net.encoder, (pictures,), (any_batch,), [(torch.rand(3, 3, 16, 16),)])
    assert_exports(net.decoder, (codes,), (any_batch,), [(torch.randn(3, 6),)])
    if family == "vae":
        assert_exports(net, (pictures, codes), (any_batch, any_batch), [])
    else:
        assert_exports(net, (pictures,), (any_batch,), [])


@pytest.mark.parametrize(
    ("small", "message"),
    [
        ({"mask": 1.0}, "small.mask = 1.0, allowed: 0 <= mask < 1"),
        ({"latent": 0}, "small.latent = 0, allowed: at least 1"),
        ({"lattent": 3}, r"unknown key 'small.lattent'; did you mean 'small.latent'\?"),
    ],
)
def test_mistakes_are_named(small: dict[str, Any], message: str) -> None:
    """The error names key, value and allowed values."""
    with pytest.raises(RecipeError, match=message):
        recipe_of("ae", **small)


def test_small_pictures_are_not_enlarged() -> None:
    """The scale is 1, the side a multiple of 8."""
    with pytest.raises(RecipeError, match="scale = 2, allowed: 1"):
        tiny("ae", 2, small={"on": True})
    with pytest.raises(RecipeError, match="a multiple of 8"):
        tiny("gan", 1, small={"on": True}, data={"patch_px": 30})
