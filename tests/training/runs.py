"""Small recipes, pictures and checks shared by the tests of all families."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import make_picture
from training.checkpoint import load_weights
from training.data.pictures import Pair, make_pair
from training.loop import Progress, train
from training.recipe.schema import Recipe, recipe_from_dict


def tiny(family: str, scale: int, **tables: Any) -> Recipe:
    """Return a recipe of 8 steps, which takes about a second."""
    table: dict[str, Any] = {
        "name": "tiny",
        "family": family,
        "scale": scale,
        "steps": 8,
        "save_every": 4,
        "evaluate_every": 4,
        "network": {"width": 8, "depth": 2},
        "data": {"patch_px": 16, "batch": 4},
        "optimizer": {"warm_up": 2},
        "ae": {"width": 8},
        "vae": {"latent": 2, "decoder_depth": 1, "posterior_width": 8},
    }
    return recipe_from_dict(table | tables, source="test")


def pairs(scale: int, count: int = 3, side: int = 64) -> list[Pair]:
    """Return pairs made from drawn pictures."""
    made = [make_picture(side, side + 16, seed) for seed in range(count)]
    return [make_pair(picture, scale, str(seed)) for seed, picture in enumerate(made)]


class Killed(Exception):  # noqa: N818 - stands for a signal
    """Raised in the middle of a run."""


def assert_resumes_exactly(recipe: Recipe, data: list[Pair], folder: Path) -> None:
    """A run killed between checkpoints and resumed equals one that never stopped, bit for bit."""

    def kill(progress: Progress) -> None:
        if progress.step == 6:
            raise Killed

    whole = load_weights(train(recipe, data, folder / "whole"))[0]
    with pytest.raises(Killed):
        train(recipe, data, folder / "killed", on_step=kill)
    resumed = load_weights(train(recipe, data, folder / "killed"))[0]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def assert_the_seed_decides(recipe: Recipe, data: list[Pair], folder: Path) -> None:
    """The same seed gives the same run; another seed gives another."""
    other = recipe_from_dict(recipe.to_dict() | {"seed": 1}, source="test")
    runs = [
        load_weights(train(made, data, folder / name))[0]
        for name, made in (("a", recipe), ("b", recipe), ("c", other))
    ]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not all(torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def assert_exports(
    module: nn.Module,
    example: tuple[Tensor, ...],
    dynamic: tuple[dict[int, Any], ...],
    others: Sequence[tuple[Tensor, ...]],
) -> None:
    """The ONNX file computes the same as the module, at the example's shapes and at others."""
    import onnxruntime

    module = module.eval()
    names = [f"input{index}" for index in range(len(example))]
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about itself
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=20,
            input_names=names,
            dynamic_shapes=dynamic,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for inputs in [example, *others]:
        got = session.run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)})
        with torch.no_grad():
            expected = module(*inputs)
        wanted = expected if isinstance(expected, tuple) else (expected,)
        for result, truth in zip(got, wanted, strict=True):
            whole = truth.dtype == torch.uint8
            np.testing.assert_allclose(
                result.astype(np.float32),
                truth.float().numpy(),
                rtol=0 if whole else 1e-3,
                atol=1 if whole else 1e-4,
            )
