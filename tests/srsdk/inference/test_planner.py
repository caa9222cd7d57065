"""Plans match the actual tiles and memory, exactly if the library reports its memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.inference.planner import Planner, parse_bytes
from tests.fakes.engine import FakeEngine, fake_manifest


@settings(max_examples=100)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    profiles=st.lists(
        st.tuples(st.sampled_from([1, 2, 4]), st.integers(8, 90), st.integers(8, 90)),
        min_size=1, max_size=5, unique=True,
    ),
)  # fmt: skip
def test_a_profile_is_chosen_by_cost(
    height: int, width: int, profiles: list[tuple[int, int, int]]
) -> None:
    """No other profile computes fewer pixels."""
    manifest = fake_manifest(radius_px=3)
    engine: Any = FakeEngine()
    import dataclasses

    manifest = dataclasses.replace(manifest, profiles=tuple(profiles))
    planner = Planner(engine, manifest, None)
    choice = planner.choose(height, width)
    assert (choice.batch, *choice.input_shape[1:3]) in profiles
    costs = [planner._cost(height, width, c) for c in planner._choices(height, width)]
    assert planner._cost(height, width, choice) == min(costs)


def test_on_a_cpu() -> None:
    """No device bytes; the rest is the same as on a GPU."""
    with srsdk.Upscaler("gan_x4", tile=64) as up:
        plan = up.plan(100, 100)
        assert (plan.device_bytes, plan.free_bytes, plan.fits, plan.slots) == (0, None, True, 2)
        assert plan.tiles == 4
        slots = 2 * 64 * 64 * 3 * 17
        assert plan.host_bytes == slots + 400 * 400 * 3
        with pytest.raises(srsdk.UsageError, match="height is 0"):
            up.plan(0, 10)


def test_parse_bytes() -> None:
    """Numbers and the usual units; nothing else."""
    assert parse_bytes(None) is None
    texts = {"2GB": 2 * 10**9, "512 MiB": 512 * 2**20, "1.5gib": 3 * 2**29, "77": 77}
    assert {text: parse_bytes(text) for text in texts} == texts
    for wrong in ("", "GB", "-1", "2 TBit", 0, -5, True, 1.5):
        with pytest.raises(srsdk.UsageError, match="max_memory is"):
            parse_bytes(wrong)  # type: ignore[arg-type]
