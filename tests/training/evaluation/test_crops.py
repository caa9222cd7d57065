"""The sheet of chosen crops: right regions, right columns, and errors before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Picture, make_picture
from tests.training.evaluation.test_assess import saved
from tests.training.evaluation.test_report import Distribution
from training.cli import main
from training.data.corruption import TEST_QUALITY, TEST_SIGMA, add_noise, jpeg
from training.evaluation import crops, report, subject
from training.evaluation.evaluate import bicubic, network
from training.recipe.data import DegradationRecipe

TOML = """
[[crop]]
label = "edges"
set = "drawn"
picture = "a"
x = 30
y = 20
width = 48
height = 40
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures; the crop is of the second."""
    path = tmp_path / "drawn"
    path.mkdir()
    for seed, name in enumerate(("0", "a")):
        Image.fromarray(make_picture(120, 132, seed)).save(path / f"{name}.png")
    return path


@pytest.fixture
def crops_file(tmp_path: Path) -> Path:
    """One crop of 48x40."""
    path = tmp_path / "crops.toml"
    path.write_text(TOML)
    return path


def cells(page: Image.Image) -> list[Picture]:
    """Cut a sheet of one row of 48x40 into its pictures."""
    pixels = np.asarray(page)
    step = 48 + report.GAP_PX
    assert pixels.shape[0] == report.LABEL_PX + 40 + report.GAP_PX
    assert (pixels.shape[1] - report.GAP_PX) % step == 0
    lefts = range(report.GAP_PX, pixels.shape[1] - 1, step)
    return [pixels[report.LABEL_PX :][:40, left : left + 48] for left in lefts]


def sheet(model: subject.Model, crops_file: Path, folder: Path) -> list[Picture]:
    """Make the sheet and cut it."""
    found = crops.read(crops_file, [folder])
    pairs = subject.load_set(folder, model)
    return cells(crops.sheet(model, found, {"drawn": pairs}))


def test_an_enlarger_shows_input_bicubic_itself_and_truth(crops_file: Path, folder: Path) -> None:
    """Each column is the same region of its picture, pixel by pixel."""
    model = subject.Model("m", 2, lambda lr: 255 - bicubic(2)(lr), DegradationRecipe())
    low, cubic, ours, truth = sheet(model, crops_file, folder)
    window = np.s_[20:60, 30:78]
    hr = make_picture(120, 132, 1)
    np.testing.assert_array_equal(truth, hr[window])
    pair = subject.load_set(folder, model)[1]
    np.testing.assert_array_equal(low[::2, ::2], pair.lr[10:30, 15:39])
    np.testing.assert_array_equal(cubic, bicubic(2)(pair.lr)[window])
    np.testing.assert_array_equal(ours, 255 - cubic)


def test_a_restorer_shows_both_kinds_of_damage(crops_file: Path, folder: Path) -> None:
    """Noise, restored, JPEG, restored, truth: the damage that `training.assess` scores."""
    model = subject.Model("m", 1, lambda damaged: 255 - damaged, DegradationRecipe())
    noisy, first, coded, second, truth = sheet(model, crops_file, folder)
    hr, window = make_picture(120, 132, 1), np.s_[20:60, 30:78]
    expected = add_noise(hr, TEST_SIGMA, np.random.default_rng(1))
    np.testing.assert_array_equal(noisy, expected[window])
    np.testing.assert_array_equal(coded, jpeg(hr, TEST_QUALITY)[window])
    np.testing.assert_array_equal(first, 255 - noisy)
    np.testing.assert_array_equal(second, 255 - coded)
    np.testing.assert_array_equal(truth, hr[window])


def test_a_distribution_shows_its_samples_and_confidence(crops_file: Path, folder: Path) -> None:
    """Three samples and the confidence are between the picture and the truth."""
    net = Distribution()
    shown = sheet(subject.Model("m", 2, network(net), DegradationRecipe(), net), crops_file, folder)
    assert len(shown) == 8
    assert not np.array_equal(shown[3], shown[4])
    # sure of itself left of the middle, which is 66 px
    assert np.all(shown[6][:, :36] == 255)
    assert np.all(shown[6][:, 36:] == 0)


@pytest.mark.parametrize(("family", "scale", "columns"), [("gan", 2, 4), ("ae", 1, 5)])
def test_the_command_writes_the_sheet(
    crops_file: Path, folder: Path, tmp_path: Path, family: str, scale: int, columns: int
) -> None:
    """It is written next to the report, also for a restorer."""
    weights = saved(tmp_path, family, scale)
    call = ["evaluate", str(weights), "--data", str(folder), "--crops", str(crops_file)]
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "crops.png") as page:
        assert len(cells(page)) == columns


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('picture = "a"', 'picture = "b"', "crop 'edges': no picture b in "),
        ('set = "drawn"', 'set = "Set9"', "set Set9, expected one of --data: drawn"),
        ("x = 30", "x = 100", "48x40 at 100,20 is not inside a, which is 132x120"),
        ("width = 48", "wdth = 48", "unknown key 'crop.wdth'; did you mean 'crop.width'?"),
        ("x = 30", 'x = "30"', "crop.x = '30' (str), expected int"),
        ('label = "edges"', "", "missing 'label'"),
        ("[[crop]]", "[crop]", "crop = {"),
        (TOML, "crop = []", "no crop in it"),
        ("[[crop]]", "[[crop", "not TOML"),
    ],
)
def test_mistakes_are_one_sentence(
    crops_file: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
) -> None:
    """They are reported first, before the missing model is opened."""
    crops_file.write_text(TOML.replace(old, new))
    call = ["evaluate", str(tmp_path / "none"), "--data", str(folder), "--crops", str(crops_file)]
    assert main([*call, "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.data
def test_our_crops_are_in_the_test_sets(repository: Path, test_sets: Path) -> None:
    """They include what a sheet must show: text, faces, foliage, fabric, sky, drawings, edges."""
    folders = [test_sets / name for name in ("Set14", "BSD100")]
    found = crops.read(repository / "training" / "crops.toml", folders)
    labels = {crop.label for crop in found}
    assert {"text", "face", "foliage", "fabric", "sky", "drawing", "edges"} <= labels
