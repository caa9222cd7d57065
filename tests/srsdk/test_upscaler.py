"""`Upscaler`: its logic on the fake engine, its pictures on real engines."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import srsdk
from srsdk import models, opening
from srsdk.engines.backends import BACKENDS
from srsdk.manifest import Manifest
from srsdk.options import Backend
from tests import networks
from tests.conftest import Picture, make_picture
from tests.fakes.engine import FakeEngine, fake_manifest


def open_fake(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, manifest: Manifest, **options: Any
) -> srsdk.Upscaler:
    """Open an Upscaler on the fake engine."""
    monkeypatch.setattr(opening, "open_engine", lambda *_, **__: engine)
    monkeypatch.setattr(opening, "choose_backend", lambda *_, **__: "fake")
    monkeypatch.setattr(opening, "read_manifest", lambda _: manifest)
    return srsdk.Upscaler("gan_x4", **options)


def psnr_db(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio of two different pictures."""
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / error))


def largest_difference(a: Picture, b: Picture) -> int:
    """Return the largest difference in levels."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(np.int16) - b).max())


@settings(max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.tuples(st.integers(10, 40), st.integers(10, 40)),
    slots=st.integers(1, 8),
    multiple=st.sampled_from([1, 2, 4]),
)
def test_tiles_over_slots_give_the_whole(
    height: int, width: int, tile: tuple[int, int], slots: int, multiple: int
) -> None:
    """Exact for any size, tile, number of slots and size multiple; slots are used in order."""
    engine = FakeEngine()
    manifest = fake_manifest(radius_px=3, multiple_px=multiple)
    with pytest.MonkeyPatch.context() as patch:
        up = open_fake(patch, engine, manifest, tile=tile, slots=slots)
        picture = make_picture(height, width)
        expected = picture.repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(up(picture), expected)
    assert engine.submitted == engine.waited
    assert len(engine.slots) <= slots


@pytest.mark.parametrize("shape", [(5, 7), (32, 48), (33, 7), (100, 90)])
def test_a_model_of_one_size_accepts_any_picture(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """Smaller pictures are padded to its size and cropped, larger ones are tiled."""
    engine = FakeEngine()
    up = open_fake(monkeypatch, engine, fake_manifest(size_px=(32, 48)))
    picture = make_picture(*shape)
    np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
    assert {slot.input.shape for slot in engine.slots} == {(1, 32, 48, 3)}


def test_a_failure_leaves_the_upscaler_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised, the slots are returned idle, and the next picture succeeds."""
    engine = FakeEngine(fail_at=3)
    up = open_fake(monkeypatch, engine, fake_manifest(), tile=16, slots=3)
    picture = make_picture(60, 60)
    with pytest.raises(srsdk.BackendError, match="on request"):
        up(picture)
    engine.fail_at = None
    np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
    assert len(engine.slots) == 3


def test_progress_counts_tiles_and_can_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """`progress` is called once per tile; an exception from it ends the call within that tile."""

    class Cancelled(Exception):  # noqa: N818 - it is not an error
        pass

    engine = FakeEngine()
    up = open_fake(monkeypatch, engine, fake_manifest(), tile=16, slots=2)
    picture = make_picture(30, 30)
    seen: list[tuple[int, int]] = []
    up(picture, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(index + 1, 9) for index in range(9)]

    def cancel(done: int, total: int) -> None:
        if done == 4:
            raise Cancelled

    before = engine.submitted
    with pytest.raises(Cancelled):
        up(picture, progress=cancel)
    assert engine.submitted - before <= 4 + 2
    np.testing.assert_array_equal(up(picture)[::2, ::2], picture)


def test_close_releases_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots and engine are closed; closing again is safe; a later call raises an error."""
    engine = FakeEngine()
    with open_fake(monkeypatch, engine, fake_manifest(), tile=16) as up:
        up(make_picture(30, 30))
    assert engine.closed
    assert all(slot.closed for slot in engine.slots)
    up.close()
    with pytest.raises(srsdk.BackendError, match="closed"):
        up(make_picture(30, 30))


def test_slots_of_forgotten_shapes_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of pictures of all sizes does not accumulate memory."""
    engine = FakeEngine()
    up = open_fake(monkeypatch, engine, fake_manifest())
    for side in range(10, 30):
        up(make_picture(side, side))
    assert sum(not slot.closed for slot in engine.slots) <= 4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("model", ["gan_x2", "gan_x4"])
@pytest.mark.parametrize("size", [(1, 1), (1, 97), (83, 1), (2, 3), (67, 101), (64, 128)])
def test_tiled_equals_untiled(
    backend: Backend, precision: Literal["fp32", "int8"], model: str, size: tuple[int, int]
) -> None:
    """Any tile gives the same picture within 1 LSB: single pixels, rows, prime sizes."""
    picture = make_picture(*size)
    with srsdk.Upscaler(model, backend=backend, precision=precision) as up:
        whole = up(picture)
        assert whole.shape == (size[0] * up.scale, size[1] * up.scale, 3)
    for tile in (25, 37, (48, 30)):
        with srsdk.Upscaler(model, backend=backend, precision=precision, tile=tile) as up:
            assert largest_difference(up(picture), whole) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_tiled_equals_untiled_at_twelve_megapixels(backend: Backend) -> None:
    """4000x3000: automatic tiles against odd ones, within 1 LSB."""
    picture = make_picture(3000, 4000)
    with srsdk.Upscaler("gan_x2", backend=backend) as up:
        automatic = up(picture)
    with srsdk.Upscaler("gan_x2", backend=backend, tile=(331, 757)) as up:
        assert largest_difference(up(picture), automatic) <= 1


@pytest.mark.parametrize("model", ["gan_x2", "gan_x4"])
def test_backends_agree(model: str, picture: Picture) -> None:
    """OpenVINO and ONNX Runtime differ by at most 1 LSB, on fewer than 0.1 % of the samples."""
    results = []
    for backend in BACKENDS:
        with srsdk.Upscaler(model, backend=backend, precision="fp32") as up:
            results.append(up(picture))
    assert largest_difference(*results) <= 1
    assert np.mean(results[0] != results[1]) < 1e-3


@pytest.mark.parametrize("model", ["gan_x2", "gan_x4"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_int8_is_near_float(model: str, backend: Backend, picture: Picture) -> None:
    """INT8 files match the float files as measured at export, on any processor, tiled or not."""
    with srsdk.Upscaler(model, backend=backend, precision="fp32") as up:
        expected = up(picture).astype(float)
    with srsdk.Upscaler(f"{model}.int8", backend=backend) as up:
        assert "int8" in repr(up)
        whole, parity_db = up(picture), up.manifest.parity_db
    assert parity_db is not None
    # 3 dB less than on its test set: this picture is half noise
    assert psnr_db(whole, expected) > parity_db - 3
    with srsdk.Upscaler(f"{model}.int8", backend=backend, tile=40) as up:
        assert largest_difference(up(picture), whole) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_model_upscales(backend: Backend) -> None:
    """A shipped model is closer to the ground truth than bicubic on a picture with edges."""
    y, x = np.mgrid[0:256, 0:256]
    rings = np.sin(np.hypot(y - 100, x - 140) / 6) > 0
    truth = np.asarray(
        Image.fromarray((rings * 200 + 30).astype(np.uint8)).resize((128, 128)).convert("RGB")
    )
    small = Image.fromarray(truth).resize((64, 64), Image.Resampling.BICUBIC)
    bicubic = np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC))
    with srsdk.Upscaler("gan_x2", backend=backend) as up:
        ours = up(np.asarray(small))

    def error(result: npt.NDArray[np.uint8]) -> float:
        return float(np.mean((result[4:-4, 4:-4].astype(float) - truth[4:-4, 4:-4]) ** 2))

    assert error(ours) < 0.8 * error(bicubic)


def test_the_kind_of_picture_is_kept(tmp_path: Path, picture: Picture) -> None:
    """An array gives an array, an image an image, a path an array; all are equal."""
    image = Image.fromarray(picture)
    image.save(tmp_path / "in.png")
    with srsdk.Upscaler("gan_x2") as up:
        array = up(picture)
        from_image = up(image)
        assert isinstance(from_image, Image.Image)
        np.testing.assert_array_equal(np.asarray(from_image), array)
        np.testing.assert_array_equal(up(tmp_path / "in.png"), array)
        np.testing.assert_array_equal(up(str(tmp_path / "in.png")), array)


def test_the_callers_picture_is_untouched_and_strides_do_not_matter(picture: Picture) -> None:
    """Views, read-only and Fortran-ordered arrays are fine."""
    frozen = picture.copy()
    frozen.flags.writeable = False
    with srsdk.Upscaler("gan_x2") as up:
        expected = up(picture)
        np.testing.assert_array_equal(up(frozen), expected)
        np.testing.assert_array_equal(up(np.asfortranarray(picture)), expected)
        np.testing.assert_array_equal(up(picture[::-1, ::-1]), up(picture[::-1, ::-1].copy()))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\), expected \(H, W, 3\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((4, 4, 3), np.float64), "float64, expected uint8, uint16, float32"),
        (np.full((4, 4, 3), np.nan, np.float32), "not finite"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        ([[1]], "got list, expected a path"),
        (None, "got NoneType"),
    ],
)
def test_invalid_pictures_are_rejected(bad: Any, message: str) -> None:
    """The error names what was got and what was expected."""
    with srsdk.Upscaler("gan_x2") as up, pytest.raises(srsdk.PictureError, match=message):
        up(bad)


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (9, 7, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float32"])
def test_arrays_keep_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    """Gray, RGB and RGBA; 8 and 16 bits and floats, in either byte order."""
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    picture = (np.random.default_rng(0).random(shape) * white).astype(dtype)
    with srsdk.Upscaler("gan_x2") as up:
        result = up(picture)
    assert result.shape == (18, 14, *shape[2:])
    assert result.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texture": 2}, "texture is 2, expected 0"),
        ({"tile": 0}, "tile is 0"),
        ({"tile": -3}, "tile is -3"),
        ({"tile": "big"}, "tile is 'big'"),
        ({"tile": (1, 2, 3)}, r"tile is \(1, 2, 3\)"),
        ({"tile": 20}, "at least 21 px"),
        ({"slots": 0}, "slots is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"backend": "tflite"}, "not one of auto, openvino, onnxruntime, tensorrt"),
        ({"device": "tpu"}, "not one of auto, cpu, cuda"),
        ({"device": "cuda:"}, "not one of auto, cpu, cuda"),
        ({"device": "cuda:x"}, "not one of auto, cpu, cuda"),
        ({"devices": []}, "devices is "),
        ({"devices": [0, 0]}, "different GPU numbers"),
        ({"devices": [0], "device": "cuda"}, "cannot be combined"),
        ({"backend": "tensorrt"}, "takes .engine files"),
        ({"backend": "openvino", "device": "cuda"}, "runs on CPUs"),
        ({"batch": 0}, "batch is 0"),
        ({"max_memory": "much"}, "max_memory is 'much'"),
        ({"max_memory": "2GB", "device": "cpu"}, "this runs on a CPU"),
    ],
)
def test_a_wrong_argument_lists_the_right_ones(options: dict[str, Any], message: str) -> None:
    """`UsageError` is a `ValueError` too."""
    with pytest.raises(srsdk.UsageError, match=message):
        srsdk.Upscaler("gan_x2", **options)
    assert issubclass(srsdk.UsageError, ValueError)


def test_an_unknown_model_lists_the_shipped_ones(tmp_path: Path) -> None:
    """Names, paths and kinds of file."""
    with pytest.raises(srsdk.ModelError, match=r"available: ae_x1, gan_x2, gan_x2_quality, "):
        srsdk.Upscaler("gan_x3")
    with pytest.raises(srsdk.ModelError, match="no such model file"):
        srsdk.Upscaler(tmp_path / "gone.onnx")
    with pytest.raises(srsdk.ModelError, match="is a folder"):
        srsdk.Upscaler(tmp_path)
    (tmp_path / "a.pth").write_bytes(b"x")
    with pytest.raises(srsdk.ModelError, match=r"holds PyTorch weights.*python -m export"):
        srsdk.Upscaler(tmp_path / "a.pth")
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(srsdk.ModelError, match=r"\.onnx, \.engine or \.dtmodel"):
        srsdk.Upscaler(tmp_path / "a.txt")
    (tmp_path / "a.engine").write_bytes(b"x")
    with pytest.raises(srsdk.ModelError, match="is not a TensorRT engine"):
        srsdk.Upscaler(tmp_path / "a.engine")
    with pytest.raises(srsdk.UsageError, match="runs on a GPU"):
        srsdk.Upscaler(tmp_path / "a.engine", device="cpu")


def test_repr_shows_the_settings(tmp_path: Path) -> None:
    """Model, scale, precision, backend, device, tile, overlap; and whether they were inferred."""
    options: dict[str, Any] = {"precision": "fp32", "tile": (64, 96)}
    with srsdk.Upscaler("gan_x4", backend="onnxruntime", **options) as up:
        assert repr(up) == (
            "<Upscaler gan_x4 x4 fp32, onnxruntime on cpu, tile 64x96, overlap 10 px, "
            "3 channels uint8>"
        )
    with srsdk.Upscaler(networks.nearest(tmp_path / "toy.onnx")) as up:
        assert "no manifest: inferred" in repr(up)
        assert "overlap 2 px" in repr(up)


def test_auto_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The choice of a backend is one line in the log, and in `repr`."""
    with caplog.at_level(logging.INFO, "srsdk"), srsdk.Upscaler(models.find("gan_x2")) as up:
        up(make_picture(8, 8))
        up(make_picture(9, 9))
    assert [record.message for record in caplog.records] == [
        "backend auto: openvino on cpu (installed: openvino, onnxruntime)"
    ]
    assert up.backend == "openvino"


def test_threads_do_not_change_the_picture(picture: Picture) -> None:
    """The number of threads does not affect the result."""
    for backend in BACKENDS:
        with srsdk.Upscaler("gan_x2", backend=backend) as up:
            expected = up(picture)
        with srsdk.Upscaler("gan_x2", backend=backend, threads=1) as up:
            assert largest_difference(up(picture), expected) <= 1
