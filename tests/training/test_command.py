"""`python -m training`: recipes by name, what they need, progress in log files, mistakes."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.test_running import SMALL, environment, write
from training import loop
from training.checkpoint import load_weights
from training.cli import catalog, main
from training.cli.progress import Lines
from training.loop import Progress
from training.networks.layers import bf16_is_fast
from training.recipe.schema import read_recipe

ENTRIES = catalog.entries()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_each_recipe_says_what_it_is_for_and_needs(entry: catalog.Entry) -> None:
    """One short sentence, a duration, and the options without which the run stops at once."""
    recipe = read_recipe(catalog.RECIPES / f"{entry.name}.toml")
    assert re.fullmatch(r"[A-Z].{8,}\.", entry.purpose)
    assert len(entry.purpose) <= 50
    assert re.fullmatch(r"\d+ s|\d+ min|\d+\.\d h", entry.time)
    needs = set(re.findall(r"--[\w-]+", entry.needs))
    generated = recipe.data.pictures == "dead_leaves"
    assert ("--data" in needs) == (not generated)
    assert ("--lr" in needs) == (recipe.mode in ("paired", "unpaired"))
    assert ("--teacher" in needs) == bool(recipe.loss.teacher)
    names = {path.stem for path in catalog.RECIPES.glob("*.toml")}
    for _, word in re.findall(r"--(start-from|teacher) ([\w/]+)", entry.needs):
        found = word.removeprefix("runs/")
        assert found in names if word != found else catalog.weights(word).is_file()


def test_the_list_is_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A table that a terminal holds, how long on what machine, and lines to paste."""
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(ENTRIES) + 1]] == [e.name for e in ENTRIES]
    assert max(map(len, lines)) <= 130
    assert any("on one core of" in line for line in lines)


def test_the_list_costs_no_torch(repository: Path) -> None:
    """`--list`, `--help` and mistakes answer before torch is imported."""
    code = (
        "import sys; from training.cli import main; main(['--list']); main(['gan_x5']); "
        "assert 'torch' not in sys.modules"
    )
    call = [sys.executable, "-c", code]
    subprocess.run(call, check=True, env=environment(repository), capture_output=True, timeout=100)


def test_a_recipe_is_found_by_name_or_path(tmp_path: Path) -> None:
    """A shipped name, unless a file has it; anything like a path is one."""
    assert catalog.find("gan_x4") == catalog.RECIPES / "gan_x4.toml"
    path = write(tmp_path)
    assert catalog.find(str(path)) == path


def test_mistakes_are_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The fact, the name that was meant, and where to read more; exit code 2."""
    for arguments, message in (
        (["gan_x5"], "'gan_x5' is no recipe (did you mean gan_x4 or "),
        (["evalute", "model.onnx"], "'evalute' is no recipe (did you mean evaluate"),
        (["nowhere/gan_x4.toml"], "gan_x4.toml: no such file (did you mean gan_x4"),
        (["smoke", "--otu", "x"], "unknown option --otu (did you mean --out?)"),
        (["smoke", "more"], "unexpected argument 'more'"),
        (["smoke"], "--out is missing; add --out runs/smoke, the folder of the run"),
        (["--out", "x"], "RECIPE is missing; --list shows those that are shipped"),
        (["pack", "a"], "the following arguments are required: -o/--output"),
    ):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(str(stop.code))
        error, usage = capsys.readouterr().err.splitlines()
        assert code == 2
        assert message in error
        assert re.fullmatch(r"usage: see `python -m training( pack)? --help`", usage)
    assert main([]) == 2


def test_weights_by_name(tmp_path: Path) -> None:
    """Shipped names and folders of runs, as `--list` shows them; other words are paths."""
    assert load_weights(catalog.weights("gan_x2"))[1]["recipe"]["name"] == "gan_x2"
    assert catalog.weights(str(tmp_path)) == tmp_path / "weights.safetensors"
    assert catalog.weights("gan_x9") == Path("gan_x9")


def test_a_log_file_gets_lines_instead_of_a_bar(tmp_path: Path, repository: Path) -> None:
    """Without a terminal no carriage return is written: steps, scores and the file."""
    call = [sys.executable, "-m", "training", str(write(tmp_path)), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        call, env=environment(repository), capture_output=True, cwd=tmp_path, timeout=200
    )
    assert done.returncode == 0
    assert b"\r" not in done.stderr
    assert b"step 6  loss " in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"wrote ")


def test_lines_have_step_loss_speed_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    """One line per interval; none for the last step, which the run reports itself."""
    show = Lines(every_s=0)
    with caplog.at_level(logging.INFO, "training"):
        show(Progress(30, 300, 0.0366, 0.25))
        show(Progress(300, 300, 0.03, 0.25))
        Lines(every_s=1000)(Progress(30, 300, 0.0366, 0.25))
    assert [record.message for record in caplog.records] == [
        "step 30 of 300  loss 0.03660  4 steps/s  1:08 left"
    ]


def test_bfloat16_is_used_where_it_is_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Elsewhere float32 is, which is said; checkpoints keep the recipe, so any machine resumes."""
    path = write(tmp_path, SMALL.replace("bf16 = false", "bf16 = true"))
    for fast in (True, False):
        monkeypatch.setattr(loop, "bf16_is_fast", lambda _, fast=fast: fast)
        with caplog.at_level(logging.INFO, "training"):
            assert main([str(path), "--out", str(tmp_path / str(fast))]) == 0
        said = "this processor would compute bfloat16 slowly" in caplog.text
        assert said != fast
        caplog.clear()
        weights = tmp_path / str(fast) / "weights.safetensors"
        assert load_weights(weights)[1]["recipe"]["bf16"] is True
        monkeypatch.setattr(loop, "bf16_is_fast", lambda _: True)
        assert main([str(path), "--out", str(tmp_path / str(fast))]) == 0
    assert isinstance(bf16_is_fast(torch.device("cpu")), bool)
    assert bf16_is_fast(torch.device("cuda"))


@pytest.fixture
def umask() -> Iterator[None]:
    """Set an umask that is not the default, which a file has to follow."""
    if os.name != "posix":
        pytest.skip("modes are POSIX's")
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_files_have_the_mode_of_any_other(tmp_path: Path) -> None:
    """Weights too: safetensors would let nobody but their owner read them."""
    run, packed, drawn = tmp_path / "run", tmp_path / "packed.safetensors", tmp_path / "drawn"
    assert main([str(write(tmp_path)), "--out", str(run)]) == 0
    assert main(["pack", str(run / "weights.safetensors"), "-o", str(packed)]) == 0
    assert main(["drawings", str(drawn), "--count", "1", "--px", "64"]) == 0
    files = [*run.iterdir(), packed, *drawn.iterdir()]
    assert len(files) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (run, drawn)} == {0o750}


def test_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    """The three ways to call it first, then groups, then the other commands."""
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    words = ("RECIPE --out DIR", "--list", "the run:", "pictures:", "weights to begin with:")
    assert [shown.index(word) for word in words] == sorted(map(shown.index, words))
    assert "other commands:" in shown
