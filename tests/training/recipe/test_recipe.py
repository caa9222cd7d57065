"""Recipes are read and checked before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from training.recipe.schema import RecipeError, read_recipe, recipe_from_dict


def write(tmp_path: Path, text: str) -> Path:
    """Write a recipe."""
    path = tmp_path / "r.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_recipes_are_valid(repository: Path) -> None:
    """Each is named like its file; `_late`, `_long` and `_mse` are later runs of the same model."""
    recipes = sorted((repository / "training" / "recipes").glob("*.toml"))
    assert len(recipes) >= 2
    for path in recipes:
        assert read_recipe(path).name == re.sub("_(late|long|mse)$", "", path.stem)


def test_values_and_defaults(tmp_path: Path) -> None:
    """Tables become nested values; integers are accepted for floats; the rest has defaults."""
    recipe = read_recipe(write(tmp_path, 'name="a"\nscale=2\n[optimizer]\nlearning_rate=1\n'))
    assert recipe.optimizer.learning_rate == 1.0
    assert recipe.network.width == 32
    assert recipe_from_dict(recipe.to_dict(), source="x") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name="a"\nscale=2\nstep=3', r"unknown key 'step'; did you mean 'steps'\?"),
        (
            'name="a"\nscale=2\n[data]\npatch_pix=3',
            r"'data.patch_pix'; did you mean 'data.patch_px'\?",
        ),
        ('name="a"\nscale=2\nzzz=3', "known: "),
        ("scale=2", "missing 'name'"),
        ('name="a"\nscale="2"', r"scale = '2' \(str\), expected int"),
        ('name="a"\nscale=true', "expected int"),
        ('name="a"\nscale=5', "scale = 5, allowed: 2, 3 or 4"),
        ('name="a"\nscale=2\nsteps=0', "steps = 0, allowed: a positive number"),
        ('name="a"\nscale=2\ndata=3', "expected a table"),
        ('name="a', "not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    """The error names file, key, value and allowed values; for a typo, the nearest key."""
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(write(tmp_path, text))
    assert "r.toml" in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """Both are named."""
    with pytest.raises(RecipeError, match="no such file"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="is a folder"):
        read_recipe(tmp_path)
