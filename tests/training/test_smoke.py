"""The shipped smoke recipes of `ae` and `vae`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.runs import pairs
from training.loop import JOURNAL, train
from training.recipe.schema import read_recipe


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smoke_ae", "smoke_vae"])
def test_smoke_recipes_run(name: str, repository: Path, tmp_path: Path) -> None:
    """They run to the end, with scores; what they learn in 60 steps does not matter."""
    recipe = read_recipe(repository / "training" / "recipes" / f"{name}.toml")
    drawn = pairs(recipe.scale, side=96)
    train(recipe, drawn, tmp_path, tests={"drawn": drawn})
    last = json.loads((tmp_path / JOURNAL).read_text().splitlines()[-1])
    assert last["step"] == recipe.steps
    assert any(key.startswith("drawn") for key in last)
