"""Metadata is carried to the result and stays correct."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

import srsdk
from srsdk import PictureOptions
from tests import corpus
from tests.conftest import make_picture

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Maker"/>'
    b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@pytest.fixture(scope="module")
def up() -> srsdk.Upscaler:
    """The x2 model."""
    return srsdk.Upscaler("gan_x2")


def exif(orientation: int = 1) -> Image.Exif:
    """Return EXIF with a maker, an outdated size, a location and an orientation."""
    result = Image.Exif()
    result[ExifTags.Base.Make] = "Maker"
    result[ExifTags.Base.Orientation] = orientation
    photo = result.get_ifd(ExifTags.IFD.Exif)
    photo[ExifTags.Base.ExifImageWidth] = 24
    photo[ExifTags.Base.ExifImageHeight] = 40
    photo[ExifTags.Base.ExposureTime] = 0.01
    result.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return result


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tiff"])
@pytest.mark.parametrize("source_suffix", [".jpg", ".png", ".tiff"])
def test_everything_goes_along(
    tmp_path: Path, up: srsdk.Upscaler, source_suffix: str, suffix: str
) -> None:
    """EXIF with the new size, ICC, XMP and DPI are kept from three formats into five."""
    source, target = tmp_path / f"in{source_suffix}", tmp_path / f"out{suffix}"
    profile = corpus.display_p3()
    tags = Image.Exif()
    tags.load(exif().tobytes())
    extra: dict[str, Any] = {"xmp": XMP}
    if source_suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        extra = {"pnginfo": info}
    if source_suffix == ".tiff":
        tags[700] = XMP
    Image.fromarray(make_picture(40, 24)).save(
        source, exif=tags, icc_profile=profile, dpi=(300, 300), **extra
    )
    up.upscale_file(source, target)
    with Image.open(target) as result:
        result.load()
        found = result.getexif()
        assert found[ExifTags.Base.Make] == "Maker"
        photo = found.get_ifd(ExifTags.IFD.Exif)
        assert photo[ExifTags.Base.ExifImageWidth] == 48
        assert photo[ExifTags.Base.ExifImageHeight] == 80
        assert float(photo[ExifTags.Base.ExposureTime]) == 0.01
        assert found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
        assert result.info["icc_profile"] == profile
        if suffix in (".jpg", ".png", ".tiff"):
            assert result.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        xmp = result.info["xmp"]
        assert b"Maker" in (xmp.encode() if isinstance(xmp, str) else xmp)
        assert result.size == (48, 80)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path: Path, up: srsdk.Upscaler, orientation: int) -> None:
    """All eight are applied and reset; libvips' own rotation is the reference."""
    picture = make_picture(24, 40)
    Image.fromarray(picture).save(tmp_path / "in.png", exif=exif(orientation))
    pyvips = pytest.importorskip("pyvips", reason=corpus.NEEDS_VIPS)
    turned = pyvips.Image.new_from_file(str(tmp_path / "in.png")).autorot().numpy()
    up.upscale_file(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        result.load()
        assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
        np.testing.assert_array_equal(np.asarray(result), up(turned))


def test_an_orientation_in_xmp_is_reset_too(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """A viewer that reads XMP first must not rotate the picture again."""
    picture = make_picture(24, 40)
    Image.fromarray(picture).save(tmp_path / "in.jpg", exif=exif(6), xmp=XMP, quality=100)
    up.upscale_file(tmp_path / "in.jpg", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as result:
        assert result.size == (48, 80)
        assert b"tiff:Orientation" not in result.info["xmp"]
        assert b"Maker" in result.info["xmp"]


def colors_seen(path: Path) -> np.ndarray:
    """Return a file's colors as L*a*b*, through its own profile."""
    with Image.open(path) as image:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        lab = ImageCms.profileToProfile(
            image.convert("RGB"), embedded, ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    assert lab is not None
    # a and b are signed bytes
    array = np.asarray(lab).astype(float)
    array[..., 1:] = (array[..., 1:] + 128) % 256 - 128
    return array


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tiff"])
def test_display_p3_stays_display_p3(tmp_path: Path, up: srsdk.Upscaler, suffix: str) -> None:
    """A red outside sRGB is measured as the same color in the result."""
    red = np.empty((24, 24, 3), np.uint8)
    red[:] = (250, 20, 30)
    Image.fromarray(red).save(tmp_path / "in.png", icc_profile=corpus.display_p3())
    up.upscale_file(tmp_path / "in.png", tmp_path / f"out{suffix}")
    before = colors_seen(tmp_path / "in.png").mean((0, 1))
    after = colors_seen(tmp_path / f"out{suffix}")[16:-16, 16:-16].mean((0, 1))
    assert np.abs(before - after).max() < 1.5
    Image.fromarray(red).save(tmp_path / "srgb.png", icc_profile=corpus.profile())
    assert np.abs(before - colors_seen(tmp_path / "srgb.png").mean((0, 1))).max() > 4


@pytest.mark.parametrize("name", ["in.jpg", "in.tiff"])
def test_cmyk_goes_through_its_profile(tmp_path: Path, up: srsdk.Upscaler, name: str) -> None:
    """An ink that its profile defines as green comes out green, with an sRGB profile."""
    cyan = Image.new("CMYK", (24, 24), (255, 0, 0, 0))
    options: dict[str, Any] = {"quality": 100} if name.endswith("jpg") else {}
    cyan.save(tmp_path / name, icc_profile=corpus.odd_inks(), **options)
    up.upscale_file(tmp_path / name, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert result.mode == "RGB"
        r, g, b = result.getpixel((24, 24))  # type: ignore[misc]
        assert ImageCms.getProfileDescription(
            ImageCms.ImageCmsProfile(io.BytesIO(result.info["icc_profile"]))
        ).startswith("sRGB")
    assert g > r + 50
    assert g > b + 30


def test_cmyk_without_a_profile_says_so(
    tmp_path: Path, up: srsdk.Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    """Conversion without a profile is a guess, so it is logged."""
    Image.new("CMYK", (9, 9), (0, 0, 255, 0)).save(tmp_path / "in.tiff")
    up.upscale_file(tmp_path / "in.tiff", tmp_path / "out.png")
    assert "CMYK picture without a profile" in caplog.text


def test_a_profile_that_does_not_fit_is_an_error(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """CMYK with an RGB profile raises instead of guessing."""
    Image.new("CMYK", (9, 9)).save(tmp_path / "in.tiff", icc_profile=corpus.profile())
    with pytest.raises(srsdk.PictureError, match=r"in\.tiff: its CMYK colors cannot be converted"):
        up.upscale_file(tmp_path / "in.tiff", tmp_path / "out.png")


def test_texts_and_color_chunks_of_a_png(
    tmp_path: Path, up: srsdk.Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    """They are kept in a PNG; another format logs their loss."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a photo of a cat, Steps: 20")
    info.add_itxt("Author", "Ægir")
    info.add(b"gAMA", (100000).to_bytes(4, "big"))
    info.add(b"cICP", bytes((12, 13, 0, 1)))
    Image.fromarray(make_picture(20, 20)).save(tmp_path / "in.png", pnginfo=info)
    up.upscale_file(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        result.load()
        assert result.text["parameters"] == "a photo of a cat, Steps: 20"  # type: ignore[attr-defined]
        assert result.text["Author"] == "Ægir"  # type: ignore[attr-defined]
        assert result.info["gamma"] == 1.0
    assert b"cICP" + bytes((12, 13, 0, 1)) in (tmp_path / "out.png").read_bytes()
    up.upscale_file(tmp_path / "in.png", tmp_path / "out.jpg")
    assert "JPEG cannot hold the source's PNG texts, PNG color chunks" in caplog.text


def test_all_of_it_in_a_png_of_16_bits(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """A 16-bit PNG, written by libvips, contains all metadata chunks."""
    pyvips = pytest.importorskip("pyvips", reason=corpus.NEEDS_VIPS)
    data = corpus.png16(corpus.smooth16())
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (corpus.WIDTH, corpus.HEIGHT)
    vips = pyvips.Image.new_from_buffer(data, "").copy(xres=300 / 25.4, yres=300 / 25.4)
    vips = vips.copy()
    vips.set_type(pyvips.GValue.blob_type, "icc-profile-data", corpus.display_p3())
    vips.set_type(pyvips.GValue.blob_type, "exif-data", exif(6).tobytes())
    vips.set_type(pyvips.GValue.blob_type, "xmp-data", XMP)
    vips.pngsave(str(tmp_path / "in.png"))
    up.upscale_file(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (2 * corpus.HEIGHT, 2 * corpus.WIDTH)
        result.load()
        assert result.info["icc_profile"] == corpus.display_p3()
        assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert result.getexif()[ExifTags.Base.Make] == "Maker"
        assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert "Maker" in str(result.info["xmp"])


def tables(path: Path) -> object:
    """Return a JPEG's quantization tables and subsampling."""
    from PIL import JpegImagePlugin

    with Image.open(path) as image:
        return image.quantization, JpegImagePlugin.get_sampling(image)  # type: ignore[attr-defined]


def test_quality_of_a_jpeg(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Quality 95 and no subsampling by default, the chosen values, or the source's own."""
    picture = Image.fromarray(make_picture(40, 40))
    picture.save(tmp_path / "in.jpg", quality=37, subsampling="4:2:2")
    for name, options in (
        ("default", PictureOptions()),
        ("chosen", PictureOptions(quality=60, subsampling="4:2:0")),
        ("kept", PictureOptions(quality="keep")),
        ("sampling", PictureOptions(subsampling="keep")),
    ):
        up.upscale_file(tmp_path / "in.jpg", tmp_path / f"{name}.jpg", options=options)
    assert tables(tmp_path / "kept.jpg") == tables(tmp_path / "in.jpg")
    for name, quality, subsampling in (("default", 95, 0), ("chosen", 60, 2), ("sampling", 95, 1)):
        picture.save(tmp_path / "like.jpg", quality=quality, subsampling=subsampling)
        assert tables(tmp_path / f"{name}.jpg") == tables(tmp_path / "like.jpg")


def test_quality_of_webp_and_avif(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Lower quality gives smaller files; WebP can be lossless, AVIF and JPEG cannot."""
    picture = make_picture(60, 60)
    Image.fromarray(picture).save(tmp_path / "in.png")
    for suffix in (".webp", ".avif"):
        sizes = []
        for quality in (10, 90):
            target = tmp_path / f"{quality}{suffix}"
            options = PictureOptions(quality=quality)
            up.upscale_file(tmp_path / "in.png", target, options=options)
            sizes.append(target.stat().st_size)
        assert sizes[0] < sizes[1] / 2
    lossless = PictureOptions(quality="lossless")
    up.upscale_file(tmp_path / "in.png", tmp_path / "exact.webp", options=lossless)
    with Image.open(tmp_path / "exact.webp") as result:
        np.testing.assert_array_equal(np.asarray(result), up(picture))
    for suffix in (".jpg", ".avif"):
        with pytest.raises(srsdk.UsageError, match="is lossy"):
            up.upscale_file(tmp_path / "in.png", tmp_path / f"no{suffix}", options=lossless)
