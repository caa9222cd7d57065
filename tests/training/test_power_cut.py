"""Power cuts while checkpoints and the journal are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load

from tests.conftest import make_picture
from tests.powercut.testing import every_cut, needs_strace, recorded
from training.data.pictures import make_pair
from training.loop import JOURNAL, LAST, Progress, train
from training.recipe.schema import Recipe, recipe_from_dict

SAVING = """
import sys
from pathlib import Path
import torch
from training import checkpoint

for step in range(3):
    path = Path(sys.argv[1]) / "new" / "run" / "last.safetensors"
    checkpoint.save(path, {"w": torch.full((4,), float(step))}, {"step": step})
    print("saved", step, flush=True)
"""


@needs_strace
def test_a_saved_checkpoint_is_kept(tmp_path: Path) -> None:
    """After `save` there is this checkpoint or a later one, whole, its folders included."""
    for said, tree in every_cut(recorded(SAVING, tmp_path)):
        content = tree.get("new/run/last.safetensors")
        step = -1 if content is None else int(load(content)["w"][3])
        assert step >= said.count("saved") - 1


CACHING = """
import sys
from pathlib import Path
from training.data import cache

cache.pairs(Path(PICTURES), 2, cache=Path(sys.argv[1]))
"""


@needs_strace
def test_cached_pictures_are_whole_or_missing(tmp_path: Path) -> None:
    """No run trains on zeros that a power cut left."""
    (tmp_path / "in").mkdir()
    for seed in range(2):
        Image.fromarray(make_picture(24, 24, seed)).save(tmp_path / "in" / f"{seed}.png")
    script = CACHING.replace("PICTURES", repr(str(tmp_path / "in")))
    trees = [tree for _, tree in every_cut(recorded(script, tmp_path))]
    found = [{p: t[p] for p in t if t[p] is not None and p[0] != "."} for t in trees]
    (whole,) = {len(tree): tree for tree in found if tree}.values()
    assert len(whole) == 2
    assert all(tree in ({}, whole) for tree in found)


def recipe() -> Recipe:
    """Return the recipe of a run of six steps."""
    table = {
        **{"name": "t", "scale": 2, "steps": 6, "evaluate_every": 1, "save_every": 2},
        **{"network": {"width": 4, "depth": 1}, "data": {"patch_px": 8, "batch": 2}},
    }
    return recipe_from_dict(table, source="t")


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(
    "tail",
    [b"", b'{"step": 6, "lo', bytes(100), b"[1]\n\xff\n"],
    ids=["nothing", "torn", "zeros", "foreign"],
)
def test_a_resumed_run_has_the_journal_of_a_whole_one(
    tmp_path: Path, steps: int, tail: bytes
) -> None:
    """Lines after the checkpoint are written again, not twice; damaged ones are dropped."""
    pairs = [make_pair(make_picture(48, 48, 1), 2, "1")]

    def stop(progress: Progress) -> None:
        if progress.step > steps:
            raise KeyboardInterrupt

    train(recipe(), pairs, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), pairs, tmp_path / "cut", on_step=stop)
    assert (tmp_path / "cut" / LAST).exists() == (steps > 1)
    with (tmp_path / "cut" / JOURNAL).open("ab") as file:
        file.write(tail)
    train(recipe(), pairs, tmp_path / "cut")
    lines = (tmp_path / "cut" / JOURNAL).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines == (tmp_path / "whole" / JOURNAL).read_text().splitlines()
