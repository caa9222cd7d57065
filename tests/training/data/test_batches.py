"""Batches of pictures: cached, generated, paired, degraded; reproducible by the seed."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from training.cli import main
from training.data import batches, cache, cifar
from training.data.batches import Folders
from training.data.pictures import DataError, Patches, Shard, Source, area_chance, make_pair
from training.data.resize import imresize
from training.data.synthetic import dead_leaves, drawings
from training.recipe.schema import Recipe, RecipeError, recipe_from_dict


def recipe(**values: object) -> Recipe:
    """Return a small x2 recipe with other values."""
    table: dict[str, object] = {"name": "t", "scale": 2, "data": {"patch_px": 8, "batch": 4}}
    return recipe_from_dict(table | values, source="test")


def fill(folder: Path, count: int, *, height: int = 40, width: int = 56) -> Path:
    """Write drawn pictures, one of them in a subfolder."""
    (folder / "deep").mkdir(parents=True)
    for number in range(count):
        inside = folder / "deep" if number == 0 else folder
        Image.fromarray(make_picture(height, width, number)).save(inside / f"{number}.png")
    return folder


def same(a: Source, b: Source) -> bool:
    """Whether the next batches are equal to the bit."""
    x, y = a.draw(), b.draw()
    return torch.equal(x.lr, y.lr) and torch.equal(x.hr, y.hr)


def test_the_cache_gives_what_the_files_hold(tmp_path: Path) -> None:
    """Decoded once; the second time the same pictures come from a mapped, read-only file."""
    folder = fill(tmp_path / "data", 3)
    first = cache.pairs(folder, 2, cache=tmp_path / "cache")
    (stored,) = (tmp_path / "cache").iterdir()
    written = (stored / "pixels.u8").stat().st_mtime_ns
    again = cache.pairs(folder, 2, cache=tmp_path / "cache")
    assert (stored / "pixels.u8").stat().st_mtime_ns == written
    assert [pair.name for pair in again] == ["1.png", "2.png", "deep/0.png"]
    for pair, other, seed in zip(first, again, (1, 2, 0), strict=True):
        expected = make_pair(make_picture(40, 56, seed), 2)
        for got in (pair, other):
            np.testing.assert_array_equal(got.hr, expected.hr)
            np.testing.assert_array_equal(got.lr, expected.lr)
    with pytest.raises(ValueError, match="read-only"):
        again[0].hr[0] = 0


def test_a_changed_file_or_option_is_another_set(tmp_path: Path) -> None:
    """The key covers names, sizes, times, scale and limits."""
    folder = fill(tmp_path / "data", 2)
    store = tmp_path / "cache"
    cache.pairs(folder, 2, cache=store)
    cache.pairs(folder, 4, cache=store)
    assert len(list(store.iterdir())) == 2
    os.utime(folder / "1.png", (1, 1))
    cache.pairs(folder, 2, cache=store)
    assert len(list(store.iterdir())) == 3


def test_a_cache_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails while decoding leaves nothing that a later run would read."""
    folder = fill(tmp_path / "data", 2)

    def full(*_: object) -> list[int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_append", full)
    with pytest.raises(DataError, match=r"cannot be written: .* No space left"):
        cache.pairs(folder, 2, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_gray_broken_and_tiny_files_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is named with its reason; gray ones are kept if the recipe says so."""
    folder = fill(tmp_path / "data", 2)
    gray = make_picture(40, 40)[..., :1].repeat(3, axis=2)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(make_picture(8, 8)).save(folder / "tiny.png")
    whole = (folder / "1.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    color = cache.pairs(folder, 2, min_px=16, gray=False, cache=tmp_path / "cache")
    assert [pair.name for pair in color] == ["1.png", "deep/0.png"]
    for reason in ("gray: ", "8x8 is under 16 px: ", "not decodable", "3 of 5 pictures skipped"):
        assert reason in caplog.text
    assert len(cache.pairs(folder, 2, min_px=16, cache=tmp_path / "cache")) == 3


def test_one_tiny_picture_is_one_clear_sentence(tmp_path: Path) -> None:
    """The error names the picture's size and the size that the recipe needs."""
    Image.fromarray(make_picture(8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"none of 1 pictures .*a.png: 8x8 is under 16 px"):
        batches.build(recipe(), Folders(tmp_path))


def test_cifar_batches(tmp_path: Path) -> None:
    """Rows of 3072 bytes are planes of red, green and blue; the test batch is left out."""
    rows = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        with (tmp_path / name).open("wb") as file:
            pickle.dump({b"data": rows, b"labels": [0] * 5}, file, protocol=2)
    pairs = cache.pairs(tmp_path, 1)
    assert len(pairs) == 10
    assert pairs[6].name == "data_batch_2/1"
    for y, x, c in ((0, 0, 0), (3, 17, 1), (31, 31, 2)):
        assert pairs[1].hr[y, x, c] == rows[1, c * 1024 + y * 32 + x]
    assert pairs[0].lr is not None
    np.testing.assert_array_equal(pairs[0].lr, pairs[0].hr)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    """Only numpy arrays are unpickled."""
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match=r"posix\.system is not part of a CIFAR-10 batch"):
        list(cifar.read([path]))
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a CIFAR-10 python batch"):
        list(cifar.read([path]))


@pytest.mark.parametrize(("kind", "module"), [("dead_leaves", dead_leaves), ("drawings", drawings)])
def test_generated_pictures_are_the_seeds(kind: str, module: ModuleType) -> None:
    """The same seed draws the same pictures; no folder is needed; they are not flat."""
    a, b = module.pairs(2, 64, 2, 0), module.pairs(2, 64, 2, 0)
    np.testing.assert_array_equal(a[1].hr, b[1].hr)
    assert not np.array_equal(a[0].hr, a[1].hr)
    assert not np.array_equal(a[0].hr, module.pairs(1, 64, 2, 1)[0].hr)
    assert a[0].hr.shape == (64, 64, 3)
    assert min(float(pair.hr.std()) for pair in a) > 10
    generated = recipe(data={"pictures": kind, "generated": 12, "generated_px": 48})
    supply = batches.build(generated, Folders())
    assert supply.source.draw().hr.shape == (16, 3, 96, 96)
    assert len(supply.holdout) >= 1


def test_generated_pictures_beside_those_of_a_folder(tmp_path: Path) -> None:
    """`--data` adds its pictures to the generated ones."""
    folder = fill(tmp_path / "data", 4)
    table = {"patch_px": 8, "batch": 4, "pictures": "drawings", "generated": 3, "holdout": 0.0}
    both = batches.build(recipe(data=table), Folders(folder, cache=tmp_path / "cache"))
    alone = batches.build(recipe(data=table), Folders())
    assert not np.array_equal(both.source.draw().hr, alone.source.draw().hr)


def test_generated_pictures_are_not_reduced(tmp_path: Path) -> None:
    """`data.reduced_copies` are made of the folder's pictures: drawings have patterns of 2.2 px."""
    folder = fill(tmp_path / "data", 4)
    table = {"patch_px": 8, "pictures": "drawings", "generated": 3, "generated_px": 96}
    copied = recipe(data={**table, "reduced_copies": [0.5], "holdout": 0.0})
    source = batches.build(copied, Folders(folder, cache=tmp_path / "cache")).source
    assert isinstance(source, Patches)
    heights = [pair.hr.shape[0] for pair in source._pairs]
    assert sorted(heights) == [20] * 4 + [40] * 4 + [96] * 3


def test_drawings_are_drawings() -> None:
    """Most of a drawing is flat: neighbors are equal, which is rare in a photograph."""
    shares = []
    for pair in drawings.pairs(6, 128, 2, 0):
        across = np.abs(np.diff(pair.hr.astype(int), axis=1)).max(axis=-1)
        shares.append(float(np.mean(across <= 1)))
    assert np.median(shares) > 0.5


def modes(tmp_path: Path) -> dict[str, tuple[Recipe, Folders]]:
    """Return one recipe of every kind of source."""
    folder = fill(tmp_path / "data", 4)
    data = {"patch_px": 8, "batch": 4}
    return {
        "bicubic": (recipe(), Folders(folder)),
        "colors": (recipe(data=data | {"color_changes": True}), Folders(folder)),
        "rescaled": (recipe(data=data | {"rescale_from": 0.6}), Folders(folder)),
        "realworld": (recipe(degradation={"kind": "realworld"}), Folders(folder)),
        "unpaired": (recipe(mode="unpaired"), Folders(folder, folder)),
    }


@pytest.mark.parametrize("mode", ["bicubic", "colors", "rescaled", "realworld", "unpaired"])
def test_a_source_resumes_and_shards_exactly(tmp_path: Path, mode: str) -> None:
    """A restored source continues exactly; two processes draw what one does, in turns."""
    made, folders = modes(tmp_path)[mode]
    source, other = (batches.build(made, folders).source for _ in range(2))
    assert same(source, other)
    state = source.state()
    source.draw()
    source.restore(state)
    assert same(source, other)
    whole = other.draw()
    for rank in range(2):
        part = batches.build(made, folders, Shard(rank, 2)).source
        part.restore(state)
        part.draw()
        mine = part.draw()
        assert torch.equal(mine.lr, whole.lr[rank::2])
        assert torch.equal(mine.hr, whole.hr[rank::2])
    with pytest.raises(DataError, match=r"data\.batch = 4 cannot be split among 3 processes"):
        batches.build(made, folders, Shard(0, 3))


def test_reduced_copies_of_the_training_pictures(tmp_path: Path) -> None:
    """Each factor adds every picture that stays large enough; none that is held out."""
    folder = fill(tmp_path / "data", 12)
    data = {"patch_px": 8, "batch": 4, "holdout": 0.3, "reduced_copies": [0.75, 0.1]}
    made = recipe(data=data)
    pairs = batches._found(made, Folders(folder))
    train, held = batches._split(pairs, 0.3)
    assert held
    copies = batches._reduced_copies(train, made)
    assert [pair.name for pair in copies] == [pair.name for pair in train]
    for copy, pair in zip(copies, train, strict=True):
        assert np.array_equal(copy.lr, imresize(copy.hr, 0.5))
        rows = math.ceil(pair.hr.shape[0] * 0.75)
        assert copy.hr.shape[0] == rows - rows % 2
    drawn = batches.build(made, Folders(folder)).source.draw()
    assert drawn.hr.shape == (4, 3, 16, 16)
    # 56 px: none at its own size
    small = batches.build(recipe(data=data | {"full_size_below_px": 50}), Folders(folder))
    assert isinstance(small.source, Patches)
    assert {pair.hr.shape[1] for pair in small.source._pairs} == {42}
    none = recipe(data=data | {"full_size_below_px": 50, "reduced_copies": [0.1]})
    with pytest.raises(DataError, match="all pictures have a side of 50 px or more, and no"):
        batches.build(none, Folders(folder))
    with pytest.raises(RecipeError, match="full_size_below_px = 50, allowed: 0, or a size"):
        recipe(data={"patch_px": 8, "full_size_below_px": 50})
    with pytest.raises(RecipeError, match=r"data\.reduced_copies = \(1\.0,\), allowed: factors"):
        recipe(data=data | {"reduced_copies": [1.0]})


def test_changed_colors(tmp_path: Path) -> None:
    """Channels change places, contrast falls, and the pair stays one: a reduction is linear."""
    pairs = [make_pair(make_picture(64, 64, seed), 2) for seed in range(4)]
    plain, changed = (
        Patches(pairs, 32, 64, 0, color_changes=changes).draw() for changes in (False, True)
    )
    assert float(changed.hr.min()) >= 0
    assert float(changed.hr.max()) <= 1
    assert not torch.equal(plain.hr, changed.hr)
    ratios = changed.hr.flatten(1).std(1) / plain.hr.flatten(1).std(1)
    assert 0.4 < float(ratios.min()) < float(ratios.max()) < 1.2
    # the mean of a patch is that of its reduction, whatever the colors
    means = changed.lr.mean((2, 3)) - changed.hr.mean((2, 3))
    assert float(means.abs().max()) < 0.01
    with pytest.raises(RecipeError, match=r"data\.color_changes = True, allowed: true only in the"):
        recipe(data={"patch_px": 8, "color_changes": True}, degradation={"kind": "realworld"})


def test_a_rescaled_patch_belongs_to_its_twin(tmp_path: Path) -> None:
    """The low-resolution patch is the bicubic reduction of the high-resolution patch."""
    made, folders = modes(tmp_path)["rescaled"]
    batch = batches.build(made, folders).source.draw()
    assert batch.lr.shape == (4, 3, 8, 8)
    assert batch.hr.shape == (4, 3, 16, 16)
    hr = (batch.hr[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    lr = (batch.lr[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    # inside, where the reduction sees nothing beyond the patch
    difference = imresize(hr, 0.5)[2:-2, 2:-2].astype(int) - lr[2:-2, 2:-2]
    assert np.abs(difference).max() <= 1


def test_pairs_of_two_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Matched by path, `x2` ignored; a missing counterpart or a wrong size is reported."""
    truth, twins = fill(tmp_path / "hr", 4), tmp_path / "lr"
    (twins / "deep").mkdir(parents=True)
    dark = make_picture(40, 56, 0)[::2, ::2] // 2
    Image.fromarray(dark).save(twins / "deep" / "0x2.png")
    Image.fromarray(make_picture(20, 28, 1)).save(twins / "1.png")
    Image.fromarray(make_picture(20, 27, 2)).save(twins / "2.png")
    supply = batches.build(recipe(mode="paired"), Folders(truth, twins))
    assert supply.source.draw().lr.shape == (4, 3, 8, 8)
    assert "no 3.* in " in caplog.text
    assert "(40, 56) is not 2 times the low-resolution (20, 27)" in caplog.text
    with pytest.raises(DataError, match="needs --lr DIR: their low-resolution counterparts"):
        batches.build(recipe(mode="paired"), Folders(truth))


def test_what_a_mode_needs_is_named(tmp_path: Path) -> None:
    """The error names the missing flag."""
    with pytest.raises(DataError, match="needs --data DIR: a folder of pictures"):
        batches.build(recipe(), Folders())
    with pytest.raises(DataError, match="needs --lr DIR: real low-resolution pictures"):
        batches.build(recipe(mode="unpaired"), Folders(fill(tmp_path / "d", 2)))


def test_pictures_held_out_are_never_drawn(tmp_path: Path) -> None:
    """A share chosen by name, independent of other files in the folder; none of a few."""
    pairs = [make_pair(make_picture(20, 20, n), 2, f"{n}.png") for n in range(300)]
    train, held = batches._split(pairs, 0.05)
    assert len(train) + len(held) == 300
    assert 5 <= len(held) <= 30
    assert {pair.name for pair in held} >= {p.name for p in batches._split(pairs[:150], 0.05)[1]}
    assert batches._split(pairs[:9], 0.5) == (pairs[:9], [])
    assert len(batches._split(pairs[:10], 1e-9)[1]) == 1
    assert batches._split(pairs, 0.0)[1] == []


def test_area_power_weighs_large_pictures() -> None:
    """Areas 1 and 4: at 1 the larger is drawn four times as often, at 0.5 twice, at 0 as often."""
    pictures = [np.zeros((8, 8, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)]
    for power, expected in ((1.0, 0.8), (0.5, 2 / 3), (0.0, 0.5)):
        assert area_chance(pictures, power)[1] == pytest.approx(expected)


def test_drawings_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as requested, the same for the same seed; mistakes write none."""
    call = ["drawings", str(tmp_path / "a"), "--count", "2", "--px", "64"]
    assert main(call) == 0
    files = sorted((tmp_path / "a").iterdir())
    assert [file.name for file in files] == ["drawing_000.png", "drawing_001.png"]
    first, second = (np.asarray(Image.open(file)) for file in files)
    assert first.shape == (64, 64, 3)
    assert not np.array_equal(first, second)
    assert main(["drawings", str(tmp_path / "b"), "--count", "1", "--px", "64"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b" / files[0].name)), first)
    assert main(["drawings", str(tmp_path / "c"), "--px", "8"]) == 1
    assert "--px 8: expected 32 or more" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    assert main(["drawings", str(files[0])]) == 1
    assert "drawing_000.png: is a file, expected a folder" in capsys.readouterr().err


def test_half_of_a_drawing_stays_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full in the middle of a file, no partial file stays."""

    def full(_: Image.Image, path: Path, *__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert main(["drawings", str(tmp_path / "a"), "--count", "1", "--px", "64"]) == 1
    assert list((tmp_path / "a").iterdir()) == []
