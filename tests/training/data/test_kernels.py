"""Blur kernels: applied without a shift, estimated from pictures, and used by mode `adapt`."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from tests.training.runs import Killed
from training.checkpoint import load_weights
from training.cli import main
from training.data import batches, kernel_estimation, kernels
from training.data.batches import Folders
from training.data.kernel_estimation import with_estimate
from training.data.kernels import Kernel
from training.data.pictures import DataError
from training.data.resize import Picture, imresize
from training.data.synthetic import dead_leaves
from training.loop import Progress, train
from training.recipe.schema import Recipe, RecipeError, recipe_from_dict

TOLERANCE = 0.15
"""Allowed error of a sigma, relative to the larger one."""
TOLERANCE_DEG = 10.0


@cache
def natural() -> tuple[Picture, ...]:
    """Return pictures whose spectrum falls like that of photographs."""
    return tuple(pair.hr for pair in dead_leaves.pairs(8, 384, 4, seed=0))


def blurred(kernel: Kernel, scale: int, folder: Path | None = None) -> list[Picture]:
    """Return reduced pictures, written into `folder` if it is given."""
    made = [kernels.reduce(hr, kernels.taps(kernel, scale), scale) for hr in natural()]
    if folder is not None:
        folder.mkdir(parents=True)
        for number, picture in enumerate(made):
            Image.fromarray(picture).save(folder / f"{number}.png")
    return made


def recipe(kind: str, mode: str = "adapt", **sizes: object) -> Recipe:
    """Return a recipe of 8 steps that makes its inputs in some way."""
    table = {
        **{"name": "t", "scale": 2, "mode": mode, "steps": 8, "save_every": 4, "check_step": 0},
        "network": {"width": 8, "depth": 2},
        "data": {"patch_px": 12, "batch": 4},
        "degradation": {"kind": kind, **sizes},
    }
    return recipe_from_dict(table, source="test")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_weights_have_the_covariance_that_was_asked_for(scale: int) -> None:
    """They sum to 1, are centered, and fit between the pixels of the scale."""
    kernel = Kernel((3.0, 1.5), 30)
    weights = kernels.taps(kernel, scale)
    side = weights.shape[0]
    assert (side - scale) % 2 == 0
    axis = np.arange(side) - (side - 1) / 2
    x, y = np.meshgrid(axis, axis)
    assert weights.sum() == pytest.approx(1)
    assert abs((weights * x).sum()) < 1e-9
    moments = [(weights * a).sum() for a in (x * x, x * y, y * y)]
    wanted = kernel.covariance()
    # cut off at three sigmas
    np.testing.assert_allclose(moments, [wanted[0, 0], wanted[0, 1], wanted[1, 1]], rtol=0.05)
    assert wanted[0, 1] > 0  # to the right and down
    back = kernels.from_covariance(wanted)
    assert back.sigma_px == pytest.approx(kernel.sigma_px)
    assert back.angle_deg == pytest.approx(30)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_kernel_moves_nothing(scale: int) -> None:
    """Away from the borders a ramp is reduced as by MATLAB's bicubic, whatever the kernel."""
    ramp = np.add.outer(np.arange(0, 120, 2.5), np.arange(0, 120, 2.5)).astype(np.uint8)
    hr = ramp[..., None].repeat(3, axis=2)
    wanted = imresize(hr, 1 / scale)[4:-4, 4:-4].astype(int)
    for kernel in (Kernel((0.1, 0.1)), Kernel((2.0, 0.7), 120)):
        got = kernels.reduce(hr, kernels.taps(kernel, scale), scale)[4:-4, 4:-4]
        assert np.abs(got - wanted).max() <= 1


def test_a_tiny_kernel_keeps_the_center() -> None:
    """One pixel at an odd scale, the mean of 2x2 at an even one."""
    hr = make_picture(24, 24)
    point = Kernel((0.1, 0.1))
    np.testing.assert_array_equal(kernels.reduce(hr, kernels.taps(point, 3), 3), hr[1::3, 1::3])
    mean = sum(hr[i::4, j::4].astype(float) for i in (1, 2) for j in (1, 2)) / 4
    got = kernels.reduce(hr, kernels.taps(point, 4), 4)
    assert np.abs(got - mean).max() <= 0.5


@pytest.mark.parametrize(
    ("scale", "kernel"),
    [
        (2, Kernel((1.8, 1.8))),
        (2, Kernel((2.4, 1.2), 45)),
        (3, Kernel((2.0, 2.0))),
        (4, Kernel((2.0, 2.0))),
        (4, Kernel((4.0, 1.5), 30)),
        (4, Kernel((2.5, 1.25), 120)),
    ],
)
def test_an_estimate_is_near_the_truth(scale: int, kernel: Kernel) -> None:
    """Sigmas within 15 % of the larger one, the direction of a long kernel within 10 degrees."""
    found = kernel_estimation.estimate(blurred(kernel, scale), scale).kernel
    for got, wanted in zip(found.sigma_px, kernel.sigma_px, strict=True):
        assert abs(got - wanted) < TOLERANCE * kernel.sigma_px[0], str(found)
    if kernel.sigma_px[0] > kernel.sigma_px[1]:
        turn = (found.angle_deg - kernel.angle_deg + 90) % 180 - 90
        assert abs(turn) < TOLERANCE_DEG, str(found)


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_reductions_are_told_from_gaussians(tmp_path: Path, scale: int) -> None:
    """Training then goes on with bicubic reductions; a wider Gaussian is none."""
    folder = tmp_path / "lr"
    folder.mkdir()
    for number, hr in enumerate(natural()):
        Image.fromarray(imresize(hr, 1 / scale)).save(folder / f"{number}.png")
    found = kernel_estimation.of_folder(folder, scale)
    assert found.bicubic
    assert str(found).endswith(", but no Gaussian: bicubic is assumed")
    if scale == 2:
        assert with_estimate(recipe("estimated"), folder).degradation.kind == "bicubic"
    wide = Kernel((0.7 * scale, 0.7 * scale))
    assert not kernel_estimation.estimate(blurred(wide, scale), scale).bicubic


def test_too_little_to_estimate_from_is_an_error(tmp_path: Path) -> None:
    """The sentence has the numbers and what to do; pictures that are too small are named."""
    folder = tmp_path / "lr"
    folder.mkdir()
    Image.fromarray(make_picture(40, 40)).save(folder / "a.png")
    with pytest.raises(
        DataError, match=r"lr: 1 windows of 32x32 px .* expected 32 .* add pictures"
    ):
        kernel_estimation.of_folder(folder, 4)
    Image.fromarray(make_picture(20, 20)).save(folder / "a.png")
    with pytest.raises(DataError, match=r"none of 1 pictures .* 20x20 is under 32 px"):
        kernel_estimation.of_folder(folder, 4)
    with pytest.raises(DataError, match="this recipe needs --data DIR: your low-resolution"):
        with_estimate(recipe("estimated"), None)
    with pytest.raises(RecipeError, match="'estimated' only in mode 'adapt'"):
        recipe("estimated", mode="selfsup")
    with pytest.raises(RecipeError, match=r"degradation\.sigma_px = .* two numbers of 0\.1 to 16"):
        recipe("gaussian", sigma_px=[0.0, 1.0])


def test_a_kernel_keeps_its_direction(tmp_path: Path) -> None:
    """Patches are flipped and turned before the blur: the pairs have the kernel as it is."""
    blurred(Kernel((0.1, 0.1)), 1, tmp_path / "hr")
    known = recipe("gaussian", "selfsup", sigma_px=[3.0, 0.5], angle_deg=20.0)
    batch = batches.build(known, Folders(tmp_path / "hr")).source.draw()
    weights = kernels.taps(Kernel((3.0, 0.5), 20), 2)
    for lr, hr in zip(batch.lr, batch.hr, strict=True):
        truth = (hr.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        inner = kernels.reduce(truth, weights, 2)[5:-5, 5:-5]
        got = (lr.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()[5:-5, 5:-5]
        np.testing.assert_array_equal(got, inner)


@pytest.mark.parametrize("sharp", [False, True])
def test_adapting_estimates_resumes_and_remembers(tmp_path: Path, sharp: bool) -> None:
    """The kernel of the LR pictures is in the weights' recipe; a killed run resumes bit for bit."""
    blurred(Kernel((2.4, 1.2), 45), 2, tmp_path / "lr")
    blurred(Kernel((0.1, 0.1)), 1, tmp_path / "hr")
    lr = tmp_path / "lr"
    folders = Folders(tmp_path / "hr", lr) if sharp else Folders(lr)

    def run(out: str, killed_at: int = 0) -> Path:
        def kill(progress: Progress) -> None:
            if progress.step == killed_at:
                raise Killed

        made = with_estimate(recipe("estimated"), lr)
        source = batches.build(made, folders).source
        return train(made, source, tmp_path / out, on_step=kill)

    whole, facts = load_weights(run("whole"))
    with pytest.raises(Killed):
        run("killed", killed_at=6)
    resumed = load_weights(run("killed"))[0]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    saved = facts["recipe"]["degradation"]
    assert saved["kind"] == "gaussian"
    assert saved["sigma_px"] == pytest.approx([2.4, 1.2], abs=0.35)
    assert saved["angle_deg"] == pytest.approx(45, abs=TOLERANCE_DEG)


def test_the_command_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`kernel` prints the estimate and draws it; training logs the same one."""
    caplog.set_level(logging.INFO)
    blurred(Kernel((2.0, 2.0)), 2, tmp_path / "lr")
    drawn = tmp_path / "kernel.png"
    words = ["kernel", str(tmp_path / "lr"), "--scale", "2", "--picture", str(drawn)]
    assert main(words) == 0
    (line,) = [text for text in caplog.messages if text.startswith("sigma")]
    with Image.open(drawn) as image:
        assert max(image.size) > 16
        assert np.asarray(image).max() == 255
    text = 'name = "t"\nscale = 2\nsteps = 2\ncheck_step = 0\n{}[network]\nwidth = 8\ndepth = 1\n'
    text += "[data]\npatch_px = 12\nbatch = 2\n"
    (tmp_path / "first.toml").write_text(text.format(""))
    (tmp_path / "adapt.toml").write_text(
        text.format('mode = "adapt"\n') + '[degradation]\nkind = "estimated"\n'
    )
    lr, first = str(tmp_path / "lr"), str(tmp_path / "first")
    assert main([str(tmp_path / "first.toml"), "--data", lr, "--out", first]) == 0
    words = ["--data", lr, "--out", str(tmp_path / "run"), "--start-from", first]
    assert main([str(tmp_path / "adapt.toml"), *words]) == 0
    assert f"estimated blur kernel: {line.partition(' (')[0]}" in caplog.text
