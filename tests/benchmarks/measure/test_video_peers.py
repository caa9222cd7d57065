"""Other ways to enlarge a video, and flicker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import workloads
from benchmarks.cli import main
from benchmarks.measure import flicker, video_peers
from tests.conftest import make_picture


def test_what_is_missing_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without ffmpeg and the files of others, srsdk is measured, and the rest has its reason."""
    pytest.importorskip("av")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    folder = tmp_path / "test"
    folder.mkdir()
    Image.fromarray(make_picture(64, 80)).save(folder / "a.png")
    out = tmp_path / "out.jsonl"
    call = ["video-peers", "--rounds", "1", "--frames", "3", "--test", str(folder)]
    assert main([*call, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "| ffmpeg, scale, bicubic | not on this machine: ffmpeg is not installed | |" in shown
    result = json.loads(out.read_text())["result"]
    assert result["fps"].keys() == {*video_peers.MODELS, video_peers.KERNEL}
    psnr = result["psnr_luma_db"]
    assert psnr[next(iter(video_peers.MODELS))] > psnr[video_peers.KERNEL] > 20


def test_a_pan_moves_by_parts_of_a_pixel() -> None:
    """Frames are windows of one scene; an upscaler that knows the truth does not flicker."""
    scene = workloads.picture(flicker.SCENE_PX, flicker.SCENE_PX)
    frames = list(flicker.pan(scene, 2 * flicker.SIDE_PX))
    assert len(frames) == flicker.FRAMES
    assert all(frame.shape == (192, 192, 3) for frame in frames)
    # after four frames: five whole pixels to the right, three down
    np.testing.assert_array_equal(frames[4][:-3, :-5], frames[0][3:, 5:])
    truth = iter(frames)
    assert flicker.measure(scene, 2, lambda _: next(truth))["flicker"] == 0


def test_noise_flickers_and_blur_does_not() -> None:
    """Noise that changes from frame to frame is flicker, an error that moves along is not."""
    scene = workloads.picture(flicker.SCENE_PX, flicker.SCENE_PX)
    frames = list(flicker.pan(scene, 2 * flicker.SIDE_PX))
    random = np.random.default_rng(0)
    shown = iter(frames)

    def noisy(_: np.ndarray) -> np.ndarray:
        noise = random.integers(-9, 10, frames[0].shape[:2])[..., None]
        return np.asarray(np.clip(next(shown) + noise, 0, 255), np.uint8)

    dark = iter(frames)
    noise = flicker.measure(scene, 2, noisy)
    fixed = flicker.measure(scene, 2, lambda _: np.maximum(next(dark), 9) - 9)
    assert noise["flicker"] > 4
    assert fixed["flicker"] < 1
    assert fixed["error"] > 4


def test_small_pictures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says how large they must be."""
    Image.fromarray(make_picture(64, 80)).save(tmp_path / "a.png")
    assert main(["flicker", "--pictures", str(tmp_path)]) == 1
    assert f"no picture of {flicker.SMALLEST_PX} px" in capsys.readouterr().err
