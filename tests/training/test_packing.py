"""Published weights: float16, complete, and described by a card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from training import checkpoint, networks
from training.checkpoint import load_weights
from training.cli import main
from training.packing import pack
from training.recipe.schema import recipe_from_dict

WEIGHTS = sorted((Path(__file__).parents[2] / "training" / "weights").glob("*.safetensors"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a random net."""
    torch.manual_seed(0)
    recipe = recipe_from_dict({"name": "toy", "scale": 2}, source="test")
    path = tmp_path / "weights.safetensors"
    facts = {"recipe": recipe.to_dict(), "step": 7}
    checkpoint.save(path, networks.for_recipe(recipe).state_dict(), facts)
    return path


def test_a_round_trip_rounds_to_float16_and_no_more(weights: Path, tmp_path: Path) -> None:
    """Weights are read as float32, off by at most half a float16 step; recipe and step stay."""
    pack(weights, tmp_path / "packed.safetensors")
    before, facts = load_weights(weights)
    after, kept = load_weights(tmp_path / "packed.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == torch.float32
        assert torch.allclose(after[name], tensor, rtol=2**-11, atol=2**-25)
    assert (kept["recipe"], kept["step"]) == (facts["recipe"], 7)
    net = networks.for_recipe(recipe_from_dict(kept["recipe"], source="test"))
    networks.warm_start(net, after)


def test_half_the_size(weights: Path, tmp_path: Path) -> None:
    """Two bytes a weight instead of four."""
    pack(weights, tmp_path / "packed.safetensors")
    sizes = []
    for path in (weights, tmp_path / "packed.safetensors"):
        tensors = checkpoint.load(path)[0]
        sizes.append(sum(t.numel() * t.element_size() for t in tensors.values()))
    assert sizes[0] == 2 * sizes[1]
    assert (tmp_path / "packed.safetensors").stat().st_size < 0.6 * weights.stat().st_size


def test_a_checkpoint_gives_its_averaged_weights(weights: Path, tmp_path: Path) -> None:
    """The optimizer and the raw weights of `last` are left out."""
    tensors, facts = load_weights(weights)
    last = {**checkpoint.prefixed("ema", tensors), "objective.x": torch.zeros(9)}
    checkpoint.save(tmp_path / "last.safetensors", last, {**facts, "patches": {}})
    pack(tmp_path / "last.safetensors", tmp_path / "packed.safetensors")
    packed, kept = checkpoint.load(tmp_path / "packed.safetensors")
    assert packed.keys() == tensors.keys()
    assert set(kept) == {"recipe", "step", "source_sha256"}


def test_the_command_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is overwritten without `--force`; the error is one line."""
    out = tmp_path / "packed.safetensors"
    call = ["pack", str(weights), "-o", str(out)]
    assert main(call) == 0
    out.write_bytes(b"old")
    assert main(call) == 1
    assert capsys.readouterr().err == f"training: {out} exists; --force replaces it\n"
    assert out.read_bytes() == b"old"
    assert main([*call, "--force"]) == 0
    assert load_weights(out)[1]["step"] == 7


def test_a_weight_beyond_float16_is_refused(weights: Path, tmp_path: Path) -> None:
    """No infinity is published; nothing is written."""
    tensors, facts = load_weights(weights)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = 1e5
    checkpoint.save(weights, tensors, facts)
    with pytest.raises(checkpoint.CheckpointError, match=f"{name} holds a weight beyond float16"):
        pack(weights, tmp_path / "packed.safetensors")
    assert not (tmp_path / "packed.safetensors").exists()


def test_some_weights_are_published() -> None:
    """The folder of weights is where this test looks for it."""
    assert {"gan_x2", "gan_x4", "gan_x4_texture", "vae_x4"} <= {path.stem for path in WEIGHTS}


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_what_is_published(path: Path) -> None:
    """Each is float16, under 3 MB, loads into the network of its recipe, and has a card."""
    with safe_open(path, framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no dict
    assert kinds == {"F16"}
    assert path.stat().st_size < 3_000_000
    tensors, facts = load_weights(path)
    recipe = recipe_from_dict(facts["recipe"], source=path.name)
    net = networks.for_recipe(recipe)
    networks.warm_start(net, tensors)
    # `_base`: an earlier training, kept for networks that started from it
    assert recipe.name == path.stem.removesuffix("_base")
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert f"training/recipes/{recipe.name}.toml" in card
    assert (path.parents[1] / "recipes" / f"{recipe.name}.toml").is_file()
    assert f"{sum(p.numel() for p in net.parameters()):,} parameters" in card
    assert f"{facts['step']:,} steps" in card
    for heading in ("Architecture", "Recipe", "Data and its terms", "Scores", "Limits"):
        assert f"## {heading}\n" in card
    assert "No picture of Set5, Set14 or BSD100 was trained on" in card
    assert facts["source_sha256"] in card
