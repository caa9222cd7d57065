"""Test readers of HEIC and JPEG XL with strangers' files: limits, damage, deadlines, imports."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pylibjxl
import pytest
from PIL import Image

import srsdk
from srsdk.budget import FORMATS, INTERRUPTIBLE, Budget
from srsdk.image import decode
from tests.conftest import make_picture
from tests.srsdk.image.heic_jxl import (
    HEIGHT,
    WIDTH,
    XMP,
    apart,
    decode_source,
    heic,
    jxl,
    picture,
    tags,
)


@pytest.mark.parametrize(("write", "name"), [(heic, "HEIF"), (jxl, "JXL")])
def test_a_budget_leaves_it_out(tmp_path: Path, write: Callable[..., Path], name: str) -> None:
    """A server's formats do not have it, unless it says so."""
    assert name in FORMATS
    assert name not in INTERRUPTIBLE
    path = write(tmp_path / "a", picture())
    with pytest.raises(srsdk.PictureError, match="not of these formats"):
        decode.read(path, budget=Budget(formats=INTERRUPTIBLE))
    decode.read(path, budget=Budget(formats=(*INTERRUPTIBLE, name)))


@pytest.mark.parametrize("write", [heic, jxl])
def test_a_bomb_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Path]
) -> None:
    """The pixels of a file of a few kilobytes are never decoded."""
    path = write(tmp_path / "bomb", np.zeros((800, 1000, 3), np.uint8))
    assert path.stat().st_size < 10_000

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    decode.probe(path)
    monkeypatch.setattr(pylibjxl, "decode", never)
    monkeypatch.setattr(pillow_heif.HeifImage, "data", property(never))
    with pytest.raises(srsdk.PictureError, match="at most 300,000 are allowed"):
        decode.read(path, budget=Budget(pixels=300_000))
    with pytest.raises(srsdk.PictureError, match="bytes of memory"):
        decode.read(path, limit_bytes=1_000_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300_000)
    with pytest.raises(srsdk.PictureError, match="too large"):
        decode.read(path)


@pytest.mark.parametrize("write", [heic, jxl])
def test_damage_is_one_error(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Cut or changed files: `PictureError`, or a picture."""
    path = write(tmp_path / "a", make_picture(40, 50))
    data, choice = path.read_bytes(), np.random.default_rng(0)
    for length in (13, 64, len(data) // 2, len(data) - 1):
        with pytest.raises(srsdk.PictureError):
            decode.read(decode_source(data[:length]))
    for _ in range(150):
        changed = bytearray(data)
        changed[choice.integers(12, len(data))] = choice.integers(256)
        try:
            decode.read(decode_source(bytes(changed)))
        except srsdk.PictureError:
            continue


def test_padding_behind_a_jpeg_xl_picture(tmp_path: Path) -> None:
    """A file that is far longer than its pixels is not read into memory."""
    path = jxl(tmp_path / "a.jxl", picture())
    with path.open("ab") as file:
        file.truncate(1 << 27)
    with pytest.raises(srsdk.PictureError, match="too long for its pixels"):
        decode.read(path)


@pytest.mark.parametrize("write", [heic, jxl])
def test_other_threads_run_while_it_decodes(tmp_path: Path, write: Callable[..., Path]) -> None:
    """So the deadline of a call is kept: another thread counts on, in all of the time."""
    path = write(tmp_path / "a", make_picture(600, 800))
    decode.read(path)
    gaps, ended = [], threading.Event()

    def count() -> None:
        last_s = time.perf_counter()
        while not ended.is_set():
            time.sleep(0.001)
            gaps.append(time.perf_counter() - last_s)
            last_s = time.perf_counter()

    thread = threading.Thread(target=count)
    thread.start()
    began_s = time.perf_counter()
    decode.read(path)
    whole_s = time.perf_counter() - began_s
    ended.set()
    thread.join()
    assert max(gaps) < 0.6 * whole_s


def test_pi_heif_reads_it_too(tmp_path: Path) -> None:
    """The library without an encoder is taken where the other one is not installed."""
    pytest.importorskip("pi_heif", reason="needs pi-heif")
    path = heic(tmp_path / "a.heic", picture(), exif=tags(6))
    code = (
        "import sys\n"
        "sys.modules['pillow_heif'] = None\n"
        "from pathlib import Path\n"
        "from srsdk.image import decode\n"
        f"sys.stdout.buffer.write(decode.read(Path({str(path)!r})).rgb.tobytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    array = np.frombuffer(done.stdout, np.uint8).reshape(WIDTH, HEIGHT, 3)
    assert apart(array, np.rot90(picture(), -1)) <= 2


def test_nothing_is_imported_without_need(tmp_path: Path) -> None:
    """The libraries come with the first picture of their format."""
    Image.fromarray(picture()).save(tmp_path / "a.avif")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from srsdk.image import decode\n"
        f"decode.read(Path({str(tmp_path / 'a.avif')!r}))\n"
        "assert not {'pillow_heif', 'pylibjxl'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_writing_stays_as_it_was(tmp_path: Path) -> None:
    """Reading HEIC registers no encoder: what an application's Pillow writes is its own choice."""
    path = heic(tmp_path / "a.heic", picture())
    code = (
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from srsdk.image import decode\n"
        f"decode.read(Path({str(path)!r}))\n"
        "assert 'HEIF' not in Image.SAVE and '.heic' not in Image.EXTENSION\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_animated_jpeg_xl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library gives the first picture only, so it says so."""
    data = pylibjxl.encode(picture())
    facts = {**pylibjxl.probe(data), "have_animation": True}
    monkeypatch.setattr(pylibjxl, "probe", lambda _: facts)
    with pytest.raises(srsdk.PictureError, match="animated"):
        decode.read(decode_source(data))


def test_a_long_header_before_the_size() -> None:
    """Metadata may come first: the header is read in growing pieces."""
    data = pylibjxl.encode(picture(), lossless=True, xmp=XMP)
    assert data[16:20] == b"ftyp"
    box = (200_008).to_bytes(4, "big") + b"free" + bytes(200_000)
    pixels = decode.read(decode_source(data[:32] + box + data[32:]))
    assert apart(pixels.rgb, picture()) == 0
