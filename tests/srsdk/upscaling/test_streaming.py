"""Pictures larger than memory, tested with small pictures and a low memory limit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import srsdk
from srsdk import PictureOptions
from srsdk.image import vips
from srsdk.inference.tiling import Span
from srsdk.system import memory, memory_limits
from srsdk.upscaling import streaming
from srsdk.upscaling.steps import Step, grid_px
from tests import corpus
from tests.conftest import make_picture
from tests.fakes.engine import fake_manifest
from tests.srsdk.image.test_metadata import exif
from tests.srsdk.inference.test_whole import SlotEngine, WindowEngine, global_manifest
from tests.srsdk.test_upscaler import open_fake

pyvips = pytest.importorskip("pyvips", reason=corpus.NEEDS_VIPS)


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> srsdk.Upscaler:
    """The x2 model, with windows of a few rows."""
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 0)
    monkeypatch.setattr(memory_limits, "FIXED_BYTES", 0)
    monkeypatch.setattr(memory_limits, "ALWAYS_FINE_BYTES", 0)
    return srsdk.Upscaler("gan_x2")


LITTLE = PictureOptions(max_memory_bytes=1_000_000)
"""Too little for the whole pictures of these tests, enough for windows of rows."""


def decoded(path: Path) -> npt.NDArray[Any]:
    """Decode a file with libvips to (H, W, C)."""
    image = pyvips.Image.new_from_file(str(path))
    array: npt.NDArray[Any] = image.numpy()
    return array.reshape(image.height, image.width, -1)


def check_streams(up: srsdk.Upscaler, source: Path, target: Path, most: int = 1) -> None:
    """Upscale as a stream and in one piece, and compare the results."""
    whole = target.with_name(f"whole{target.suffix}")
    streamed = []
    patch = pytest.MonkeyPatch()
    run = streaming.upscale_file

    def recorded(*arguments: Any, **named: Any) -> None:
        streamed.append(arguments)
        run(*arguments, **named)

    patch.setattr(streaming, "upscale_file", recorded)
    up.upscale_file(source, target, options=LITTLE)
    patch.undo()
    assert streamed
    up.upscale_file(source, whole)
    a, b = decoded(target), decoded(whole)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert np.abs(a.astype(int) - b).max() <= most


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
@pytest.mark.parametrize("source_suffix", [".png", ".tiff", ".jpg"])
def test_a_stream_gives_what_one_piece_gives(
    up: srsdk.Upscaler, tmp_path: Path, source_suffix: str, suffix: str
) -> None:
    """Results agree within 1 LSB between all formats; JPEG decoders differ by a few."""
    source = tmp_path / f"in{source_suffix}"
    Image.fromarray(make_picture(301, 67)).save(source)
    check_streams(
        up, source, tmp_path / f"out{suffix}", 12 if ".jpg" in source.name + suffix else 1
    )


def opened_fake(
    patch: pytest.MonkeyPatch, engine: SlotEngine, manifest: srsdk.Manifest
) -> srsdk.Upscaler:
    """Return an Upscaler that streams these tests' pictures in windows of a few rows."""
    patch.setattr(streaming, "WINDOW_BYTES", 0)
    patch.setattr(memory_limits, "FIXED_BYTES", 0)
    patch.setattr(memory_limits, "ALWAYS_FINE_BYTES", 0)
    return open_fake(patch, engine, manifest)


@pytest.mark.parametrize("height", [301, 304, 333])
def test_windows_of_rows_keep_to_the_grid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, height: int
) -> None:
    """For window attention, the last window of rows begins on its grid too, at any height."""
    manifest = replace(fake_manifest(radius_px=12, multiple_px=8), tiling="aligned")
    up = opened_fake(monkeypatch, WindowEngine(), manifest)
    picture = np.random.default_rng(0).integers(0, 256, (height, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    check_streams(up, tmp_path / "in.png", tmp_path / "out.png", 0)


def test_the_grid_of_several_models() -> None:
    """It is a grid of every step, in rows of the source: 6 px after x2 are 3 px."""

    def step(scale: int, multiple: int) -> Step:
        return Step("test", scale, 0, multiple, lambda x, _: x, lambda *_: 1)

    assert grid_px([step(2, 1)]) == 1
    assert grid_px([step(2, 4), step(2, 6)]) == 12
    assert grid_px([step(4, 8), step(2, 16)]) == 8
    rows = [Span(0, 40, 0, 32), Span(21, 61, 32, 61)]
    assert streaming.on_grid(rows, 8) == [rows[0], Span(16, 61, 32, 61)]


def test_a_network_that_sees_all_streams_at_a_cost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`bounded` says that it is cut; `none` is refused, and writes nothing."""
    Image.fromarray(make_picture(400, 64)).save(tmp_path / "in.png")
    up = opened_fake(monkeypatch, SlotEngine(), global_manifest())
    up.upscale_file(tmp_path / "in.png", tmp_path / "out.png", options=LITTLE)
    assert decoded(tmp_path / "out.png").shape == (800, 128, 3)
    assert re.search(r"400x64 px is computed in \d+ parts", caplog.text)
    up = opened_fake(monkeypatch, SlotEngine(), global_manifest("none"))
    with pytest.raises(srsdk.PictureError, match="computes whole pictures only, and one of 400x64"):
        up.upscale_file(tmp_path / "in.png", tmp_path / "none.png", options=LITTLE)
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA"])
def test_bands(up: srsdk.Upscaler, tmp_path: Path, mode: str) -> None:
    """Gray stays gray; alpha is processed by windows with the same result as in one piece."""
    image = Image.fromarray(make_picture(401, 50))
    y, x = np.mgrid[0:401, 0:50]
    if "A" in mode:
        image.putalpha(
            Image.fromarray(((np.sin(y / 9) + np.sin(x / 7) > 0) * 255).astype(np.uint8))
        )
    image.convert(mode).save(tmp_path / "in.png")
    check_streams(up, tmp_path / "in.png", tmp_path / "out.png")


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_sixteen_bits(up: srsdk.Upscaler, tmp_path: Path, bands: int) -> None:
    """Depth and precision are kept."""
    random = np.random.default_rng(0)
    y = np.arange(300)[:, None, None]
    picture = (y * 150 + random.integers(0, 2000, (300, 40, bands))).astype(np.uint16)
    (tmp_path / "in.png").write_bytes(corpus.png16(picture))
    check_streams(up, tmp_path / "in.png", tmp_path / "out.tiff", 2)
    assert decoded(tmp_path / "out.tiff").dtype == np.uint16


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_and_metadata(up: srsdk.Upscaler, tmp_path: Path, orientation: int) -> None:
    """Rotated pictures are streamed from memory; EXIF, ICC and DPI are kept."""
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(make_picture(200, 120)).save(
        source, exif=exif(orientation), icc_profile=corpus.display_p3(), dpi=(300, 300)
    )
    check_streams(up, source, target)
    with Image.open(target) as result:
        result.load()
        assert result.size == ((400, 240) if orientation == 6 else (240, 400))
        assert result.info["icc_profile"] == corpus.display_p3()
        assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert result.getexif().get(0x0112, 1) == 1
        assert result.getexif()[0x010F] == "Maker"


@pytest.mark.parametrize(
    "options",
    [{"scale": 1.5}, {"width": 100}, {"width": 90, "height": 90, "fit": "cover"}, {"scale": 4}],
)
def test_sizes_in_a_stream(up: srsdk.Upscaler, tmp_path: Path, options: dict[str, float]) -> None:
    """The size is the same, and so is the picture except for the filter's rounding."""
    picture = corpus.smooth(300, 60)
    Image.fromarray(picture).save(tmp_path / "in.png")
    wanted = PictureOptions(**options)  # type: ignore[arg-type]
    up.upscale_file(tmp_path / "in.png", tmp_path / "whole.png", options=wanted)
    little = PictureOptions(**options, max_memory_bytes=800_000)  # type: ignore[arg-type]
    patch = pytest.MonkeyPatch()
    patch.setattr(memory_limits, "allowance", lambda _: 800_000)
    patch.setattr("srsdk.upscaling.files.need_bytes", lambda *_: 900_000)
    up.upscale_file(tmp_path / "in.png", tmp_path / "out.png", options=little)
    patch.undo()
    a, b = decoded(tmp_path / "out.png"), decoded(tmp_path / "whole.png")
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 3


def test_progress_and_cancel(up: srsdk.Upscaler, tmp_path: Path) -> None:
    """Progress counts up to its total; an exception in it stops the stream and leaves no file."""
    Image.fromarray(make_picture(4000, 40)).save(tmp_path / "in.png")
    seen: list[tuple[int, int]] = []
    target = tmp_path / "out.png"
    up.upscale_file(
        tmp_path / "in.png", target, options=LITTLE, progress=lambda *at: seen.append(at)
    )
    assert seen[-1][0] == seen[-1][1] > 3
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))
    target.unlink()

    def cancel(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        up.upscale_file(tmp_path / "in.png", target, options=LITTLE, progress=cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_a_source_that_ends_early(up: srsdk.Upscaler, tmp_path: Path) -> None:
    """Damage in the middle of a stream is an error and leaves no file."""
    random = np.random.default_rng(0).integers(0, 256, (400, 60, 3), dtype=np.uint8)
    Image.fromarray(random).save(tmp_path / "in.png")
    data = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(srsdk.PictureError, match="damaged"):
        up.upscale_file(tmp_path / "in.png", tmp_path / "out.png", options=LITTLE)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_what_cannot_be_streamed_is_refused_with_the_bytes(
    up: srsdk.Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any work, the error names the need, the limit and a fix."""
    Image.fromarray(make_picture(400, 400)).save(tmp_path / "in.png")
    for target, help_ in (("out.webp", r"are streamed into \.png"),):
        with pytest.raises(
            srsdk.PictureError, match=rf"needs [\d,]+ bytes of memory, 1,000,000 are .*{help_}"
        ):
            up.upscale_file(tmp_path / "in.png", tmp_path / target, options=LITTLE)
    monkeypatch.setattr(vips, "installed", lambda: False)
    with pytest.raises(srsdk.PictureError, match=r"pip install 'srsdk\[vips\]' to stream it"):
        up.upscale_file(tmp_path / "in.png", tmp_path / "out.png", options=LITTLE)
    monkeypatch.undo()


def test_not_even_a_window_fits(up: srsdk.Upscaler, tmp_path: Path) -> None:
    """Streaming also needs a minimum of memory."""
    Image.fromarray(make_picture(300, 300)).save(tmp_path / "in.png")
    with pytest.raises(
        srsdk.PictureError, match=r"needs [\d,]+ bytes of memory, 1,000 are allowed"
    ):
        up.upscale_file(
            tmp_path / "in.png", tmp_path / "o.png", options=PictureOptions(max_memory_bytes=1000)
        )


def test_an_array_that_would_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The available memory is checked before the out-of-memory killer could act."""
    monkeypatch.setattr(memory_limits, "available_bytes", lambda: 100_000_000)
    tall = np.broadcast_to(np.zeros(3, np.uint8), (3000, 3000, 3))
    with (
        srsdk.Upscaler("gan_x4") as up,
        pytest.raises(srsdk.PictureError, match="432,000,000 bytes of memory, 80,000,000 are av"),
    ):
        up(tall)


def test_available_memory_is_known_here() -> None:
    """The available memory is a plausible number of bytes."""
    found = memory.available_bytes()
    assert found is not None
    assert 1 << 20 < found < 1 << 50


def test_a_container_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control group's limit applies, minus the memory in use that cannot be reclaimed."""
    files = {
        "memory.max": "1000000\n",
        "memory.current": "700000\n",
        "memory.stat": "anon 5\ninactive_file 200000\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    assert memory.available_bytes() == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    found = memory.available_bytes()
    assert found is not None
    assert found > 500_000


@pytest.mark.parametrize("last_row", [0, 255])
def test_transparency_is_found_before_any_work(
    up: srsdk.Upscaler, tmp_path: Path, last_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transparent row at the end of a picture that goes to JPEG: no window is computed."""
    image = Image.fromarray(make_picture(401, 50)).convert("RGBA")
    image.paste((9, 9, 9, last_row), (0, 400, 50, 401))
    image.save(tmp_path / "in.png")
    monkeypatch.setattr("srsdk.upscaling.files.need_bytes", lambda *_: 1 << 60)
    seen: list[int] = []

    def convert() -> None:
        up.upscale_file(
            tmp_path / "in.png", tmp_path / "out.jpg", progress=lambda done, _: seen.append(done)
        )

    if last_row == 255:
        convert()
        assert decoded(tmp_path / "out.jpg").shape == (802, 100, 3)
        return
    with pytest.raises(srsdk.OutputError, match="transparent parts"):
        convert()
    assert seen == []
