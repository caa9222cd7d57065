"""Test HEIC, AVIF and JPEG XL as sources: pixels, metadata, and what is said without a library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pylibjxl
import pytest
from PIL import ExifTags, Image

import srsdk
from srsdk.cli.main import main
from srsdk.image import decode, plugins
from tests.srsdk.image.heic_jxl import (
    HEIGHT,
    PROFILE,
    WIDTH,
    XMP,
    apart,
    decode_source,
    heic,
    jxl,
    picture,
    tags,
)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_heic_into_common_formats(tmp_path: Path, suffix: str) -> None:
    """What phones write goes in, and PNG, JPEG or WebP comes out."""
    source = heic(tmp_path / "a.heic", picture())
    target = tmp_path / f"a{suffix}"
    with srsdk.Upscaler("gan_x2") as up:
        up.upscale_file(source, target)
        expected = up(picture())
    with Image.open(target) as image:
        assert image.size == (2 * WIDTH, 2 * HEIGHT)
        assert np.abs(np.asarray(image).astype(int) - expected).mean() < 6  # WebP halves the color


def test_heic_by_the_command_line(tmp_path: Path) -> None:
    """The default result of a HEIC file is PNG, and a folder takes it."""
    (tmp_path / "in").mkdir()
    heic(tmp_path / "in" / "a.HEIC", picture())
    jxl(tmp_path / "in" / "b.jxl", picture())
    Image.fromarray(picture()).save(tmp_path / "in" / "c.avif")
    assert main(["upscale", str(tmp_path / "in"), "--strict", "--scale", "2"]) == 0
    assert sorted(path.name for path in (tmp_path / "in_x2").iterdir()) == [
        *("a.png", "b.png", "c.avif"),
    ]


def test_heic_turns_once(tmp_path: Path) -> None:
    """The container turns the pixels; the EXIF that says so, too, turns nothing again."""
    path = heic(tmp_path / "a.heic", picture(), exif=tags(6))
    assert b"irot" in path.read_bytes()
    header = decode.probe(path)
    assert (header.height, header.width, header.orientation) == (WIDTH, HEIGHT, 1)
    pixels = decode.read(path)
    assert apart(pixels.rgb, np.rot90(picture(), -1)) <= 2
    exif = Image.Exif()
    exif.load(pixels.carried.exif or b"")
    assert exif.get(ExifTags.Base.Orientation, 1) == 1


def test_jpeg_xl_turns_once() -> None:
    """An orientation in its EXIF is that of the JPEG file it came from: the pixels are upright."""
    data = pylibjxl.encode(picture(), lossless=True, exif=tags(6).removeprefix(b"Exif\0\0"))
    pixels = decode.read(decode_source(data))
    assert apart(pixels.rgb, picture()) == 0
    exif = Image.Exif()
    exif.load(pixels.carried.exif or b"")
    assert (exif[ExifTags.Base.Make], exif.get(ExifTags.Base.Orientation, 1)) == ("Maker", 1)


@pytest.mark.parametrize("write", [heic, jxl])
def test_metadata_are_kept(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Color profile, EXIF and XMP arrive in a JPEG file, as from any other source."""
    exif = tags() if write is heic else tags().removeprefix(b"Exif\0\0")
    profile = {"icc_profile" if write is heic else "icc": PROFILE}
    source = write(tmp_path / "source", picture(), exif=exif, xmp=XMP, **profile)
    with srsdk.Upscaler("gan_x2") as up:
        up.upscale_file(source, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as result:
        assert result.getexif()[ExifTags.Base.Make] == "Maker"
        assert result.info["xmp"] == XMP
        assert result.info["icc_profile"] == PROFILE


def test_transparent_parts(tmp_path: Path) -> None:
    """Alpha is read from both."""
    array = np.dstack([picture(), np.full((HEIGHT, WIDTH), 100, np.uint8)])
    array[:24, :, 3] = 255
    for path in (heic(tmp_path / "a.heic", array), jxl(tmp_path / "a.jxl", array)):
        assert decode.probe(path).has_alpha
        pixels = decode.read(path)
        assert pixels.alpha is not None
        assert apart(pixels.alpha.squeeze(), array[..., 3]) <= 2


def test_gray_jpeg_xl(tmp_path: Path) -> None:
    """One channel."""
    gray = np.ascontiguousarray(picture()[..., 0])
    path = jxl(tmp_path / "gray.jxl", gray)
    assert apart(decode.read(path).rgb[..., 0], gray) == 0


def test_ten_bits_are_read_as_eight(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With one warning; the picture is right."""
    deep = picture().astype(np.uint16) * 257
    path = tmp_path / "deep.heic"
    pillow_heif.encode("RGB;16", (WIDTH, HEIGHT), deep.tobytes(), path, quality=-1)
    pixels = decode.read(path)
    assert apart(pixels.rgb, picture()) <= 3
    assert [record.message for record in caplog.records] == [
        f"{path} has 10 bits a channel, read as 8",
    ]


@pytest.mark.parametrize("has_profile", [True, False])
def test_colors_without_a_profile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, has_profile: bool
) -> None:
    """HDR and wide gamut that no ICC profile describes are read as sRGB, with a warning."""
    image = pillow_heif.from_pillow(Image.fromarray(picture()))
    stated = {"color_primaries": 9, "transfer_characteristics": 16, "matrix_coefficients": 9}
    image.info["nclx_profile"] = {**stated, "full_range_flag": 1}
    profile = {"icc_profile": PROFILE} if has_profile else {}
    image.save(tmp_path / "a.heic", quality=-1, chroma=444, **profile)
    decode.read(tmp_path / "a.heic")
    warned = [record.message for record in caplog.records]
    assert bool(warned) is not has_profile
    assert all("has BT.2020 PQ colors without an ICC profile" in line for line in warned)


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    """A file is recognized by its first bytes, from memory too."""
    for path in (heic(tmp_path / "a.jpg", picture()), jxl(tmp_path / "b.png", picture())):
        assert apart(decode.read(path).rgb, picture()) <= 2
        assert apart(decode.read(decode_source(path.read_bytes())).rgb, picture()) <= 2


@pytest.mark.parametrize(
    ("write", "extra", "title"), [(heic, "heif", "HEIC"), (jxl, "jxl", "JPEG XL")]
)
def test_without_the_library(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[..., Path],
    extra: str,
    title: str,
) -> None:
    """The sentence names the format and the extra, whatever the name of the file."""
    path = write(tmp_path / "a.jpg", picture())
    monkeypatch.setattr(plugins.Plugin, "library", None)
    with pytest.raises(srsdk.PictureError) as error:
        decode.read(path)
    assert str(error.value) == f'{path}: a {title} file; to read it: pip install "srsdk[{extra}]"'
