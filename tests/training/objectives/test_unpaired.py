"""Unpaired training: the degrader learns the other domain; each step moves one network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import objectives
from training.cli import main
from training.data.degradation import convolve, gaussian_kernel
from training.data.pictures import Batch
from training.data.sources import UnpairedPatches
from training.data.synthetic import dead_leaves
from training.objectives.unpaired import Unpaired, bicubic, details
from training.recipe.schema import Recipe, recipe_from_dict

UNPAIRED = recipe_from_dict(
    {
        "name": "t",
        "scale": 2,
        "mode": "unpaired",
        "bf16": False,
        "network": {"width": 8, "depth": 1},
        "data": {"patch_px": 16, "batch": 4},
        "unpaired": {"learning_rate": 1e-3, "domain": 0.05},
    },
    source="test",
)


def blurred_domain(recipe: Recipe) -> UnpairedPatches:
    """Return a source whose real low-resolution pictures are reduced and blurred."""
    pairs = dead_leaves.pairs(4, 96, 2, seed=1)
    kernel = gaussian_kernel(9, 1.2, 1.2)
    real = [
        np.clip(convolve(pair.lr.astype(np.float32), kernel), 0, 255).astype(np.uint8)
        for pair in pairs[:2]
    ]
    return UnpairedPatches(real, [pair.hr for pair in pairs[2:]], recipe)


def detail(x: torch.Tensor) -> float:
    """Return the mean size of the detail bands."""
    return float(details(x.detach()).abs().mean())


def test_details_of_known_pictures() -> None:
    """A flat picture has none; a ramp has half its step across it, and none along it."""
    assert detail(torch.full((1, 3, 6, 6), 0.3)) == 0
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    across, along, both = details(ramp).unbind(1)
    assert torch.all(across == -0.5)
    assert torch.all(along == 0)
    assert torch.all(both == 0)


def test_it_begins_as_bicubic_and_learns_the_other_domain() -> None:
    """Where real pictures are blurred, the degrader learns to blur."""
    torch.manual_seed(0)
    source = blurred_domain(UNPAIRED)
    objective = objectives.build(UNPAIRED)
    assert isinstance(objective, Unpaired)
    batch = source.draw()
    noise = torch.randn(4, 1, 16, 16)
    before = objective.degrader(batch.hr, noise)
    assert torch.equal(before, bicubic(batch.hr, 2))
    for step in range(160):
        objective.step(source.draw(), step)
    with torch.no_grad():
        after = objective.degrader(batch.hr, noise)
    # the real pictures have a third of bicubic's detail; with ten seeds 0.43 to 0.62 of it remains
    assert detail(after) < 0.8 * detail(before)
    low = torch.nn.functional.avg_pool2d(after - before.detach(), 8)
    # and the colors stay: 0.03 to 0.09 with ten seeds, where a gray picture would be off by 0.14
    assert float(low.abs().mean()) < 0.12


def test_each_step_moves_its_own_network() -> None:
    """The discriminator's step leaves the degrader alone and vice versa; G sees no gradient."""
    torch.manual_seed(0)
    objective = Unpaired(UNPAIRED)
    batch = Batch(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32))

    def moved(call: object) -> set[str]:
        nets = dict(objective._networks())
        old = {name: [p.clone() for p in net.parameters()] for name, net in nets.items()}
        assert callable(call)
        call()
        return {
            name
            for name, net in nets.items()
            if any(not torch.equal(a, b) for a, b in zip(old[name], net.parameters(), strict=True))
        }

    made = objective.degrader(batch.hr, torch.randn(2, 1, 16, 16))
    assert moved(lambda: objective._super_resolve(made.detach(), batch.hr, 100)) == {"network"}
    small = made.detach()
    assert moved(lambda: objective._discriminator_step(batch.lr, small)) == {"discriminator"}
    assert moved(lambda: objective._degrade(made, batch.hr)) == {"degrader"}


def test_from_two_folders_with_exact_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line trains it; a restored objective continues exactly."""
    for name, seed in (("hr", 0), ("lr", 1)):
        (tmp_path / name).mkdir()
        for pair in dead_leaves.pairs(2, 48, 1, seed):
            Image.fromarray(pair.hr).save(tmp_path / name / f"{Path(pair.name).name}.png")
    source, first = blurred_domain(UNPAIRED), Unpaired(UNPAIRED)
    torch.manual_seed(5)
    for step in range(2):
        first.step(source.draw(), step)
    second = Unpaired(UNPAIRED)
    second.restore({name: value.clone() for name, value in first.tensors().items()})
    batch = source.draw()
    losses = []
    for objective in (first, second):
        torch.manual_seed(6)
        losses.append([objective.step(batch, 2), objective.step(batch, 3)])
    assert losses[0] == losses[1]
    recipe = tmp_path / "u.toml"
    recipe.write_text(
        'name = "u"\nscale = 2\nsteps = 2\nmode = "unpaired"\n[network]\nwidth = 4\ndepth = 1\n'
        "[data]\npatch_px = 8\nbatch = 2\n"
    )
    call = [str(recipe), "--out", str(tmp_path / "run"), "--data", str(tmp_path / "hr")]
    assert main(call) == 1
    assert "needs --lr DIR" in capsys.readouterr().err
    assert main([*call, "--lr", str(tmp_path / "lr")]) == 0
