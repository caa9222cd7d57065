"""Files that cost before they are checked: what a header claims is checked first."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.image import decode
from srsdk.scheduling.context import Call
from srsdk.upscaling import files
from tests.fuzz.workplace import NEAREST
from tests.srsdk.test_hostile import png, upscale

PROGRAMS = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 10, 10, 72) + b"\0" * 40,
    "icns": b"icns\0\0\0\x10ic10\0\0\0\x08",
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "pdf": b"%PDF-1.7\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>",
}
"""Files of other formats, some of which start a program or need another library."""


@pytest.mark.parametrize("kind", PROGRAMS)
def test_only_listed_formats_are_opened(tmp_path: Path, kind: str) -> None:
    """PostScript in `photo.png` does not start Ghostscript; it is no picture."""
    (tmp_path / "photo.png").write_bytes(PROGRAMS[kind])
    with pytest.raises(srsdk.PictureError, match="is not a picture that Pillow can read"):
        decode.read(tmp_path / "photo.png")


def icon(*payloads: bytes) -> bytes:
    """Return an icon of these pictures, whose directory calls all of them 16x16."""
    at = 6 + 16 * len(payloads)
    entries = b""
    for payload in payloads:
        entries += struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(payload), at)
        at += len(payload)
    return struct.pack("<HHH", 0, 1, len(payloads)) + entries + b"".join(payloads)


def test_an_icon_is_measured_by_its_pictures(tmp_path: Path) -> None:
    """Pillow decodes an icon while opening it: 12000x12000 px are refused before."""
    path = tmp_path / "a.ico"
    path.write_bytes(icon(png(12000, 12000)))
    script = (
        "import resource, sys, srsdk\n"
        "from pathlib import Path\n"
        "from srsdk.image import decode\n"
        "decode.Image.init()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    decode.read(Path(sys.argv[1]), limit_bytes=100_000_000)\n"
        "except srsdk.PictureError as error:\n"
        "    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "    print(grown * 1024 < 50_000_000, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True"), done.stdout
    assert "needs 1,152,000,000 bytes of memory, 100,000,000 are allowed" in done.stdout


def test_a_usual_icon_is_upscaled(tmp_path: Path) -> None:
    """Icons of PNG and of bitmaps work; one without a whole directory is an error."""
    for form in ("png", "bmp"):
        path = tmp_path / f"{form}.ico"
        Image.new("RGBA", (48, 48), "red").save(path, bitmap_format=form)
        upscale(path, tmp_path / f"{form}.png")
        with Image.open(tmp_path / f"{form}.png") as image:
            assert image.size == (96, 96)
    (tmp_path / "cut.ico").write_bytes(b"\0\0\1\0\5\0\1")
    with pytest.raises(srsdk.PictureError, match="cut"):
        decode.read(tmp_path / "cut.ico")


@pytest.mark.parametrize(
    "chunk",
    [
        b"VP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2,
        b"VP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383),
        b"VP8L\x0a\0\0\0\x2f" + struct.pack("<I", 16382 << 14 | 16382) + b"\0" * 5,
    ],
    ids=["VP8X", "VP8", "VP8L"],
)
def test_the_canvas_of_a_webp_file_is_checked_before_it_is_allocated(
    tmp_path: Path, chunk: bytes
) -> None:
    """All three kinds of header: 16383x16383 px need 2 GB, which the limit forbids."""
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk)
    with pytest.raises(srsdk.PictureError, match=r"needs 2,147,221,\d+ bytes of memory"):
        decode.read(path, limit_bytes=100_000_000)


def test_every_page_counts(tmp_path: Path) -> None:
    """A TIFF whose second page is a hundred times as large as its first is measured by both."""
    small, large = Image.new("L", (100, 100)), Image.new("L", (9000, 9000))
    small.save(
        tmp_path / "a.tiff", save_all=True, append_images=[large], compression="tiff_deflate"
    )
    header = decode.probe(tmp_path / "a.tiff")
    assert header.sizes == ((100, 100), (9000, 9000))
    with pytest.raises(srsdk.PictureError, match="bytes of memory"):
        upscale(tmp_path / "a.tiff", tmp_path / "b.tiff", max_memory_bytes=400_000_000)
    Image.MAX_IMAGE_PIXELS, before = 1_000_000, Image.MAX_IMAGE_PIXELS
    try:
        with pytest.raises(srsdk.PictureError, match="too large"):
            upscale(tmp_path / "a.tiff", tmp_path / "b.tiff")
    finally:
        Image.MAX_IMAGE_PIXELS = before


def jpeg(height: int, width: int, **options: object) -> bytes:
    """Return a JPEG file of an empty picture."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_claims_more_pixels_than_its_bytes_can_hold_is_refused(
    tmp_path: Path, progressive: bool
) -> None:
    """461 bytes that claim 36 megapixels would cost a minute of gray; nothing is computed."""
    data = bytearray(jpeg(16, 16, progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 3072, 11808)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(srsdk.PictureError, match="11808x3072 pixels take at least"):
        upscale(path, tmp_path / "b.png")


@pytest.mark.parametrize("progressive", [False, True])
def test_the_smallest_whole_jpeg_is_read(tmp_path: Path, progressive: bool) -> None:
    """An empty picture compresses best: even that takes more than the bound."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(3000, 3000, progressive=progressive, optimize=True, quality=1))
    assert decode.read(path).rgb.shape == (3000, 3000, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_metadata_that_the_target_cannot_hold_is_dropped_before_the_work(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """100 KB of EXIF, XMP and comment: too much for JPEG, which says so and is written."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 100_000
    image = Image.new("RGB", (20, 20))
    image.save(tmp_path / "a.png", exif=exif)
    upscale(tmp_path / "a.png", tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as large:
        assert large.size == (40, 40)
        assert (0x010E in large.getexif()) == (suffix != ".jpg")
    assert ("EXIF cannot be written and is dropped" in caplog.text) == (suffix == ".jpg")


def test_metadata_that_nobody_could_read_back_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pillow writes a PNG with an ICC profile of 1.5 MB, but refuses to open it."""
    image = Image.new("RGB", (20, 20))
    image.save(tmp_path / "a.jpg", icc_profile=os.urandom(3 << 19))
    upscale(tmp_path / "a.jpg", tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as large:
        large.load()
        assert large.size == (40, 40)
    assert "ICC profile cannot be written and is dropped" in caplog.text


def test_the_exif_of_a_bigtiff_is_kept(tmp_path: Path) -> None:
    """BigTIFF tags (Pillow's own hopper_bigtiff.tif) become classic EXIF."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.tif", big_tiff=True, description="a hopper")
    for suffix in (".jpg", ".png", ".tiff", ".webp"):
        upscale(tmp_path / "a.tif", tmp_path / f"b{suffix}")
        with Image.open(tmp_path / f"b{suffix}") as large:
            assert large.getexif()[0x010E] == "a hopper"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 3])
def test_numbers_that_are_not_finite_are_refused(value: float, channel: int) -> None:
    """NaN and infinity, in color and in alpha."""
    picture = np.full((8, 8, 4), 0.5, np.float32)
    picture[3, 4, channel] = value
    with pytest.raises(srsdk.PictureError, match="not finite"):
        files.upscale_any((NEAREST,), picture, None, Call())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(srsdk.PictureError, match="not a regular file"):
        upscale(tmp_path / "a.png", tmp_path / "b.png")
