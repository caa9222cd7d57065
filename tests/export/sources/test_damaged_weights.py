"""Weights of any origin: one ExportError or CheckpointError of one sentence, and no code is run."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from export.cli import main
from export.errors import ExportError
from export.sources.select import open_source
from export.sources.state_dict import MAX_LEVELS, check_tensors, read_state
from tests.export.sources.test_sources import Malice, compact_state
from training import checkpoint
from training.checkpoint import CheckpointError
from training.recipe.schema import RecipeError

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="needs spandrel: 'srsdk[foreign]'"
)
OURS = (ExportError, CheckpointError, RecipeError)
REFUSAL_S = 3.0
"""Processor time in which a file must be refused; the first call imports spandrel."""


def saved(value: object) -> bytes:
    """Return what `torch.save` writes."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def first_layer(**changes: object) -> dict[str, Any]:
    """Return weights of a known architecture with other entries."""
    return {**compact_state(), **changes}


def expanded() -> Tensor:
    """Return terabytes that are one value repeated."""
    return torch.zeros(1).expand(1 << 20, 1 << 20)


def compressed() -> bytes:
    """Return an archive of 200 MB that takes a megabyte."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for index in range(10):
            archive.writestr(f"w/data/{index}", bytes(20_000_000))
    return stream.getvalue()


def nested(levels: int) -> dict[str, Any]:
    """Return dicts within dicts."""
    state: dict[str, Any] = compact_state()
    for _ in range(levels):
        state = {"params": state}
    return state


NOTHING: dict[str, Tensor] = {}
PTH: dict[str, Callable[[], bytes]] = {
    "zero bytes": lambda: b"",
    "zeros": lambda: bytes(5000),
    "text": lambda: b"hello, this is text",
    "cut": lambda: saved(compact_state())[:2000],
    "cut at the end": lambda: saved(compact_state())[:-30],
    "code": lambda: pickle.dumps({"a": Malice()}, protocol=2),
    "code in an archive": lambda: saved({"a": Malice()}),
    "integer keys": lambda: saved(dict(enumerate(compact_state().values()))),
    "mixed keys": lambda: saved(dict([*compact_state().items(), (3, 0)])),
    "keys of tuples": lambda: saved({("a", 1): torch.zeros(1)}),
    "keys of bytes": lambda: saved({b"body.0.weight": torch.zeros(8, 3, 3, 3)}),
    "integer keys below": lambda: saved({"params": {0: torch.zeros(1)}}),
    "an empty dict": lambda: saved(NOTHING),
    "empty below": lambda: saved({"params": NOTHING}),
    "a list": lambda: saved([torch.zeros(1)]),
    "a number": lambda: saved(7),
    "None": lambda: saved(None),
    "a tensor": lambda: saved(torch.zeros(3)),
    "text as weights": lambda: saved({"body.0.weight": "abc"}),
    "numbers as weights": lambda: saved({"body.0.weight": 3, "body.0.bias": 2.5}),
    "lists as weights": lambda: saved({"body.0.weight": [1, 2, 3]}),
    "a weight too many": lambda: saved(first_layer(epoch=5)),
    "deep": lambda: saved(nested(MAX_LEVELS + 3)),
    "very deep": lambda: saved(nested(60)),
    "sparse": lambda: saved(first_layer(**{"body.0.weight": torch.zeros(8, 3, 3, 3).to_sparse()})),
    "quantized": lambda: saved(
        first_layer(
            **{"body.0.weight": torch.quantize_per_tensor(torch.zeros(8, 3), 1, 0, torch.quint8)}
        )
    ),
    "complex": lambda: saved(
        first_layer(**{"body.0.weight": torch.zeros(8, 3, 3, 3, dtype=torch.complex64)})
    ),
    "meta": lambda: saved(first_layer(**{"body.0.weight": torch.zeros(8, 3, 3, 3, device="meta")})),
    "integers": lambda: saved({k: v.to(torch.int64) for k, v in compact_state().items()}),
    "booleans": lambda: saved({k: v > 0 for k, v in compact_state().items()}),
    "NaN": lambda: saved(first_layer(**{"body.0.bias": torch.full((8,), math.nan)})),
    "no dimensions": lambda: saved({k: torch.zeros(()) for k in compact_state()}),
    "no values": lambda: saved({k: v[:0].clone() for k, v in compact_state().items()}),
    "one dimension": lambda: saved({k: v.flatten() for k, v in compact_state().items()}),
    "odd shapes": lambda: saved(first_layer(**{"body.2.weight": torch.zeros(7, 9, 3, 3)})),
    "odd scale": lambda: saved(first_layer(**{"body.8.weight": torch.zeros(11, 8, 3, 3)})),
    "expanded": lambda: saved(first_layer(**{"body.0.weight": expanded()})),
    "a billion layers": lambda: saved(first_layer(**{"body.999999998.weight": torch.zeros(1)})),
    "digits": lambda: saved(first_layer(**{f"body.{'9' * 5000}.weight": torch.zeros(1)})),
    "one layer": lambda: saved({"body.0.weight": torch.zeros(8, 3, 3, 3)}),
    "unknown": lambda: saved({"a.weight": torch.zeros(3, 5)}),
    "arrays": lambda: saved({"body.0.weight": np.zeros(3)}),
    "compressed": compressed,
    "an archive of others": lambda: compressed()[:100] + saved(NOTHING)[:50],
}


@needs_spandrel
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", PTH)
def test_a_pth_file_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Wrong names, types, shapes, layouts and archives; terabytes and layers that are claimed."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    path.write_bytes(PTH[name]())
    check(lambda: open_source(path), path)
    assert not (tmp_path / "pwned").exists()


SAFETENSORS: dict[str, Callable[[Path], None]] = {
    "unknown": lambda path: save_file({"a.weight": torch.zeros(3, 5)}, path),
    "no tensors": lambda path: save_file({}, path),
    "no dimensions": lambda path: save_file({"body.0.weight": torch.zeros(())}, path),
    "a billion layers": lambda path: save_file(
        first_layer(**{"body.999999998.weight": torch.zeros(1)}), path
    ),
    "another schema": lambda path: save_file({"a": torch.zeros(1)}, path, {"schema": "mine"}),
    "header of 2^60": lambda path: hold(path, struct.pack("<Q", 1 << 60) + b"{}"),
    "text": lambda path: hold(path, b"hello, this is text"),
    "empty": lambda path: hold(path, b""),
}


def hold(path: Path, content: bytes) -> None:
    """Write a file."""
    path.write_bytes(content)


@needs_spandrel
@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_of_others(tmp_path: Path, name: str) -> None:
    """As for .pth files."""
    path = tmp_path / "w.safetensors"
    SAFETENSORS[name](path)
    check(lambda: open_source(path), path)


FACTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "step of text": lambda facts: {**facts, "step": "4"},
    "negative step": lambda facts: {**facts, "step": -1},
    "no recipe": lambda facts: {"step": 1},
    "recipe of a list": lambda facts: {**facts, "recipe": [1]},
    "unknown family": lambda facts: with_recipe(facts, family="cnn"),
    "huge width": lambda facts: with_recipe(facts, network={"width": 10**9, "depth": 3}),
    "wide": lambda facts: with_recipe(facts, network={"width": 4000, "depth": 3}),
    "deep": lambda facts: with_recipe(facts, network={"width": 8, "depth": 4000}),
    "wider": lambda facts: with_recipe(facts, network={"width": 6, "depth": 3}),
    "another scale": lambda facts: with_recipe(facts, scale=3),
    "another kind": lambda facts: with_recipe(facts, family="ae", scale=1),
    "not an object": lambda facts: [1],
}


def with_recipe(facts: dict[str, Any], **values: object) -> dict[str, Any]:
    """Return facts whose recipe has other values."""
    return {**facts, "recipe": {**facts["recipe"], **values}}


@pytest.mark.parametrize("name", FACTS)
def test_a_checkpoint_of_ours_with_wrong_facts(weights: Path, tmp_path: Path, name: str) -> None:
    """The network that a recipe describes is only built when the file has weights for it."""
    tensors, facts = checkpoint.load(weights)
    path = tmp_path / "w.safetensors"
    text = json.dumps(FACTS[name](dict(facts)))
    save_file(dict(tensors), path, {"schema": checkpoint.SCHEMA, "facts": text})
    check(lambda: open_source(path), path)


def test_the_kind_of_a_file_is_read_and_not_guessed(weights: Path, tmp_path: Path) -> None:
    """A folder called `schema` does not make a damaged checkpoint a foreign one."""
    folder = tmp_path / "schema"
    folder.mkdir()
    (folder / "cut.safetensors").write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        open_source(folder / "cut.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        open_source(folder / "none.safetensors")
    save_file({"a": torch.zeros(1)}, folder / "new.safetensors", {"schema": "srsdk-training/9"})
    with pytest.raises(CheckpointError, match=r"schema 'srsdk-training/9', expected"):
        open_source(folder / "new.safetensors")


@needs_spandrel
def test_the_command_line_prints_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m export FILE` exits with 1 and writes nothing."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("integer keys", "sparse", "expanded", "odd shapes"):
        (tmp_path / "w.pth").write_bytes(PTH[name]())
        assert main([str(tmp_path / "w.pth"), "-o", str(out)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("export: ")
        assert error.count("\n") == 1
    assert list(out.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe without a writer would be read for ever."""
    for suffix in (".pth", ".safetensors", ".onnx"):
        path = tmp_path / f"w{suffix}"
        os.mkfifo(path)
        check(lambda path=path: open_source(path), path)  # type: ignore[misc]


def test_what_is_accepted(tmp_path: Path) -> None:
    """Weights below other keys, and views of one storage, as torch saves them."""
    whole = torch.zeros(64, 3, 3, 3)
    state = {"a.weight": whole[:8], "b.weight": whole.transpose(0, 1), "c": torch.zeros(0)}
    torch.save({"epoch": 3, "params_ema": state}, tmp_path / "w.pth")
    read = read_state(tmp_path / "w.pth")["params_ema"]
    assert list(read) == list(state)
    check_tensors(tmp_path / "w.pth", read)


def check(call: Callable[[], object], path: Path) -> None:
    """One sentence of ours that names the file, in little time."""
    began_s = time.process_time()
    with pytest.raises(OURS) as error:
        call()
    assert time.process_time() - began_s < REFUSAL_S
    assert str(path) in str(error.value) or path.stem in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700
