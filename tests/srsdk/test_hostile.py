"""Malicious pictures: bombs, loops, false sizes. Findings of the fuzzer are in tests/fuzz."""

from __future__ import annotations

import struct
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

import srsdk
from srsdk.image.metadata import png_chunk
from srsdk.scheduling.context import Call
from srsdk.upscaling import files
from tests.fuzz.workplace import NEAREST

POSIX = pytest.mark.skipif(sys.platform != "linux", reason="names of bytes, pipes, links")
MIB = 1 << 20


def upscale(source: Path, target: Path, **options: object) -> None:
    """Upscale twice by repeating pixels: only the code around the model is tested."""
    chosen = srsdk.PictureOptions(**options)  # type: ignore[arg-type]
    files.upscale_file((NEAREST,), source, target, options=chosen)


def png(width: int, height: int, kind: int = 0, depth: int = 1, *chunks: bytes) -> bytes:
    """Return a PNG whose pixels are all zero, compressed a thousandfold."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    packer = zlib.compressobj()
    row = bytes(1 + -(-width * depth // 8))
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    body = (head, *chunks, png_chunk(b"IDAT", rows), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def tiff(
    width: int, height: int, data: bytes, *, compression: int = 8, following: int = 0
) -> bytes:
    """Return a gray TIFF of one strip; `following` is the offset of its next page."""
    tags = [(256, width), (257, height), (258, 8), (259, compression), (262, 1)]
    tags += [(273, 8), (277, 1), (278, height), (279, len(data))]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    end = struct.pack("<H", len(tags)) + table + struct.pack("<I", following)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + end


def gif(frames: int, side: int = 1) -> bytes:
    """Return a looping GIF of one-pixel frames on a canvas, alternately black and white."""
    size = struct.pack("<HH", side, side)
    head = b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff"
    head += b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
    both = [
        b"!\xf9\x04\0\x01\0\0\0,\0\0\0\0\1\0\1\0\0\x02\x02" + code + b"\x01\0"
        for code in (b"\x44", b"\x4c")
    ]
    return head + b"".join(both) * (frames // 2) + b";"


@pytest.mark.parametrize(
    "content",
    [
        png(65535, 1)[:16] + struct.pack(">II", 65535, 65535) + png(65535, 1)[24:],
        tiff(65535, 65535, zlib.compress(bytes(99))),
        gif(2, side=65535),
        b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 65535, 65535, 1, 24, 0, 0, 1, 1, 0, 0),
    ],
    ids=["png", "tiff", "gif", "bmp"],
)
def test_sizes_that_are_only_claimed(tmp_path: Path, content: bytes) -> None:
    """A header that claims 65535 x 65535 is rejected before anything is allocated."""
    # fix the checksum of the PNG header, so that only its size is wrong
    if content.startswith(b"\x89PNG"):
        content = content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
    (tmp_path / "huge").write_bytes(content)
    with pytest.raises(srsdk.PictureError, match="too large"):
        upscale(tmp_path / "huge", tmp_path / "out.png")


def test_a_bomb_below_the_limit_of_pixels(tmp_path: Path) -> None:
    """80 million pixels in 20 KB are rejected because of the memory that they would need."""
    (tmp_path / "bomb.png").write_bytes(png(8000, 10000))
    assert (tmp_path / "bomb.png").stat().st_size < 40_000
    with pytest.raises(srsdk.PictureError, match="bytes of memory"):
        upscale(tmp_path / "bomb.png", tmp_path / "out.gif", max_memory_bytes=400 * MIB)
    with (
        srsdk.Upscaler("gan_x2") as up,
        pytest.raises(srsdk.PictureError, match="bytes of memory"),
    ):
        up(tmp_path / "bomb.png", options=srsdk.PictureOptions(max_memory_bytes=400 * MIB))


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_bomb_beside_the_pixels(tmp_path: Path, name: bytes) -> None:
    """A profile or text of 200 MB in 200 KB is rejected and never fully decompressed."""
    packed = zlib.compress(bytes(200 * MIB))
    data = {b"iTXt": b"a\0\x01\0\0\0" + packed}.get(name, b"a\0\0" + packed)
    (tmp_path / "bomb.png").write_bytes(png(20, 10, 0, 8, png_chunk(name, data)))
    with pytest.raises(srsdk.PictureError, match="damaged"):
        upscale(tmp_path / "bomb.png", tmp_path / "out.png")


def test_archives_and_oversized_strips(tmp_path: Path) -> None:
    """A ZIP named .tiff is rejected; a strip that unpacks to 100 MB gives only its 12 rows."""
    with zipfile.ZipFile(tmp_path / "zip.tiff", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(MIB))
    with pytest.raises(srsdk.PictureError, match="not a picture"):
        upscale(tmp_path / "zip.tiff", tmp_path / "out.png")
    (tmp_path / "strip.tiff").write_bytes(tiff(16, 12, zlib.compress(bytes(100 * MIB))))
    large = files.upscale_any((NEAREST,), tmp_path / "strip.tiff", None, Call())
    assert large.shape == (24, 32)


def test_a_page_that_follows_itself(tmp_path: Path) -> None:
    """A TIFF whose next page is its first one does not loop forever."""
    data = zlib.compress(bytes(16 * 12))
    (tmp_path / "loop.tiff").write_bytes(tiff(16, 12, data, following=8 + len(data)))
    upscale(tmp_path / "loop.tiff", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (32, 24)


def test_an_animation_without_end(tmp_path: Path) -> None:
    """Half a million one-pixel frames: there is a limit, and their bookkeeping takes memory."""
    (tmp_path / "long.gif").write_bytes(gif(500_000))
    with pytest.raises(srsdk.PictureError, match="500,000 frames, at most 10,000"):
        upscale(tmp_path / "long.gif", tmp_path / "out.gif")
    many = Call(budget=srsdk.Budget(pages=10**6))
    options = srsdk.PictureOptions(max_memory_bytes=400 * MIB)
    with pytest.raises(srsdk.PictureError, match="bytes of memory"):
        files.upscale_file(
            (NEAREST,), tmp_path / "long.gif", tmp_path / "out.gif", options=options, call=many
        )
    (tmp_path / "short.gif").write_bytes(gif(6))
    upscale(tmp_path / "short.gif", tmp_path / "out.gif")
    with Image.open(tmp_path / "out.gif") as image:
        assert image.n_frames == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 8192), (".jpg", 32751), (".gif", 32768)])
def test_results_that_a_format_cannot_hold(tmp_path: Path, suffix: str, side: int) -> None:
    """Rejected before any work, with the limit and a format that holds more."""
    Image.new("L", (side, 1)).save(tmp_path / "wide.png")
    with pytest.raises(srsdk.OutputError, match=rf"px a side, the result is {2 * side}x2"):
        upscale(tmp_path / "wide.png", tmp_path / f"out{suffix}")
    Image.new("L", (side - 1, 1)).save(tmp_path / "wide.png")
    upscale(tmp_path / "wide.png", tmp_path / f"out{suffix}")


def test_errors_in_a_frame_are_raised_unchanged(tmp_path: Path) -> None:
    """Exceptions of `progress` in an animation reach the caller unchanged."""
    (tmp_path / "in.gif").write_bytes(gif(6, side=9))

    def cancel(done: int, total: int) -> None:
        if done > 3:
            raise ValueError("enough")

    with pytest.raises(ValueError, match=r"^enough$"):
        files.upscale_file((NEAREST,), tmp_path / "in.gif", tmp_path / "o.gif", call=Call(cancel))
    assert [path.name for path in tmp_path.iterdir()] == ["in.gif"]
