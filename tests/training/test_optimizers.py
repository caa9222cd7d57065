"""Muon: orthogonal updates for kernels, AdamW for vectors, exact resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.runs import assert_resumes_exactly, pairs, tiny
from training import optimizers
from training.recipe.schema import OptimizerRecipe, RecipeError


@pytest.mark.parametrize("shape", [(32, 288), (288, 32), (48, 48)])
def test_updates_are_nearly_orthogonal(shape: tuple[int, int]) -> None:
    """All singular values, which spanned two decades, lie around 1."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = shape
    left = torch.linalg.qr(torch.randn(rows, rows, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=generator))[0]
    count = min(shape)
    values = torch.logspace(0, -2, count)
    matrix = left[:, :count] * values @ right[:count]
    found = torch.linalg.svdvals(optimizers.orthogonalized(matrix))
    assert found.min() > 0.3
    assert found.max() < 1.3


def test_zero_gradients_change_nothing() -> None:
    """A dead layer stays finite."""
    zeros = torch.zeros(4, 9)
    assert torch.equal(optimizers.orthogonalized(zeros), zeros)


def test_vectors_move_as_with_adamw() -> None:
    """Biases follow AdamW without weight decay; kernels do not."""
    torch.manual_seed(0)
    nets = [nn.Conv2d(3, 4, 3) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    recipe = OptimizerRecipe()
    muon = optimizers.build(nets[0], OptimizerRecipe(kind="muon"))
    adamw = optimizers.build(nets[1], recipe)
    assert isinstance(muon, optimizers.Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    for optimizer, net in zip((muon, adamw), nets, strict=True):
        for number in range(3):
            for parameter in net.parameters():
                generator = torch.Generator().manual_seed(number)
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
    bias = [net.bias for net in nets]
    assert bias[0] is not None
    assert bias[1] is not None
    torch.testing.assert_close(bias[0], bias[1], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(nets[0].weight, nets[1].weight, atol=1e-3)


@pytest.mark.parametrize("family", ["gan", "ae", "vae"])
def test_runs_resume_exactly(family: str, tmp_path: Path) -> None:
    """The running means are saved with the run."""
    scale = 1 if family == "ae" else 2
    recipe = tiny(family, scale, optimizer={"kind": "muon", "warm_up": 2})
    assert_resumes_exactly(recipe, pairs(scale), tmp_path)


def test_unknown_kinds_are_refused() -> None:
    """The message names the known ones."""
    with pytest.raises(RecipeError, match=r"optimizer\.kind = 'sgd', allowed: 'adamw', 'muon'"):
        tiny("gan", 2, optimizer={"kind": "sgd"})
