"""`--texture`: interpolation between a parent's weights and its adversarially trained ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.cli import main
from export.graph.session import session_run
from export.options import Options
from export.pipeline import export
from export.sources.checkpoint import open_checkpoint, open_mixture
from srsdk.manifest import read_manifest
from tests.conftest import make_picture
from tests.export.conftest import RECIPE
from training import checkpoint, networks
from training.checkpoint import load_weights
from training.recipe.schema import recipe_from_dict


@pytest.fixture(scope="module")
def gan(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same net with a small change of every weight, as after more training."""
    torch.manual_seed(2)
    tensors, facts = load_weights(weights)
    moved = {name: t + 0.01 * torch.randn(t.shape) for name, t in tensors.items()}
    path = tmp_path_factory.mktemp("gan") / "weights.safetensors"
    checkpoint.save(path, moved, facts)
    return path


def test_the_ends_are_the_two_nets(weights: Path, gan: Path) -> None:
    """0 gives the parent's output and 1 the source's, bit for bit."""
    picture = make_picture(24, 31)[None]
    for texture, path in ((0.0, weights), (1.0, gan)):
        mixed = open_mixture(gan, weights, texture)
        assert np.array_equal(mixed.reference(picture), open_checkpoint(path).reference(picture))


def test_half_way_is_the_mean_of_the_weights(weights: Path, gan: Path, tmp_path: Path) -> None:
    """At 0.5 the file computes what a net of averaged weights computes; its manifest holds 0.5."""
    export(gan, tmp_path / "half.onnx", Options(texture=0.5, parent=weights))
    a, b = load_weights(weights)[0], load_weights(gan)[0]
    checkpoint.save(
        tmp_path / "mean.safetensors",
        {name: (a[name] + b[name]) / 2 for name in a},
        {"recipe": RECIPE.to_dict(), "step": 0},
    )
    picture = make_picture(24, 31)[None]
    expected = open_checkpoint(tmp_path / "mean.safetensors").reference(picture)
    result = session_run(onnx.load(tmp_path / "half.onnx"))(picture)
    assert np.abs(result.astype(int) - expected).max() <= 1
    manifest = read_manifest(tmp_path / "half.onnx")
    assert manifest is not None
    assert (manifest.name, manifest.texture) == ("toy_x2", 0.5)


def test_both_files_and_the_share_are_in_the_key(
    weights: Path, gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same share and parent, the file is up to date; with others, it is another file."""
    parent = tmp_path / "parent.safetensors"
    parent.write_bytes(weights.read_bytes())
    call = [str(gan), "-o", str(tmp_path / "a.onnx"), "--parent", str(parent), "--texture"]
    assert main([*call, "0.5"]) == 0
    assert "texture 0.5 (0 is the parent" in capsys.readouterr().out
    assert main([*call, "0.5"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main([*call, "0.6"]) == 1
    assert "--force replaces it" in capsys.readouterr().err
    parent.write_bytes(gan.read_bytes())
    assert main([*call, "0.5"]) == 1
    assert "--force replaces it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("texture", "has_parent", "message"),
    [
        ("0.5", False, "--texture and --parent go together"),
        (None, True, "--texture and --parent go together"),
        ("1.5", True, "expected 0 (the parent) to 1 (the source)"),
        ("-0.1", True, "expected 0 (the parent) to 1 (the source)"),
        ("nan", True, "expected 0 (the parent) to 1 (the source)"),
    ],
)
def test_wrong_calls(
    weights: Path,
    gan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    texture: str | None,
    has_parent: bool,
    message: str,
) -> None:
    """Each gives exit code 2, the fact and where the help is; nothing is written."""
    call = [str(gan), "-o", str(tmp_path / "a.onnx")]
    call += [] if texture is None else [f"--texture={texture}"]
    call += ["--parent", str(weights)] if has_parent else []
    assert main(call) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2
    assert message in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": {"width": 4, "depth": 3}}, "expected one architecture"),
        ({"scale": 4}, "expected one architecture"),
        ({"family": "vae"}, "weights of family vae cannot be mixed, expected gan"),
        (None, "not a safetensors file"),
    ],
)
def test_two_that_cannot_be_mixed(
    gan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, object] | None,
    message: str,
) -> None:
    """Each gives exit code 1 and a one-line error that names the file."""
    parent = tmp_path / "parent.safetensors"
    if values is None:
        parent.write_bytes(b"no weights")
    else:
        recipe = recipe_from_dict(RECIPE.to_dict() | values, source="test")
        net = networks.for_recipe(recipe)
        checkpoint.save(parent, net.state_dict(), {"recipe": recipe.to_dict(), "step": 0})
    call = [str(gan), "--parent", str(parent), "--texture", "0.5", "-o", str(tmp_path / "a.onnx")]
    assert main(call) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert parent.name in error
    assert not (tmp_path / "a.onnx").exists()
