"""`training.assess`: each figure against a case whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from tests.training.runs import tiny
from training import checkpoint, networks
from training.assess import COVERAGE, coverage, main, psnr_rgb, rank_correlation
from training.networks.vae import confidence


def test_rank_correlation_by_hand() -> None:
    """1 for any rising relation, -1 for a falling one; 1 - 6 sum d^2 / (n (n^2 - 1)) otherwise."""
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    b = np.array([2.0, 1.0, 4.0, 3.0, 5.0])
    assert rank_correlation(a, b) == pytest.approx(1 - 6 * 4 / (5 * 24))


def test_coverage_of_a_calibrated_confidence() -> None:
    """Errors drawn from the predicted distribution are inside nine times out of ten."""
    random = np.random.default_rng(0)
    b = np.exp(random.uniform(-6, -2, 40_000))
    error = np.abs(random.laplace(0, b[:, None], (40_000, 3)))
    sure = confidence(torch.from_numpy(np.log(b))).numpy()
    assert coverage(error, sure) == pytest.approx(COVERAGE, abs=0.003)
    assert coverage(error * 4, sure) < 0.6


def test_psnr_of_rgb_by_hand() -> None:
    """One level everywhere is 48.13 dB; equal pictures are infinite."""
    picture = np.full((9, 7, 3), 100, np.uint8)
    assert psnr_rgb(picture + np.uint8(1), picture) == pytest.approx(48.1308, abs=1e-3)
    assert psnr_rgb(picture, picture) == float("inf")


def saved(folder: Path, family: str, scale: int) -> Path:
    """Write weights of a new net."""
    recipe = tiny(family, scale)
    torch.manual_seed(0)
    path = folder / f"{family}.safetensors"
    net = networks.for_recipe(recipe)
    checkpoint.save(path, net.state_dict(), {"recipe": recipe.to_dict(), "step": 0})
    return path


def size_of(path: Path) -> tuple[int, int]:
    """Return a picture's (width, height)."""
    with Image.open(path) as image:
        return image.size


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of either family, and a sheet; a one-line error for other networks."""
    data = tmp_path / "drawn"
    data.mkdir()
    Image.fromarray(make_picture(164, 168)).save(data / "a.png")
    call = ["--data", str(data), "--sheet", str(tmp_path / "sheet.png")]
    assert main([str(saved(tmp_path, "ae", 1)), *call]) == 0
    out = capsys.readouterr().out
    assert "color noise, sigma 25: " in out
    assert "JPEG, quality 10: " in out
    assert size_of(tmp_path / "sheet.png") == (5 * 160, 160)
    parent = ["--parent", str(saved(tmp_path, "gan", 4))]
    assert main([str(saved(tmp_path, "vae", 4)), *call, *parent]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("mean: ", "parent: ", "rank correlation", "coverage"))
    assert size_of(tmp_path / "sheet.png") == (7 * 160, 160)
    assert main([str(saved(tmp_path, "gan", 4)), *call]) == 1
    assert "neither a restorer at x1 nor a conditional vae" in capsys.readouterr().err
