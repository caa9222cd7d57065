"""`IO`: what is said of a network, checked when it is said."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import srsdk

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "range": ({"range": "255"}, "range is '255', expected white's value"),
    "flat range": ({"range": (1, 1)}, "expected two different values"),
    "infinite": ({"output_range": float("inf")}, "output_range is inf"),
    "mean": ({"mean": (1, 2)}, "a number, or one for each channel"),
    "std": ({"std": (1, 0, 1)}, "numbers other than 0"),
    "order": ({"order": "brg"}, "order is 'brg', expected rgb or bgr"),
    "layout": ({"layout": "CHW"}, "expected NCHW or NHWC"),
    "alpha": ({"alpha": "no"}, "expected network or apart"),
    "multiple": ({"multiple": 0}, "a whole number from 1 to 256"),
    "true": ({"multiple": True}, "a whole number from 1 to 256"),
    "input": ({"input": 1}, "input is 1, expected a name"),
    "inputs": ({"inputs": ["noise"]}, "expected numbers by name"),
    "keyword": ({"inputs": {"noise level": 1}}, "cannot be a keyword"),
    "divisor": ({"inputs": {"noise": (1, 0)}}, "expected its default, or"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_a_usage_error(case: str) -> None:
    """The field, what it is and what is expected."""
    fields, said = WRONG[case]
    with pytest.raises(srsdk.UsageError, match=said):
        srsdk.IO(**fields)


def test_it_is_a_value(tmp_path: Any) -> None:
    """It goes to other processes, is equal to what says the same, and is a key."""
    io = srsdk.IO(range=255, order="bgr", inputs={"noise": 15})
    assert (
        pickle.loads(pickle.dumps(io))
        == io
        == srsdk.IO(range=(0, 255), order="bgr", inputs={"noise": (15, 1)})
    )
    assert len({io, srsdk.IO(range=255, order="bgr")}) == 2
    with pytest.raises(srsdk.UsageError, match=r"io is 255, expected srsdk.IO\(...\)"):
        srsdk.Upscaler("gan_x2", io=255)  # type: ignore[arg-type]
    with pytest.raises(srsdk.UsageError, match="this one has a manifest"):
        srsdk.Upscaler("gan_x2", io=io)
