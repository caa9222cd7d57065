"""Damaged checkpoints: one error of ours, of one sentence, wherever the training reads them."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from tests.conftest import make_picture
from tests.training.runs import pairs, tiny
from training import checkpoint
from training.checkpoint import CheckpointError, load, load_weights
from training.cli import main
from training.loop import TrainingError, train
from training.recipe.schema import RecipeError, recipe_from_dict
from training.recipe.show import to_toml

RECIPE = tiny("gan", 2)
OURS = (CheckpointError, RecipeError, TrainingError)
REFUSAL_S = 1.0
"""Processor time in which a file must be refused."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("damaged") / "run"
    train(RECIPE, pairs(2), folder)
    return folder


def write(path: Path, tensors: dict[str, Tensor], facts: object) -> None:
    """Write a checkpoint with any facts, or with text that is not JSON."""
    text = facts if isinstance(facts, str) else json.dumps(facts)
    save_file(tensors, path, {"schema": checkpoint.SCHEMA, "facts": text})


def header(length: int, text: bytes = b"") -> bytes:
    """Return the start of a safetensors file."""
    return struct.pack("<Q", length) + text


def long_header() -> bytes:
    """Return a file whose header names more tensors than any network has."""
    entries = {
        f"w{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(400_000)
    }
    text = json.dumps(entries).encode()
    return header(len(text), text)


FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "zeros": lambda whole: bytes(len(whole)),
    "text": lambda whole: b"hello, this is text",
    "header of 2^60": lambda whole: header(1 << 60, b"{}"),
    "header beyond the end": lambda whole: header(10_000, b"{}"),
    "long header": lambda whole: long_header(),
    "deep header": lambda whole: header(40_000, b"[" * 40_000),
    "pickle": lambda whole: b"\x80\x02c__builtin__\nexec\nq\x00.",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none(run: Path, tmp_path: Path, name: str) -> None:
    """Nothing is allocated or read that a header only claims."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(FILES[name]((run / "weights.safetensors").read_bytes()))
    check(lambda: load_weights(path), path)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_pipe_and_a_folder(tmp_path: Path) -> None:
    """A pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("pipe", "folder", "none"):
        path = tmp_path / f"{name}.safetensors"
        check(lambda path=path: load(path), path)  # type: ignore[misc]


FACTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no facts": lambda facts: {},
    "not JSON": lambda facts: "{",
    "NaN": lambda facts: '{"step": NaN}',
    "brackets": lambda facts: "[" * 100_000,
    "digits": lambda facts: '{"step": ' + "9" * 5000 + "}",
    "a list": lambda facts: [facts],
    "null": lambda facts: None,
    "step of text": lambda facts: {**facts, "step": "4"},
    "negative step": lambda facts: {**facts, "step": -1},
    "step of a boolean": lambda facts: {**facts, "step": True},
    "step of a float": lambda facts: {**facts, "step": 4.5},
    "huge step": lambda facts: {**facts, "step": 10**400},
    "no recipe": lambda facts: {k: v for k, v in facts.items() if k != "recipe"},
    "recipe of a list": lambda facts: {**facts, "recipe": [1]},
    "recipe of null": lambda facts: {**facts, "recipe": None},
    "recipe of text": lambda facts: {**facts, "recipe": "gan_x4"},
    "unknown family": lambda facts: with_recipe(facts, family="cnn"),
    "family of a number": lambda facts: with_recipe(facts, family=3),
    "unknown key": lambda facts: with_recipe(facts, color="red"),
    "network of a list": lambda facts: with_recipe(facts, network=[8, 2]),
    "negative width": lambda facts: with_recipe(facts, network={"width": -8, "depth": 2}),
    "huge width": lambda facts: with_recipe(facts, network={"width": 10**9, "depth": 2}),
    "huge depth": lambda facts: with_recipe(facts, network={"width": 8, "depth": 10**9}),
    "infinite rate": lambda facts: json.dumps(with_recipe(facts)).replace("0.", "1e999", 1),
    "patches of a list": lambda facts: {**facts, "patches": [1]},
}


def with_recipe(facts: dict[str, Any], **values: object) -> dict[str, Any]:
    """Return facts whose recipe has other values."""
    return {**facts, "recipe": {**facts["recipe"], **values}}


@pytest.mark.parametrize("name", FACTS)
def test_wrong_facts(run: Path, tmp_path: Path, name: str) -> None:
    """Reading, packing, evaluating, starting from and resuming a file with wrong facts."""
    for source in ("weights", "last"):
        tensors, facts = load(run / f"{source}.safetensors")
        write(tmp_path / f"{source}.safetensors", dict(tensors), FACTS[name](dict(facts)))
    weights, last = tmp_path / "weights.safetensors", tmp_path / "last.safetensors"

    def read() -> None:
        _, facts = load_weights(weights)
        recipe_from_dict(facts["recipe"], source=str(weights))

    if name != "patches of a list":  # only a resume uses them, but they are checked
        check(read, weights)
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copy(last, resumed / "last.safetensors")
    check(lambda: train(RECIPE, pairs(2), resumed), resumed / "last.safetensors")


EMPTY = torch.zeros(1)
TENSORS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "none": lambda tensors: {},
    "no average": lambda tensors: only(tensors, "objective", "random"),
    "no random state": lambda tensors: only(tensors, "objective", "ema"),
    "another optimizer": lambda tensors: changed(tensors, ".exp_avg", lambda t: t[:1].clone()),
    "a parameter too many": lambda tensors: {**tensors, "objective.optimizer.99.step": EMPTY},
    "floats as random state": lambda tensors: {**tensors, "random.torch": torch.rand(9)},
    "short random state": lambda tensors: {**tensors, "random.torch": tensors["random.torch"][:9]},
    "another shape": lambda tensors: changed(tensors, ".weight", lambda t: t[:1].clone()),
    "no dimensions": lambda tensors: changed(tensors, ".weight", lambda t: torch.zeros(())),
    "no values": lambda tensors: changed(tensors, ".bias", lambda t: t[:0].clone()),
    "a strange name": lambda tensors: {**tensors, "objective.optimizer.x.y": torch.zeros(1)},
    "a layer too many": lambda tensors: {**tensors, "ema.convs.9.weight": torch.zeros(8, 8, 3, 3)},
}


def only(tensors: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Return the tensors with these prefixes."""
    return {name: value for name, value in tensors.items() if name.startswith(prefixes)}


def changed(
    tensors: dict[str, Tensor], suffix: str, change: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return the tensors, those whose name ends in `suffix` changed."""
    return {n: change(t) if n.endswith(suffix) else t for n, t in tensors.items()}


@pytest.mark.parametrize("name", TENSORS)
def test_a_resume_with_wrong_tensors(run: Path, tmp_path: Path, name: str) -> None:
    """A run whose checkpoint cannot be restored ends in one sentence that names the file."""
    tensors, facts = load(run / "last.safetensors")
    path = tmp_path / "last.safetensors"
    write(path, TENSORS[name](dict(tensors)), facts)
    check(lambda: train(RECIPE, pairs(2), tmp_path), path)


@pytest.mark.parametrize(
    "patches", [{}, {"random": 1}, {"random": {"state": {"state": "x"}}}, {"seed": []}]
)
def test_a_resume_with_a_wrong_order_of_patches(
    run: Path, tmp_path: Path, patches: dict[str, object]
) -> None:
    """The random state of the data is checked as that of the network."""
    tensors, facts = load(run / "last.safetensors")
    path = tmp_path / "last.safetensors"
    write(path, dict(tensors), {**facts, "patches": patches})
    check(lambda: train(RECIPE, pairs(2), tmp_path), path)


WEIGHTS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "none": lambda tensors: {},
    "no layer number": lambda tensors: {**tensors, "convs.x.weight": torch.zeros(1)},
    "no number": lambda tensors: {**tensors, "convs": torch.zeros(1)},
    "no values": TENSORS["no values"],
    "no dimensions": TENSORS["no dimensions"],
    "another shape": TENSORS["another shape"],
    "only one": lambda tensors: dict(list(tensors.items())[:1]),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_starting_from_wrong_weights(run: Path, tmp_path: Path, name: str) -> None:
    """A ValueError of the networks, which the command line prints as one line."""
    tensors, facts = load(run / "weights.safetensors")
    path = tmp_path / "weights.safetensors"
    write(path, WEIGHTS[name](dict(tensors)), facts)
    with pytest.raises(ValueError, match=r"another architecture|cannot start") as e:
        train(RECIPE, pairs(2), tmp_path / "run", start_from=path)
    assert "\n" not in str(e.value)


def test_complex_weights(tmp_path: Path) -> None:
    """No network has them; torch would drop the imaginary part with a warning."""
    path = tmp_path / "w.safetensors"
    try:
        write(path, {"convs.0.weight": torch.zeros(8, 3, 3, 3, dtype=torch.complex64)}, {})
    except (KeyError, ValueError):
        pytest.skip("this safetensors writes no complex numbers")
    check(lambda: load_weights(path), path)


def test_the_command_line_prints_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that takes a checkpoint exits with 1 and one line; no file is written."""
    data, recipe = tmp_path / "data", tmp_path / "recipe.toml"
    data.mkdir()
    Image.fromarray(make_picture(64, 80)).save(data / "a.png")
    recipe.write_text(to_toml(RECIPE), encoding="utf-8")
    tensors, facts = load(run / "last.safetensors")
    resumed, bad = tmp_path / "resumed", tmp_path / "bad.safetensors"
    resumed.mkdir()
    write(bad, dict(tensors), {**facts, "step": "4", "recipe": None})
    shutil.copy(bad, resumed / "last.safetensors")
    at = ["--data", str(data)]
    commands = [
        ["pack", str(bad), "-o", str(tmp_path / "packed.safetensors")],
        ["evaluate", str(bad), *at, "--out", str(tmp_path / "report")],
        [str(recipe), *at, "--out", str(tmp_path / "new"), "--start-from", str(bad)],
        [str(recipe), *at, "--out", str(resumed)],
    ]
    for command in commands:
        capsys.readouterr()
        assert main(command) == 1, command
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("training: "), line
        assert "damaged: step is '4'" in line
    assert not (tmp_path / "packed.safetensors").exists()


def check(call: Callable[[], object], path: Path) -> None:
    """One sentence of ours that names the file, in less than a second."""
    began_s = time.process_time()
    with pytest.raises(OURS) as error:
        call()
    assert time.process_time() - began_s < REFUSAL_S
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
