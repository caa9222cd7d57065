"""Output checks, profiling and the kernel cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import srsdk
from srsdk.engines.backends import BACKENDS
from srsdk.engines.compiled.kernel_cache import cache_file, load, store
from srsdk.inference.output_checks import EVERY_TILES, MAX_DRIFT, block_drift
from srsdk.manifest import METADATA_KEY
from srsdk.options import Backend
from tests import networks
from tests.conftest import Picture, make_picture
from tests.fakes.engine import FakeEngine, FakeSlot, fake_manifest
from tests.srsdk.test_upscaler import open_fake

FAULTS: dict[str, Callable[[Picture], Picture]] = {
    "all zero": np.zeros_like,
    "levels away": lambda batch: batch // 2,
    "away from bicubic": lambda batch: batch[:, ::-1],
    "from bicubic on average": lambda batch: 255 - batch,
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_wrong_picture_is_an_error(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Black, half range, mirrored, inverted: the error names model, precision and tile."""
    real = FakeSlot.wait
    monkeypatch.setattr(FakeSlot, "wait", lambda slot: FAULTS[message](real(slot)))
    picture = make_picture(120, 120)
    up = open_fake(monkeypatch, FakeEngine(), fake_manifest(), tile=100)
    with pytest.raises(srsdk.HealthError, match=message) as error:
        up(picture)
    for part in ("fake (unknown, fake on none)", "rows 0-100, columns 0-100", "health=False"):
        assert part in str(error.value)
    up = open_fake(monkeypatch, FakeEngine(), fake_manifest(), tile=100, health=False)
    up(picture)


def test_swapped_channels_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detected if the picture has colors."""
    real = FakeSlot.wait
    monkeypatch.setattr(FakeSlot, "wait", lambda slot: real(slot)[..., ::-1])
    up = open_fake(monkeypatch, FakeEngine(), fake_manifest())
    with pytest.raises(srsdk.HealthError):
        up(np.full((50, 50, 3), (200, 100, 20), np.uint8))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_detected(tmp_path: Path, backend: Backend) -> None:
    """NaN in the output of a float model, before it becomes uint8."""
    path = networks.nan(tmp_path / "nan.onnx")
    manifest = srsdk.Manifest(
        name="nan", scale=2, channels=3, radius_px=4, dtype="float32", layout="NCHW"
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.save(model, path)
    with (
        srsdk.Upscaler(path, backend=backend, health=True) as up,
        pytest.raises(srsdk.HealthError, match=r"4,800 NaN or infinite values"),
    ):
        up(make_picture(20, 20))


def test_one_tile_in_64_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first tile and then every 64th is checked."""
    looked: list[int] = []
    from srsdk.inference.output_checks import Guard

    real = Guard.check

    def check(*arguments: Any) -> None:
        looked.append(1)
        real(*arguments)

    monkeypatch.setattr(Guard, "check", check)
    up = open_fake(monkeypatch, FakeEngine(), fake_manifest(), tile=10)
    up(make_picture(60, 60))
    tiles = 14 * 14
    assert len(looked) == -(-tiles // EVERY_TILES)


@pytest.mark.parametrize("model", ["gan_x2", "gan_x4", "gan_x2.int8", "gan_x4.int8"])
def test_the_shipped_models_are_healthy(model: str) -> None:
    """Noise, checkerboards, stripes, flat colors and tiny pictures pass with a margin."""
    y, x = np.mgrid[0:64, 0:64]
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    boards = [np.repeat(((y // k + x // k) % 2 * 255)[..., None], 3, 2) for k in (1, 2, 3)]
    stripes = np.stack([x % 2 * 255, 0 * x, (x + 1) % 2 * 255], -1)
    pictures = [noise, *boards, stripes, np.full((40, 40, 3), 255), noise[:2, :3], noise[:1, :1]]
    pictures += [noise[:7, :5], 0 * noise, make_picture(64, 64)]
    with srsdk.Upscaler(model) as up:
        for picture in (np.asarray(p, np.uint8) for p in pictures):
            drift = block_drift(picture, up(picture), up.scale)
            assert drift < 0.8 * MAX_DRIFT, picture.shape


@pytest.mark.parametrize("backend", BACKENDS)
def test_profile_on_a_cpu(backend: Backend) -> None:
    """Steps are plausible; calls outside the block are not recorded."""
    picture = make_picture(100, 100)
    with srsdk.Upscaler("gan_x2", backend=backend, tile=60) as up:
        up(picture)
        with up.profile() as calls:
            up(picture)
            up(picture[:50])
        up(picture)
    assert [call.tiles for call in calls] == [4, 2]
    for call in calls:
        assert call.execute_ms > 0
        assert (call.h2d_ms, call.d2h_ms) == (0, 0)
        serial = call.queue_ms + call.stage_ms + call.wait_ms + call.paste_ms
        assert 0 < serial <= call.total_ms


def test_the_cache_is_keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file per plan, version, GPU and driver, in the folder `rtx` of the only variable."""
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "cache"))
    keys: list[Any] = [(b"plan", "1.7", "RTX", "13.0"), (b"plan", "1.7", "RTX", "13.1")]
    keys += [(b"plan", "1.7", "GTX", "13.0"), (b"plan", "1.8", "RTX", "13.0")]
    keys += [(b"other", "1.7", "RTX", "13.0")]
    files = {cache_file(*key) for key in keys}
    assert len(files) == 5
    path = cache_file(*keys[0])
    assert path is not None
    assert path.parent == tmp_path / "cache" / "rtx"
    assert load(path) is None
    store(path, b"kernels")
    assert load(path) == b"kernels"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    monkeypatch.setenv("SRSDK_CACHE", "")
    assert cache_file(*keys[0]) is None
    assert load(None) is None
    store(None, b"kernels")
