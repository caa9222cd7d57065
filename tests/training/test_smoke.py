"""The smoke recipes of `ae` and `vae`, as they are shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.runs import pairs
from training.loop import JOURNAL, train
from training.recipe import read_recipe


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smoke_ae", "smoke_vae"])
def test_smoke_recipes_run(name: str, repository: Path, tmp_path: Path) -> None:
    """To the end, with scores; what is learned in sixty steps does not matter."""
    recipe = read_recipe(repository / "training" / "recipes" / f"{name}.toml")
    drawn = pairs(recipe.scale, side=96)
    train(recipe, drawn, tmp_path, tests={"drawn": drawn})
    last = json.loads((tmp_path / JOURNAL).read_text().splitlines()[-1])
    assert last["step"] == recipe.steps
    assert any(key.startswith("drawn") for key in last)
