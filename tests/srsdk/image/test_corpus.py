"""Unusual pictures of many formats keep their content, depth and transparency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import srsdk
from tests import corpus

pyvips = pytest.importorskip("pyvips", reason=corpus.NEEDS_VIPS)

NAMES = sorted(
    [
        *(f"rgb.{kind}" for kind in ("png", "jpg", "webp", "avif", "tiff", "bmp", "gif", "ppm")),
        *("rgb.tga", "rgb.jp2", "gray.png", "palette.png", "bit.png", "bit.tiff"),
        *("interlaced.png", "progressive.jpg", "lab.tiff", "cmyk.jpg", "cmyk.tiff"),
        *("rgba.png", "rgba.webp", "rgba.tiff", "transparent.gif", "palette_hole.png", "la.png"),
        *(f"deep_{kind}.png" for kind in ("gray", "la", "rgb", "rgba", "interlaced")),
        *(f"deep_{kind}_{order}.tiff" for kind in ("gray", "rgb") for order in ("little", "big")),
        *("deep_tiled.tiff", "float_gray.tiff", "float_rgb.tiff", "hdr_rgb.tiff"),
    ]
)

LIMITS = {
    ("bit.png", "bit.tiff"): 0.25,
    ("rgb.gif", "palette.png", "palette_hole.png", "transparent.gif", "lab.tiff"): 0.08,
    ("rgb.jpg", "progressive.jpg", "rgb.webp", "rgb.avif", "rgb.jp2"): 0.03,
}
"""Error that palettes and lossy encoders already cause in the source."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, corpus.Odd]:
    """All pictures of the corpus, by file name."""
    return corpus.build(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def up() -> srsdk.Upscaler:
    """The x2 model."""
    return srsdk.Upscaler("gan_x2")


def shown(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None, int]:
    """Read a result with libvips: (H, W, 3) and alpha in 0..1, and the number of channels."""
    image = pyvips.Image.new_from_file(str(path))
    white = {"uchar": 255, "ushort": 65535, "float": 1}[image.format]
    array = image.numpy().reshape(image.height, image.width, -1) / white
    bands = array.shape[2]
    alpha = array[..., -1] if bands in (2, 4) else None
    return array[..., : bands - (bands in (2, 4))] * np.ones(3), alpha, bands


def test_the_list_is_the_corpus(odd: dict[str, corpus.Odd]) -> None:
    """Every picture that the corpus builds is tested."""
    assert sorted(odd) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_a_picture_shows_is_kept(
    odd: dict[str, corpus.Odd], up: srsdk.Upscaler, tmp_path: Path, name: str
) -> None:
    """Averaged back to the source's size, the result matches it; depth and bands are kept."""
    source = odd[name]
    target = tmp_path / ("out.tiff" if source.bits == 32 else "out.png")
    up.upscale_file(source.path, target)
    colors, alpha, bands = shown(target)
    assert colors.shape[:2] == (2 * corpus.HEIGHT, 2 * corpus.WIDTH)
    assert bands == source.bands
    kind = pyvips.Image.new_from_file(str(target)).format
    assert kind == {8: "uchar", 16: "ushort", 32: "float"}[source.bits]
    small = colors.reshape(corpus.HEIGHT, 2, corpus.WIDTH, 2, 3).mean((1, 3))
    seen = np.ones(small.shape[:2], bool) if alpha is None else corpus.mask()
    inside = np.zeros_like(seen)
    inside[3:-3, 3:-3] = True
    peak = source.rgb.max()
    limit = next((value for names, value in LIMITS.items() if name in names), 0.012)
    assert np.abs(small - source.rgb)[seen & inside].max() < limit * max(1, peak)
    if alpha is not None:
        np.testing.assert_array_equal(alpha[1::2, 1::2] > 0.5, corpus.mask())
        assert alpha[0, 0] == 0
        assert alpha[corpus.HEIGHT, corpus.WIDTH] == 1


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("deep", "float"))])
def test_more_than_eight_bits_are_real(
    odd: dict[str, corpus.Odd], up: srsdk.Upscaler, tmp_path: Path, name: str
) -> None:
    """A ramp with steps of a tenth of 1/255 keeps far more levels than 8 bits have."""
    source = odd[name]
    target = tmp_path / "out.tiff"
    up.upscale_file(source.path, target)
    colors, _, _ = shown(target)
    inside = colors[12:-12, 14:-18, 0]
    eight = np.rint(inside * 255)
    assert len(np.unique(inside)) > 20 * len(np.unique(eight))
    # along a row the source rises by 31 of 65535 per pixel, so the result by half of that
    step = np.diff(inside, axis=1).mean() * 65535
    assert 14 < step < 17


@pytest.mark.parametrize("name", ["deep_rgb.png", "float_rgb.tiff", "deep_rgba.png"])
def test_formats_of_eight_bits_say_that_they_round(
    odd: dict[str, corpus.Odd],
    up: srsdk.Upscaler,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """A WebP result is rounded to 8 bits, with a warning."""
    up.upscale_file(odd[name].path, tmp_path / "out.webp")
    assert "WEBP holds 8 bits a channel" in caplog.text
    with Image.open(tmp_path / "out.webp") as result:
        assert result.size == (2 * corpus.WIDTH, 2 * corpus.HEIGHT)


def test_hdr_is_clipped_only_with_a_word(
    odd: dict[str, corpus.Odd],
    up: srsdk.Upscaler,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A PNG clips at white, with a warning; a TIFF does not clip."""
    up.upscale_file(odd["hdr_rgb.tiff"].path, tmp_path / "out.tiff")
    assert "clips" not in caplog.text
    assert shown(tmp_path / "out.tiff")[0].max() > 9
    up.upscale_file(odd["hdr_rgb.tiff"].path, tmp_path / "out.png")
    assert "PNG clips the floats to 0..1; .tiff keeps them" in caplog.text


def test_without_the_extra_the_error_names_it(
    odd: dict[str, corpus.Odd],
    up: srsdk.Upscaler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """16-bit color and floats need libvips; 16-bit gray does not."""
    monkeypatch.setitem(__import__("sys").modules, "pyvips", None)
    for name in ("deep_rgb.png", "deep_rgb_big.tiff", "float_rgb.tiff"):
        with pytest.raises(srsdk.PictureError, match=r"pip install 'srsdk\[vips\]'"):
            up.upscale_file(odd[name].path, tmp_path / "out.png")
    up.upscale_file(odd["deep_gray.png"].path, tmp_path / "gray.png")
    up.upscale_file(odd["deep_gray_big.tiff"].path, tmp_path / "gray.tiff")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gray.png", "gray.tiff"]
