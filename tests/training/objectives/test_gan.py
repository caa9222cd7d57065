"""The adversarial stage: each step moves its own network, in the right direction."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.training.test_loop import Killed, kill_at, made_pairs
from training import checkpoint, networks, objectives
from training.checkpoint import load_weights
from training.cli import main
from training.data.pictures import Batch, Patches
from training.loop import train
from training.losses import perceptual
from training.networks.discriminator import UNetDiscriminator
from training.objectives.gan import Gan
from training.recipe.losses import LossRecipe
from training.recipe.schema import NetworkRecipe, Recipe, RecipeError, recipe_from_dict

TABLE = {
    "name": "tiny",
    "scale": 2,
    "objective": "gan",
    "steps": 8,
    "save_every": 4,
    "evaluate_every": 4,
    "network": {"width": 8, "depth": 2},
    "data": {"patch_px": 12, "batch": 2},
    "optimizer": {"warm_up": 2},
    "loss": {"adversarial": 0.1, "feature_matching": 0.1, "ldl": 0.5, "ldl_from": 0.25},
    "discriminator": {"width": 4, "r1_gamma": 1.0, "r1_every": 3},
}
TINY = recipe_from_dict(TABLE, source="test")
GAMES = ("bce", "ragan", "rpgan")


def changed(table: str, **values: object) -> Recipe:
    """Return the recipe with other values in one of its tables."""
    whole = TINY.to_dict()
    return recipe_from_dict(whole | {table: whole[table] | values}, source="test")


def batch(seed: int = 0) -> Batch:
    """Return one batch of drawn pictures."""
    return Patches(made_pairs(), 12, 2, seed).draw()


def copied(net: nn.Module) -> dict[str, Tensor]:
    """Return a copy of weights, buffers and gradients."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    grads = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return state | {f"{name}.grad": grad for name, grad in grads.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two copies agree to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("game", GAMES)
def test_a_generator_step_leaves_the_discriminator_untouched(game: str) -> None:
    """Its weights, spectral-norm buffers and gradients stay bit-equal; the generator moves."""
    gan = Gan(changed("loss", adversarial_kind=game))
    gan.step(batch(), 0)
    discriminator, net = copied(gan.discriminator), copied(gan.network)
    drawn = batch(1)
    gan.generator_step(drawn, gan.network(drawn.lr), 1)
    assert any(name.endswith(".grad") for name in discriminator)
    assert equal(discriminator, copied(gan.discriminator))
    assert not equal(net, copied(gan.network))
    assert all(parameter.requires_grad for parameter in gan.discriminator.parameters())


@pytest.mark.parametrize("game", GAMES)
def test_a_discriminator_step_leaves_the_generator_untouched(game: str) -> None:
    """Weights and gradients of the generator stay bit-equal, also with the gradient penalty."""
    gan = Gan(changed("loss", adversarial_kind=game))
    gan.step(batch(), 0)
    discriminator, net = copied(gan.discriminator), copied(gan.network)
    drawn = batch(1)
    found = gan.discriminator_step(drawn.hr, gan.network(drawn.lr).detach(), 3)
    assert "r1" in found
    assert equal(net, copied(gan.network))
    assert not equal(discriminator, copied(gan.discriminator))


def test_the_step_detaches() -> None:
    """The discriminator's input inside `step` has no path back to the generator."""
    gan = Gan(TINY)
    seen: list[Tensor] = []
    teach = gan.discriminator_step

    def spy(hr: Tensor, sr: Tensor, step: int) -> dict[str, float]:
        seen.append(sr)
        return teach(hr, sr, step)

    gan.discriminator_step = spy  # type: ignore[method-assign]
    gan.step(batch(), 0)
    assert not seen[0].requires_grad


@pytest.mark.parametrize("game", GAMES)
def test_the_discriminator_learns_to_tell(game: str) -> None:
    """Some steps against a fixed generator: real logits end above generated ones."""
    torch.manual_seed(0)
    gan = Gan(at_half_rate(changed("loss", adversarial_kind=game)))
    drawn = batch()
    with torch.no_grad():
        made = gan.network(drawn.lr)
    before = gan.discriminator_step(drawn.hr, made, 1)["discriminator"]
    for _ in range(40):
        after = gan.discriminator_step(drawn.hr, made, 1)["discriminator"]
    with torch.no_grad():
        gap = gan.discriminator(drawn.hr).mean() - gan.discriminator(made).mean()
    # bce, the hardest, ten seeds by kernels of AVX-512 and of AVX2: 0.01 to 0.67 of it, 4.8 to 36
    assert after < before
    assert float(gap) > 0


def at_half_rate(recipe: Recipe) -> Recipe:
    """Return the recipe at half its learning rate: at the full rate the loss is too noisy."""
    whole = recipe.to_dict()
    rate = {"learning_rate": recipe.optimizer.learning_rate / 2}
    return recipe_from_dict(whole | {"optimizer": whole["optimizer"] | rate}, source="test")


@pytest.mark.parametrize("game", GAMES)
def test_the_generator_learns_to_pass(game: str) -> None:
    """Some steps against a fixed discriminator: generated pictures get higher logits."""
    torch.manual_seed(0)
    gan = Gan(changed("loss", adversarial_kind=game, adversarial=1.0, pixel=0.0))
    drawn = batch()
    gan.step(drawn, 0)

    def mean_logit() -> float:
        with torch.no_grad():
            return float(gan.discriminator.eval()(gan.network(drawn.lr)).mean())

    before = mean_logit()
    for _ in range(10):
        gan.generator_step(drawn, gan.network(drawn.lr), 1)
    assert mean_logit() > before


def test_every_loss_has_its_name() -> None:
    """Terms that are off are not computed; LDL starts late, R1 is periodic."""
    gan = Gan(TINY)
    found = [gan.step(batch(step), step) for step in range(4)]
    always = {"loss", "pixel", "adversarial", "feature_matching", "discriminator"}
    assert [set(losses) - always for losses in found] == [{"r1"}, set(), {"ldl"}, {"ldl", "r1"}]
    total = found[1]["pixel"] + 0.1 * (found[1]["adversarial"] + found[1]["feature_matching"])
    assert found[1]["loss"] == pytest.approx(total, rel=1e-5)


def test_the_game_is_balanced() -> None:
    """With `balance` b, the adversarial gradient is b times the others, however steep it is."""
    gan = Gan(changed("loss", balance=0.5, feature_matching=0.0, ldl=0.0))
    made = torch.rand(1, 3, 8, 8, requires_grad=True)
    steep, flat = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    terms = {"pixel": (flat * made).sum(), "adversarial": 1e4 * (steep * made).sum()}
    _, gradient = gan._balanced_gradient(made, terms)
    torch.testing.assert_close(gradient, flat + 0.5 * steep * flat.norm() / steep.norm())
    terms = {"pixel": (flat * made).sum(), "adversarial": (steep * made).sum()}
    loss, gradient = Gan(TINY)._balanced_gradient(made, terms)
    torch.testing.assert_close(gradient, flat + 0.1 * steep)
    assert loss == pytest.approx(((flat + 0.1 * steep) * made).sum().item(), rel=1e-5)


def test_all_terms_together() -> None:
    """All weights of the recipe at once give finite losses, each by its name."""
    names = [f.name for f in dataclasses.fields(LossRecipe) if f.default in (0.0, 1.0)]
    recipe = changed("loss", **dict.fromkeys(names, 0.1), ldl_from=0.0)
    names.remove("balance")
    taught = dataclasses.replace(batch(), teacher=batch().hr)
    found = Gan(recipe).step(taught, 0)
    assert set(names) <= found.keys()
    assert all(torch.isfinite(torch.tensor(value)) for value in found.values())


def test_the_pixel_stage_takes_other_terms() -> None:
    """One term is returned as `loss` alone; several are returned by name."""
    table = TINY.to_dict() | {"objective": "pixel", "loss": {"fourier": 0.05}}
    found = objectives.build(recipe_from_dict(table, source="test")).step(batch(), 0)
    assert found["loss"] == pytest.approx(found["pixel"] + 0.05 * found["fourier"], rel=1e-5)
    plain = objectives.build(recipe_from_dict(table | {"loss": {}}, source="test"))
    assert plain.step(batch(), 0).keys() == {"loss"}


def test_a_killed_adversarial_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Both networks, both optimizers, the spectral norms and LDL's average: resumed bit-equal."""
    train(TINY, made_pairs(), tmp_path / "whole")
    with pytest.raises(Killed):
        train(TINY, made_pairs(), tmp_path / "killed", on_step=kill_at(6))  # type: ignore[arg-type]
    train(TINY, made_pairs(), tmp_path / "killed")
    a = checkpoint.load(tmp_path / "whole" / "last.safetensors")[0]
    b = checkpoint.load(tmp_path / "killed" / "last.safetensors")[0]
    assert equal(a, b)
    assert any("discriminator_optimizer" in name for name in a)
    assert any("averaged" in name for name in a)


def test_it_starts_from_the_pixel_stage(tmp_path: Path) -> None:
    """Step 0 of the adversarial stage sees the parent's weights, also in LDL's average."""
    table = TINY.to_dict() | {"objective": "pixel", "loss": {}}
    parent = train(recipe_from_dict(table, source="test"), made_pairs(), tmp_path / "pixel")
    still = changed("optimizer", learning_rate=1e-12, warm_up=0)
    child = train(still, made_pairs(), tmp_path / "gan", start_from=parent)
    expected = load_weights(parent)[0]
    for name, value in load_weights(child)[0].items():
        torch.testing.assert_close(value, expected[name])
    last = checkpoint.load(tmp_path / "gan" / "last.safetensors")[0]
    averaged = checkpoint.without_prefix("objective.averaged", last)
    torch.testing.assert_close(averaged["convs.0.weight"], expected["convs.0.weight"])


@pytest.mark.parametrize(("width", "millions"), [(16, 0.27), (32, 1.10)])
def test_the_discriminator_is_real_esrgans(width: int, millions: float) -> None:
    """The published size; one logit per pixel, four maps of features."""
    net = UNetDiscriminator(width)
    count = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.006)
    logits, maps = net.with_features(torch.rand(2, 3, 16, 24))
    assert logits.shape == (2, 1, 16, 24)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (width * 2**k, 16 >> k, 24 >> k) for k in range(4)
    ]


def test_the_spectral_norm_is_one() -> None:
    """After some steps of its estimate no inner convolution has a singular value over about 1."""
    net = UNetDiscriminator(4).train()
    for _ in range(30):
        net(torch.rand(1, 3, 16, 16))
    inner = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
    assert len(inner) == 8
    for conv in inner:
        largest = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1, abs=0.02)


def test_a_discriminator_of_details_does_not_see_color() -> None:
    """A color cast changes no logit; a texture does."""
    net = UNetDiscriminator(4, details=True).eval()
    picture = torch.rand(1, 3, 16, 16)
    cast = torch.tensor([0.1, -0.2, 0.3])[:, None, None]
    torch.testing.assert_close(net(picture + cast), net(picture), atol=1e-5, rtol=1e-4)
    assert (net(picture.flip(-1)) - net(picture)).abs().max().item() > 1e-3


@pytest.mark.parametrize(
    ("table", "values", "message"),
    [
        ("loss", {"adversarial": 0.0}, "adversarial = 0.0, allowed: over 0 with objective = 'gan'"),
        ("loss", {"adversarial_kind": "wgan"}, "allowed: 'bce', 'ragan', 'rpgan'"),
        ("loss", {"pixel": -1.0}, "loss.pixel = -1.0, allowed: 0 or more"),
        ("loss", {"adversial": 1.0}, "did you mean 'loss.adversarial'"),
        ("discriminator", {"sees": "hsv"}, "discriminator.sees = 'hsv', allowed: 'rgb', 'details'"),
        ("data", {"patch_px": 9}, r"data.patch_px = 9, allowed: .* patch_px \* 2 is a multiple"),
        ("network", {"attention": "cbam"}, "allowed: 'none', 'se', 'span'"),
    ],
)
def test_mistakes_in_the_recipe(table: str, values: dict[str, object], message: str) -> None:
    """The error names key, value and allowed values."""
    with pytest.raises(RecipeError, match=message):
        changed(table, **values)


def test_a_game_needs_its_objective() -> None:
    """An adversarial weight in a pixel run would be ignored: it is an error."""
    with pytest.raises(RecipeError, match=r"adversarial = 0\.1, allowed: 0 unless objective"):
        recipe_from_dict(TABLE | {"objective": "pixel"}, source="test")


def test_random_features_do_not_depend_on_the_run() -> None:
    """Fixed by their own seed, frozen, four scales of like size."""
    torch.manual_seed(1)
    one = perceptual.build(LossRecipe())
    torch.manual_seed(2)
    two = perceptual.build(LossRecipe())
    assert equal(copied(one), copied(two))
    assert not any(parameter.requires_grad for parameter in one.parameters())
    maps = one(torch.rand(1, 3, 32, 32))
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4]
    sizes = [float(m.std()) for m in maps]
    assert max(sizes) < 10 * min(sizes)


def test_vgg_weights_come_from_the_users_file(tmp_path: Path) -> None:
    """Names and layout of torchvision; other files give an error, and their code is not run."""
    path = tmp_path / "vgg19.pth"
    widths = [64, 64, 128, 128, *[256] * 4, *[512] * 8]
    indices = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    state, before = {"classifier.0.weight": torch.zeros(1)}, 3
    for index, width in zip(indices, widths, strict=True):
        state[f"features.{index}.weight"] = torch.full((width, before, 3, 3), 0.001)
        state[f"features.{index}.bias"] = torch.zeros(width)
        before = width
    torch.save(state, path)
    net = perceptual.build(LossRecipe(perceptual_net="vgg", perceptual_file=str(path)))
    maps = net(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:3]) for m in maps] == [
        (64, 32),
        (128, 16),
        (256, 8),
        (512, 4),
        (512, 2),
    ]
    del state["features.34.weight"]
    torch.save(state, path)
    with pytest.raises(ValueError, match="not a state dict of torchvision's vgg19"):
        perceptual.build(LossRecipe(perceptual_net="vgg", perceptual_file=str(path)))
    torch.save(nn.Linear(1, 1), path)
    with pytest.raises(ValueError, match="not a file of torch weights"):
        perceptual.build(LossRecipe(perceptual_net="vgg", perceptual_file=str(path)))
    with pytest.raises(ValueError, match="no such file"):
        perceptual.build(LossRecipe(perceptual_net="vgg", perceptual_file="none.pth"))


def test_features_of_our_own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any network with `features(picture)` works; one without is an error."""
    net = networks.build(NetworkRecipe(width=8, depth=2), 2)
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, net.state_dict(), {"recipe": TINY.to_dict()})
    wanted = LossRecipe(perceptual_net="ae", perceptual_file=str(path))
    with pytest.raises(ValueError, match="tiny is not an autoencoder: it has no features"):
        perceptual.build(wanted)
    monkeypatch.setattr(type(net), "features", lambda self, x: [self.convs[0](x)], raising=False)
    (features,) = perceptual.build(wanted)(torch.rand(1, 3, 8, 8))
    assert features.shape == (1, 8, 8, 8)


def test_the_smoke_recipe_runs(tmp_path: Path, repository: Path) -> None:
    """From the command line, all parts of the adversarial stage at once."""
    recipe = repository / "training" / "recipes" / "gan_smoke.toml"
    data = tmp_path / "data"
    data.mkdir()
    for pair in made_pairs():
        Image.fromarray(pair.hr).save(data / f"{pair.name}.png")
    assert main([str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "weights.safetensors").is_file()
