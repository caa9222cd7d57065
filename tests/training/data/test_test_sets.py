"""No picture of the test sets, or one similar to it, is used for training or selection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.conftest import Picture, make_picture
from tests.training.runs import pairs, tiny
from training.checkpoint import load_weights
from training.data import batches
from training.data.pictures import Patches, decode, dihedral, find_pictures
from training.loop import train

THUMBNAIL_PX = 16
SIMILAR = 0.99
"""Correlation of normalized thumbnails: a re-encoded or resized copy lies above."""


@dataclass(frozen=True)
class Seen:
    """Fingerprints of one picture and its eight flips and rotations."""

    path: Path
    hashes: tuple[str, ...]
    """Hashes of the pixels."""
    thumbnails: npt.NDArray[np.float64]
    """(8, 256), gray, mean 0, norm 1."""


def seen(path: Path) -> Seen:
    """Decode a file and compute its fingerprints."""
    picture = decode(path)
    assert not isinstance(picture, str), (path, picture)
    return Seen(path, *fingerprints(picture))


def fingerprints(picture: Picture) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Return hashes and thumbnails of a picture's eight versions."""
    hashes = []
    for flip in range(8):
        version = np.ascontiguousarray(dihedral(picture, flip))
        hashes.append(hashlib.sha256(repr(version.shape).encode() + version.data).hexdigest())
    gray = Image.fromarray(picture).convert("L").convert("F")
    small = np.asarray(gray.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX), np.float64)
    # of the small picture: the mean over boxes is the same before and after
    versions = np.stack([dihedral(small, flip).ravel() for flip in range(8)])  # type: ignore[arg-type]
    centered = versions - versions.mean(axis=1, keepdims=True)
    return tuple(hashes), centered / np.maximum(
        np.linalg.norm(centered, axis=1, keepdims=True), 1e-9
    )


def shared(train: Sequence[Seen], tests: Sequence[Seen]) -> list[str]:
    """List the pairs that are equal or similar in any of the eight versions.

    Every version of a training picture against each test picture as it is: that covers both sides.
    """
    found = [f"{a.path} is {b.path}" for a in train for b in tests if b.hashes[0] in a.hashes]
    versions = np.concatenate([one.thumbnails for one in train])  # (8 N, 256)
    for one in tests:
        likeness = versions @ one.thumbnails[0]
        found += [
            f"{train[index // 8].path} looks like {one.path}: {likeness[index]:.4f}"
            for index in map(int, np.flatnonzero(likeness > SIMILAR))
        ]
    return found


def test_copies_are_found(tmp_path: Path) -> None:
    """Copies, also rotated, compressed or halved, are found; another picture is not."""
    original = make_picture(96, 120)
    turned = np.ascontiguousarray(original[:, ::-1].swapaxes(0, 1))
    for name, picture in (("same.png", original), ("turned.png", turned)):
        Image.fromarray(picture).save(tmp_path / name)
    Image.fromarray(original).save(tmp_path / "coded.jpg", quality=50)
    Image.fromarray(turned).resize((48, 60), Image.Resampling.BICUBIC).save(tmp_path / "half.png")
    Image.fromarray(np.roll(original, 40, axis=1)).save(tmp_path / "other.png")
    train = [seen(path) for path in find_pictures(tmp_path)]
    (tmp_path / "test").mkdir()
    Image.fromarray(original).save(tmp_path / "test" / "x.png")
    report = " ".join(shared(train, [seen(tmp_path / "test" / "x.png")]))
    assert "same.png is " in report
    assert "turned.png is " in report
    for name in ("same.png", "turned.png", "coded.jpg", "half.png"):
        assert f"{name} looks like " in report
    assert "coded.jpg is " not in report
    assert "other.png" not in report


@pytest.mark.slow
@pytest.mark.data
def test_no_training_picture_is_a_test_picture(test_sets: Path) -> None:
    """Neither in pixels, nor as a thumbnail, nor flipped, nor turned."""
    train, tests = find_pictures(test_sets.parent / "train"), find_pictures(test_sets)
    assert len(train) > 600
    assert {"Set5", "Set14", "BSD100"} <= {path.parent.name for path in tests}
    with ThreadPoolExecutor(4) as pool:
        assert shared(list(pool.map(seen, train)), list(pool.map(seen, tests))) == []


@pytest.mark.data
def test_the_folders_hold_what_the_manifest_says(test_sets: Path) -> None:
    """The folders contain every listed file, with its hash, and no other."""
    root = test_sets.parent
    manifest = json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))
    listed = {entry["file"]: entry["sha256"] for entry in manifest["files"]}
    files = [*find_pictures(root / "train"), *find_pictures(test_sets)]
    found = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    assert found == listed


@pytest.mark.parametrize("mode", ["selfsup", "paired"])
def test_validation_is_drawn_from_the_training_folder(tmp_path: Path, mode: str) -> None:
    """Weights are selected by pictures of --data that no batch ever contains."""
    folders = batches.Folders(tmp_path / "hr", tmp_path / "lr", tmp_path / "cache")
    for side, folder in ((48, "hr"), (24, "lr")):
        (tmp_path / folder).mkdir()
        for level in range(12):
            # one gray level each, which bicubic reduction leaves as it is
            picture = np.full((side, side, 3), 20 * level, np.uint8)
            Image.fromarray(picture).save(tmp_path / folder / f"{level}.png")
    data = {"patch_px": 16, "batch": 4, "gray": True}
    supply = batches.build(tiny("gan", 2, mode=mode, data=data), folders)
    held = {int(pair.hr.max()) for pair in supply.holdout}
    assert held
    assert held <= {20 * level for level in range(12)}
    drawn = {round(255 * float(hr.max())) for _ in range(40) for hr in supply.source.draw().hr}
    assert held.isdisjoint(drawn)
    assert held | drawn == {20 * level for level in range(12)}


def test_test_scores_choose_nothing(tmp_path: Path) -> None:
    """Scoring test sets does not change the weights: bit-equal to a run without."""
    recipe, data = tiny("gan", 2), pairs(2)

    def run(name: str, **tests: object) -> dict[str, object]:
        source = Patches(data, recipe.data.patch_px, recipe.data.batch, recipe.seed)
        return dict(load_weights(train(recipe, source, tmp_path / name, **tests))[0])  # type: ignore[arg-type]

    without, scored = run("without"), run("scored", tests={"test": pairs(2, count=1)})
    assert without.keys() == scored.keys()
    assert all(np.array_equal(without[key], scored[key]) for key in without)  # type: ignore[arg-type]
