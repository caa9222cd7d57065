"""Pictures from memory and open files, results into open files, and metadata of PIL images."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import srsdk
from srsdk.image import decode, streams
from srsdk.options import PictureOptions
from srsdk.scheduling.context import Call
from srsdk.upscaling import files
from tests.conftest import make_picture
from tests.fuzz.workplace import NEAREST

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo(kind: str = "JPEG", orientation: int = 6) -> bytes:
    """Return a picture file of 20 x 12 stored pixels with all kinds of metadata."""
    image = Image.fromarray(make_picture(12, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    file = io.BytesIO()
    image.save(file, kind, exif=exif, icc_profile=PROFILE, dpi=(300, 300), xmp=b"<x:xmpmeta/>")
    return file.getvalue()


def call(source: Any, options: PictureOptions | None = None) -> Any:
    """Upscale by repeating pixels."""
    return files.upscale_any((NEAREST,), source, options, Call())


def into_memory(source: Any, kind: str, **options: Any) -> bytes:
    """Upscale a file into an open one."""
    target = io.BytesIO()
    chosen = PictureOptions(format=kind, **options)
    place = streams.target_of(target, chosen.format)
    files.upscale_file((NEAREST,), streams.source_of(source), place, options=chosen)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_keeps_its_metadata(kind: str, tmp_path: Path) -> None:
    """ICC, EXIF, XMP and resolution are in `info`; saving them gives what the file path gives."""
    data = photo(kind)
    with Image.open(io.BytesIO(data)) as image:
        large = call(image)
    assert large.size == (24, 40)  # upright: the orientation has been applied once
    assert large.info["icc_profile"] == PROFILE
    assert large.getexif()[0x010F] == "a camera"
    assert 0x0112 not in large.getexif()
    if kind != "WEBP":  # it stores no resolution
        assert large.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    large.save(
        tmp_path / "a.png",
        exif=large.getexif(),
        icc_profile=large.info["icc_profile"],
        dpi=large.info.get("dpi"),
    )
    by_file = into_memory(data, "png")
    with Image.open(tmp_path / "a.png") as ours, Image.open(io.BytesIO(by_file)) as other:
        assert np.array_equal(np.asarray(ours), np.asarray(other))
        assert dict(ours.getexif()) == dict(other.getexif())
        assert ours.info["icc_profile"] == other.info["icc_profile"]
        assert ours.info.get("dpi") == other.info.get("dpi")


def test_the_source_image_is_not_changed() -> None:
    """Its pixels, mode and info stay, so that it can be used again."""
    with Image.open(io.BytesIO(photo())) as image:
        image.load()
        before, info = image.copy(), dict(image.info)
        call(image)
        assert image.info == info
        assert image.tobytes() == before.tobytes()
        assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF"])
def test_a_cut_image_that_is_already_open(kind: str, share: float) -> None:
    """It raises `PictureError` like a cut file, never what Pillow raises."""
    whole = io.BytesIO()
    Image.fromarray(make_picture(200, 200)).save(whole, kind)
    cut = whole.getvalue()[: int(len(whole.getvalue()) * share)]
    for source in (cut, io.BytesIO(cut)):
        with pytest.raises(srsdk.PictureError):
            call(source)
    try:
        image = Image.open(io.BytesIO(cut))
    except OSError:
        return  # the caller's own call failed
    with image, pytest.raises(srsdk.PictureError, match="is damaged or cannot be read"):
        call(image)


def test_a_closed_image() -> None:
    """It raises `PictureError`."""
    with Image.open(io.BytesIO(photo())) as image:
        pass
    with pytest.raises(srsdk.PictureError, match="cannot be read"):
        call(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_deep_pictures_from_memory(dtype: Any) -> None:
    """16 bits are kept from bytes to an open file, in PNG and TIFF."""
    pytest.importorskip("pyvips")
    deep = (make_picture(10, 14).astype(dtype) * (257 if dtype is np.uint16 else 1)).astype(dtype)
    import pyvips

    for suffix in (".png", ".tif"):
        data = pyvips.Image.new_from_array(deep).write_to_buffer(suffix)
        large = call(data)
        assert large.dtype == dtype
        assert np.array_equal(large, deep.repeat(2, 0).repeat(2, 1))
        for kind in ("png", "tiff"):
            again = into_memory(data, kind)
            assert np.array_equal(call(again)[::2, ::2], large)


def test_an_animation_into_an_open_file() -> None:
    """All frames, durations and the loop count arrive."""
    frames = [Image.fromarray(make_picture(8, 9, seed=seed)) for seed in range(3)]
    whole = io.BytesIO()
    frames[0].save(whole, "GIF", save_all=True, append_images=frames[1:], duration=70, loop=2)
    for kind in ("gif", "png", "webp"):
        with Image.open(io.BytesIO(into_memory(whole, kind))) as image:
            assert getattr(image, "n_frames", 1) == 3
            image.seek(1)
            image.load()
            assert image.info["duration"] == 70
            assert image.size == (18, 16)


def test_nothing_is_written_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open file gets the whole result or nothing."""
    with tempfile.TemporaryFile() as target:

        def fail(done: int, total: int) -> None:
            raise KeyError("the caller's")

        place = streams.target_of(target, "png")
        source = streams.source_of(photo())
        with pytest.raises(KeyError):
            files.upscale_file((NEAREST,), source, place, call=Call(fail))
        assert target.tell() == 0
    file = io.BytesIO()
    Image.new("RGBA", (4, 4)).save(file, "PNG")
    with pytest.raises(srsdk.OutputError, match="transparent parts"):
        into_memory(file, "jpg")


def test_a_full_pipe_is_an_output_error() -> None:
    """What the open file raises when it is written to is translated, with its cause."""

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    place, source = streams.target_of(Full(), "png"), streams.source_of(photo())
    with pytest.raises(srsdk.OutputError, match="No space left on device"):
        files.upscale_file((NEAREST,), source, place)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "is empty"),
        (io.BytesIO(), "is empty"),
        (b"not a picture", "not a picture"),
        (io.StringIO("text"), "open the file in mode 'rb'"),
        ("https://example.com/a.png", "is a URL, and srsdk opens none"),
        ("s3://bucket/a.png", "is a URL"),
        (Path("https://example.com/a.png"), "is a URL"),
        (None, "got NoneType, expected a path, bytes, an open file"),
        ([[1, 2]], "got list, expected a path"),
        (np.zeros((3, 40, 40), np.uint8), "puts the channels last"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"pass each picture of the batch alone"),
    ],
)
def test_wrong_sources(source: Any, message: str) -> None:
    """Each says what it is, and what is expected."""
    with pytest.raises(srsdk.PictureError, match=message):
        call(source)


def test_a_tensor_on_the_cpu() -> None:
    """The message has the call that makes an array of it."""
    torch = pytest.importorskip("torch")
    with pytest.raises(srsdk.PictureError, match=r"torch\.Tensor of shape \(3, 8, 9\).*permute"):
        call(torch.zeros(3, 8, 9))
    with pytest.raises(srsdk.PictureError, match=r"of shape \(8, 9, 3\).*pass picture\.numpy\(\)"):
        call(torch.zeros(8, 9, 3, dtype=torch.uint8))


def test_a_closed_file() -> None:
    """Reading it raises `PictureError`."""
    file = io.BytesIO(photo())
    file.close()
    with pytest.raises(srsdk.PictureError, match="cannot be read: I/O operation on closed file"):
        call(file)


@pytest.mark.parametrize(
    ("target", "kind", "error", "message"),
    [
        (io.BytesIO(), None, srsdk.UsageError, r"pass options=PictureOptions\(format='png'\)"),
        (io.BytesIO(), "heic9", srsdk.UsageError, "expected png, jpeg, webp"),
        (Path("a.png"), "jpeg", srsdk.UsageError, r"a\.png names another format"),
        (io.StringIO(), "png", srsdk.OutputError, "is opened as text"),
        (3, "png", srsdk.OutputError, "got int, expected a path or a file"),
        ("http://a/b.png", None, srsdk.OutputError, "is a URL"),
    ],
)
def test_wrong_targets(target: Any, kind: str | None, error: type[Exception], message: str) -> None:
    """Each says what is expected."""
    with pytest.raises(error, match=message):
        streams.target_of(target, kind)


def test_limits_hold_for_bytes() -> None:
    """A bomb in memory is refused by its header, as a file is."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + b"\0\0\0\0"
    with pytest.raises(srsdk.PictureError):
        call(bomb)
    budget = srsdk.Budget(pixels=100)
    with pytest.raises(srsdk.PictureError, match="at most 100"):
        files.upscale_any((NEAREST,), photo(), None, Call(budget=budget))


def test_names_in_messages(tmp_path: Path) -> None:
    """An open file is called by its name, bytes are called `the picture`."""
    (tmp_path / "a.png").write_bytes(b"no")
    match = r"a\.png is not a picture"
    with (tmp_path / "a.png").open("rb") as file, pytest.raises(srsdk.PictureError, match=match):
        call(file)
    with pytest.raises(srsdk.PictureError, match=r"^the picture is not a picture"):
        call(b"no")
    assert decode.read(streams.source_of(photo())).height == 20
