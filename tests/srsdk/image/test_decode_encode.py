"""Picture files: supported formats and modes, errors, and atomic writes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import srsdk
from srsdk.image import decode
from tests.conftest import Picture, make_picture


@pytest.fixture(scope="module")
def up() -> srsdk.Upscaler:
    """The x2 model."""
    return srsdk.Upscaler("gan_x2")


def save(path: Path, array: Picture, **options: object) -> Path:
    """Write a picture file."""
    Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_formats(tmp_path: Path, up: srsdk.Upscaler, suffix: str, picture: Picture) -> None:
    """Formats that Pillow reads and writes keep the result; lossless ones exactly."""
    source = save(tmp_path / "in.png", picture)
    target = tmp_path / f"out{suffix}"
    up.upscale_file(source, target)
    with Image.open(target) as result:
        assert result.size == (202, 134)
        difference = np.abs(np.asarray(result.convert("RGB")).astype(int) - up(picture))
    assert difference.mean() < (1e-9 if suffix in (".png", ".bmp", ".tiff") else 8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_modes(up: srsdk.Upscaler, mode: str, picture: Picture) -> None:
    """Gray stays gray, alpha stays alpha, a palette becomes RGB."""
    image = Image.fromarray(picture).convert(mode)
    expected = {"L": "L", "RGB": "RGB", "RGBA": "RGBA", "LA": "LA", "P": "RGB", "1": "L"}
    result = up(image)
    assert result.mode == expected[mode]
    assert result.size == (202, 134)


def test_an_opaque_alpha_stays_opaque(up: srsdk.Upscaler, picture: Picture) -> None:
    """Resizing a constant alpha gives that constant."""
    image = Image.fromarray(picture).convert("RGBA")
    assert np.all(np.asarray(up(image).getchannel("A")) == 255)


def test_a_transparent_palette_keeps_its_transparency(up: srsdk.Upscaler, tmp_path: Path) -> None:
    """PNG's tRNS chunk is alpha too."""
    image = Image.fromarray(make_picture(20, 20)).quantize(8)
    image.info["transparency"] = 0
    image.save(tmp_path / "p.png", transparency=0)
    with Image.open(tmp_path / "p.png") as source:
        result = up(source)
    assert result.mode == "RGBA"
    assert np.asarray(result.getchannel("A")).min() < 128


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        *(("CMYK", "RGB"), ("LAB", "RGB"), ("HSV", "RGB"), ("YCbCr", "RGB"), ("RGBX", "RGB")),
        *(("I;16", "I;16"), ("I;16B", "I;16"), ("I", "I;16"), ("F", "F")),
        *(("RGBa", "RGBA"), ("La", "LA")),
    ],
)
def test_rarer_modes(up: srsdk.Upscaler, mode: str, expected: str) -> None:
    """Other color spaces become RGB; deep gray keeps its depth."""
    result = up(Image.new(mode, (8, 9)))
    assert (result.mode, result.size) == (expected, (16, 18))


def test_integers_of_32_bits_are_refused(up: srsdk.Upscaler) -> None:
    """Their white level is not guessed."""
    with pytest.raises(srsdk.PictureError, match="whole numbers from 70000 to 70000"):
        up(Image.new("I", (8, 8), 70000))


def test_orientation_profile_and_exif(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """A rotated photograph comes out upright, with its ICC profile, EXIF and DPI."""
    upright = make_picture(40, 24)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate right to view it upright
    exif[0x010F] = "Maker"
    turned = Image.fromarray(np.rot90(upright).copy())
    turned.save(tmp_path / "in.jpg", exif=exif, icc_profile=profile, dpi=(300, 300), quality=100)
    up.upscale_file(tmp_path / "in.jpg", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as result:
        assert result.size == (48, 80)
        assert result.getexif().get(0x0112, 1) == 1
        assert result.getexif()[0x010F] == "Maker"
        assert result.info["icc_profile"] == profile
        assert result.info["dpi"] == (300, 300)
        difference = np.asarray(result).astype(int) - up(upright)
    assert np.abs(difference).mean() < 10


def damaged_jpeg() -> bytes:
    """Return the first half of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(make_picture(200, 200)).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"this is a text", "not a picture"),
        ("zero.png", b"", "not a picture"),
        ("half.jpg", damaged_jpeg(), "damaged or cannot be read"),
        ("model.onnx", b"x", "not a picture"),
    ],
)
def test_files_that_are_no_picture(
    tmp_path: Path, up: srsdk.Upscaler, name: str, content: bytes, message: str
) -> None:
    """The error is one sentence that names the file; nothing is written."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(srsdk.PictureError, match=message) as error:
        up.upscale_file(tmp_path / name, tmp_path / "out.png")
    assert name in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_missing_and_folder(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """The error names the problem before any work."""
    with pytest.raises(srsdk.PictureError, match="no such file"):
        up(tmp_path / "none.png")
    with pytest.raises(srsdk.PictureError, match="is a folder"):
        up(tmp_path)


def test_targets_that_cannot_be_written(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Unknown format, missing folder, existing file: rejected before the source is read."""
    source = tmp_path / "never_read.png"
    with pytest.raises(srsdk.OutputError, match=r"'\.xyz' is not a writable picture format"):
        up.upscale_file(source, tmp_path / "a.xyz")
    with pytest.raises(srsdk.OutputError, match="is not a folder"):
        up.upscale_file(source, tmp_path / "none" / "a.png")
    (tmp_path / "there.png").write_bytes(b"precious")
    with pytest.raises(srsdk.OutputError, match=r"exists; overwrite=True"):
        up.upscale_file(source, tmp_path / "there.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(srsdk.OutputError, match="is a folder"):
        up.upscale_file(source, tmp_path / "folder.png", overwrite=True)
    assert (tmp_path / "there.png").read_bytes() == b"precious"


def test_overwrite_replaces_whole_files_only(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """`overwrite` replaces the file; if upscaling fails, the old file stays."""
    source = save(tmp_path / "in.png", make_picture(9, 9))
    target = tmp_path / "out.png"
    target.write_bytes(b"old")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(srsdk.PictureError):
        up.upscale_file(tmp_path / "bad.png", target, overwrite=True)
    assert target.read_bytes() == b"old"
    up.upscale_file(source, target, overwrite=True)
    with Image.open(target) as result:
        assert result.size == (18, 18)


@pytest.mark.skipif(os.name == "nt", reason="resource limits are POSIX")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A write that fails in the middle: one error, no file, no temporary file, exit code 1."""
    source = save(tmp_path / "in.png", make_picture(120, 120))
    out = tmp_path / "out"
    code = (
        "import resource, sys\n"
        "from srsdk.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"sys.exit(main(['upscale', {str(source)!r}, '-o', {str(out)!r}, '--scale', '2']))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "cannot be written: [Errno 27] File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(out.iterdir()) == []


def test_a_decompression_bomb_is_refused(
    tmp_path: Path, up: srsdk.Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow's pixel limit raises our error."""
    source = save(tmp_path / "big.png", make_picture(60, 60))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(srsdk.PictureError, match="too large"):
        up(source)


def test_a_16_bit_pgm_keeps_its_depth(tmp_path: Path) -> None:
    """16-bit gray in a PGM file needs no libvips, and is not reduced."""
    gray = np.arange(0, 65536, 17, dtype=">u2")[:3840].reshape(48, 80)
    (tmp_path / "a.pgm").write_bytes(b"P5 80 48 65535\n" + gray.tobytes())
    assert np.array_equal(decode.read(tmp_path / "a.pgm").rgb[..., 0], gray)
