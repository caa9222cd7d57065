"""The autoencoder: shapes, losses by hand, resume, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.graph.wrapper import Uint8Graph
from tests.conftest import make_picture
from tests.training.runs import assert_exports, assert_resumes_exactly, pairs, tiny
from training import networks, objectives
from training.checkpoint import load_weights
from training.data.corruption import versions_of
from training.data.pictures import Batch, Pair, Patches
from training.evaluation.evaluate import network, score
from training.loop import train
from training.networks.autoencoder import Autoencoder, Decoder, Encoder, encoded_levels
from training.objectives.ae import Restore, relative_weights, spectrum_l1
from training.recipe.schema import RecipeError

DAMAGE = {"noise_max": 50.0, "jpeg_max": 95}


def build(scale: int = 1, **ae: object) -> Autoencoder:
    """Return a narrow net."""
    net = networks.for_recipe(tiny("ae", scale, ae={"width": 8, **ae}))
    assert isinstance(net, Autoencoder)
    return net


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("skips", [True, False])
def test_shapes(scale: int, skips: bool) -> None:
    """The output is `scale` times the input; the encoder's maps are at 1/2, 1/4 and 1/8."""
    net = build(scale, skips=skips, eighth=12)
    picture = torch.rand(2, 3, 24, 40)
    assert net(picture).shape == (2, 3, 24 * scale, 40 * scale)
    assert [tuple(m.shape[1:]) for m in net.features(picture)] == [
        (8, 12, 20),
        (8, 6, 10),
        (12, 3, 5),
    ]
    assert (net.scale, net.multiple_px) == (scale, 8)


def test_the_shipped_size() -> None:
    """0.67 M parameters."""
    assert sum(p.numel() for p in build(width=64).parameters()) == 670_924


def test_a_new_restorer_passes_the_picture_on() -> None:
    """It starts near the identity, and every layer gets a gradient."""
    torch.manual_seed(0)
    net, picture = build(), torch.rand(2, 3, 32, 32)
    restored = net(picture)
    assert float((restored - picture).abs().mean().detach()) < 0.5
    restored.square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters())


def test_without_skips_all_goes_through_the_latent() -> None:
    """The picture is a function of the latent alone, whose size the recipe sets."""
    net = build(skips=False, latent=5)
    picture = torch.rand(1, 3, 32, 48)
    latent = net.encode(picture)
    assert latent.shape == (1, 5, 4, 6)
    torch.testing.assert_close(net.decode(latent), net(picture))


def test_a_latent_alone_is_not_enough_with_skips() -> None:
    """It is an error."""
    net = build()
    with pytest.raises(ValueError, match="cannot decode a latent alone"):
        net.decode(net.encode(torch.rand(1, 3, 16, 16)))


def test_losses_by_hand() -> None:
    """L1 and MSE are means; Parseval: the orthonormal spectrum of an impulse is flat."""
    got, wanted = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    l1 = Restore(tiny("ae", 1)).losses(got, wanted)
    mse = Restore(tiny("ae", 1, ae={"width": 8, "loss": "mse"})).losses(got, wanted)
    assert float(l1["pixel"]) == pytest.approx(0.5)
    assert float(mse["pixel"]) == pytest.approx(0.25)
    # luma's weights add up to 219/255
    assert float(l1["luma"]) == pytest.approx(0.5 * 219 / 255)
    assert float(mse["luma"]) == pytest.approx((0.5 * 219 / 255) ** 2)
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[..., 0, 0] = 1.0
    # every coefficient is 1/8 + 0i: the mean over real and imaginary parts is 1/16
    assert float(spectrum_l1(impulse, torch.zeros(1, 1, 8, 8))) == pytest.approx(1 / 16)


def test_the_loss_is_the_weighted_sum() -> None:
    """`loss` is what is minimized."""
    objective = objectives.build(tiny("ae", 1, ae={"width": 8, "fft": 0.5, "luma": 2.0}))
    assert isinstance(objective, Restore)
    losses = objective.step(Patches(pairs(1), 16, 4, 0).draw(), 0)
    expected = losses["pixel"] + 0.5 * losses["fft"] + 2.0 * losses["luma"]
    assert losses["loss"] == pytest.approx(expected)


def test_relative_weights_even_out_the_damage() -> None:
    """Patches damaged by 1 and by 9 levels count 5 to 1: 1 / (1 + 1) and 1 / (9 + 1); mean 1."""
    hr = torch.full((2, 3, 8, 8), 0.5)
    lr = hr + torch.tensor([1.0, 9.0]).reshape(2, 1, 1, 1) / 255
    weights = relative_weights(Batch(lr, hr)).flatten()
    assert float(weights[0] / weights[1]) == pytest.approx(5.0)
    assert float(weights.mean()) == pytest.approx(1.0)


def test_levels_are_encoded() -> None:
    """Known or not, sigma / 50, and how far from quality 100; -1 beside another level is none."""
    given = torch.tensor([[-1, -1], [0, -1], [25, -1], [-1, 10], [50, 100]], dtype=torch.float32)
    expected = [[0, 0, 0], [1, 0, 0], [1, 0.5, 0], [1, 0, 0.9], [1, 1, 0]]
    torch.testing.assert_close(encoded_levels(given), torch.tensor(expected))


def test_levels_that_are_not_given_are_unknown() -> None:
    """The network without its second input restores blindly; a level changes the result."""
    torch.manual_seed(0)
    net = build(levels=True).eval()
    x = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        blind = net(x)
        assert torch.equal(net(x, torch.tensor([-1.0, -1.0])), blind)
        told = net(x, torch.tensor([[-1.0, -1.0], [25.0, -1.0]]))
    torch.testing.assert_close(told[0], blind[0])
    assert not torch.allclose(told[1], blind[1])


def test_some_levels_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the patches, each on its own; without `ae.levels` the network gets none."""
    data = {"corrupt": {"noise_max": 50.0}, "data": {"patch_px": 16, "batch": 64}}
    levels = torch.stack([torch.linspace(1, 50, 64), torch.full((64,), -1.0)], dim=1)
    batch = Batch(torch.rand(64, 3, 16, 16), torch.rand(64, 3, 16, 16), levels=levels)
    for on in (True, False):
        restore = Restore(tiny("ae", 1, ae={"width": 8, "levels": on}, **data))
        seen: list[tuple[Tensor, ...]] = []
        forward = restore.network.forward

        def spy(*given: Tensor, seen: list[tuple[Tensor, ...]] = seen) -> Tensor:
            seen.append(given[1:])
            result: Tensor = forward(*given)  # noqa: B023 - called in this turn
            return result

        monkeypatch.setattr(restore.network, "forward", spy)
        restore.step(batch, 0)
        (given,) = seen
        if on:
            told = given[0][:, 0] > 0
            assert 16 < int(told.sum()) < 48
            assert torch.equal(given[0][told], levels[told])
            assert bool((given[0][~told] == -1).all())
        else:
            assert not given


def test_it_resumes_exactly(tmp_path: Path) -> None:
    """With damage, whose random state is in the checkpoint too."""
    recipe = tiny("ae", 1, corrupt=DAMAGE, data={"patch_px": 24, "batch": 4})
    assert_resumes_exactly(recipe, pairs(1), tmp_path)


def test_it_learns_to_remove_noise(tmp_path: Path) -> None:
    """After 120 steps on smooth pictures, noisy inputs improve by over 1 dB."""
    smooth = [Pair("", pair.lr[:, :40], pair.hr[:, :40]) for pair in pairs(1)]
    recipe = tiny(
        "ae",
        1,
        steps=120,
        evaluate_every=120,
        save_every=120,
        ae={"width": 32},
        optimizer={"warm_up": 20, "ema": 0.9},
        corrupt={"noise_max": 50.0},
        data={"patch_px": 32, "batch": 8},
    )
    weights = train(recipe, smooth, tmp_path, tests={"drawn": smooth})
    net = networks.for_recipe(recipe)
    networks.warm_start(net, load_weights(weights)[0])
    noisy = versions_of({"drawn": smooth}, recipe.corrupt)["drawn noise 25"]
    before = score(lambda lr: lr, noisy, 1).psnr_y_db
    assert score(network(net.eval()), noisy, 1).psnr_y_db > before + 1
    assert '"drawn noise 25": {"psnr_y_db":' in (tmp_path / "log.jsonl").read_text()


def test_pictures_of_any_size_are_evaluated() -> None:
    """Pictures are padded to the multiple, and the result is cropped."""
    for scale in (1, 2):
        upscaled = network(build(scale).eval())(make_picture(19, 33))
        assert upscaled.shape == (19 * scale, 33 * scale, 3)


@pytest.mark.parametrize(("scale", "skips"), [(1, True), (2, True), (1, False)])
def test_the_uint8_graph_exports(scale: int, skips: bool) -> None:
    """Dynamic height and width, declared as multiples of 8."""
    graph = Uint8Graph(build(scale, skips=skips))
    height, width = torch.export.Dim("h", min=1, max=512), torch.export.Dim("w", min=1, max=512)
    random = np.random.default_rng(0)
    images = [
        torch.from_numpy(random.integers(0, 256, shape, np.uint8))
        for shape in ((2, 56, 72, 3), (1, 8, 24, 3))
    ]
    dynamic = ({0: "batch", 1: 8 * height, 2: 8 * width},)
    assert_exports(graph, (images[0],), dynamic, [(images[1],)])


def test_encoder_and_decoder_export() -> None:
    """Each alone, so that a latent can be stored."""
    net = build(skips=False, latent=4).eval()
    height, width = torch.export.Dim("h", min=1, max=512), torch.export.Dim("w", min=1, max=512)
    pictures = {0: "batch", 2: 8 * height, 3: 8 * width}
    assert_exports(Encoder(net), (torch.rand(2, 3, 56, 72),), (pictures,), [])
    latents = {0: "batch", 2: "h", 3: "w"}
    assert_exports(Decoder(net), (torch.rand(2, 4, 7, 9),), (latents,), [(torch.rand(1, 4, 3, 5),)])


def test_weights_of_another_architecture_are_refused() -> None:
    """Width and skips must fit."""
    with pytest.raises(ValueError, match=r"another architecture: .* is"):
        networks.warm_start(build(), build(width=12).state_dict())
    with pytest.raises(ValueError, match=r"another architecture: .* differ"):
        networks.warm_start(build(), build(skips=False).state_dict())


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"data": {"patch_px": 20}}, "data.patch_px = 20, allowed: a multiple of 8, plus 0"),
        ({"corrupt": {"jpeg_max": 50}, "data": {"patch_px": 20}}, "a multiple of 8, plus 8"),
        ({"ae": {"loss": "l3"}}, "ae.loss = 'l3', allowed: 'l1' or 'mse'"),
        ({"ae": {"latent": 4}}, "ae.latent = 4, allowed: 0 where skips = true"),
        ({"ae": {"skip": True}}, r"unknown key 'ae.skip'; did you mean 'ae.skips'\?"),
    ],
)
def test_mistakes_are_named(tables: dict[str, object], message: str) -> None:
    """The error names key, value and allowed values."""
    with pytest.raises(RecipeError, match=message):
        tiny("ae", 1, **tables)
