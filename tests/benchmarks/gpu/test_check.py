"""`gpu-check` without a GPU: its network is right, and it reports why it cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import srsdk
from benchmarks.cli import main
from benchmarks.gpu.check import _failed_checks, _sections
from benchmarks.gpu.sections import _macs_per_pixel
from benchmarks.gpu.torch_engine import Nearest, load
from srsdk.engines.cuda import device
from tests.conftest import make_picture


def test_without_a_gpu_one_sentence_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written."""
    try:
        device.Device(0)
    except srsdk.SrsdkError:
        pass
    else:
        pytest.skip("there is a GPU: run `python -m benchmarks gpu-check`")
    assert main(["gpu-check", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gpu-check needs an NVIDIA GPU: no CUDA driver")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_network_of_the_peers_is_the_shipped_one() -> None:
    """PyTorch's network gives the shipped file's picture, within 1 LSB."""
    picture = make_picture(60, 70)
    with srsdk.Upscaler("gan_x4") as up:
        expected = up(picture)
    net = load("gan_x4", torch.float32, "cpu")
    with torch.inference_mode():
        result = net(torch.from_numpy(picture)[None])[0].numpy()
        twice = Nearest()(torch.from_numpy(picture)[None])[0].numpy()
    assert np.abs(result.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(twice, picture.repeat(2, axis=0).repeat(2, axis=1))
    assert 50_000 < _macs_per_pixel(net) < 200_000


def test_all_sections_exist() -> None:
    """All sections have their names; a failed check is distinguished from a missing library."""
    names = set(_sections([Path("a.engine")]))
    assert {
        "tests",
        "bandwidth_gb_s",
        "check_memory_release",
        "graphs",
        "sweep",
        "end_to_end",
    } <= names
    assert {"pytorch_alone", "lower_bounds", "onnxruntime_cuda_ms", "engine a.engine"} <= names
    good = {
        "tests": {"found": {"exit_code": 0}},
        "pinned_content_right": {"found": True},
        "slots_right": {"found": {"wrong": 0}},
        "check_memory_release": {"found": {"lost": 0}},
        "onnxruntime_cuda_ms": {"missing": "BackendError: ..."},
    }
    assert _failed_checks(good) == []
    bad = {
        **good,
        "slots_right": {"missing": "died"},
        "check_memory_release": {"found": {"lost": 1e9}},
    }
    assert len(_failed_checks(bad)) == 2
