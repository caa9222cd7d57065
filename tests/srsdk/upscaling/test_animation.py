"""Animations keep every frame and its duration."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

import srsdk
from srsdk.scheduling.context import Call
from srsdk.upscaling import files
from tests.conftest import Picture, make_picture
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.fuzz.workplace import NEAREST
from tests.srsdk.test_upscaler import open_fake

DURATIONS = [100, 250, 70, 400]


@pytest.fixture(scope="module")
def up() -> srsdk.Upscaler:
    """The x2 model."""
    return srsdk.Upscaler("gan_x2")


def frames(*, transparent: bool) -> list[Image.Image]:
    """Return four frames of a moving disc, on a ramp or on transparency."""
    y, x = np.mgrid[0:30, 0:44]
    result = []
    for index in range(4):
        disc = (y - 15) ** 2 + (x - 9 - 8 * index) ** 2 < 49
        ramp = np.stack([4 * x, 7 * y, np.full_like(x, 100)], axis=-1)
        image = Image.fromarray(np.where(disc[..., None], (220, 40, 40), ramp).astype(np.uint8))
        if transparent:
            image.putalpha(Image.fromarray((disc * 255).astype(np.uint8)))
        result.append(image)
    return result


def save(path: Path, pictures: list[Image.Image]) -> Path:
    """Write an animation that loops three times."""
    options: dict[str, Any] = {"loop": 3, "duration": DURATIONS}
    if path.suffix == ".gif" and pictures[0].mode == "RGBA":
        options["disposal"] = 2
    if path.suffix == ".webp":
        options["lossless"] = True
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    return path


def shown(path: Path) -> tuple[list[Picture], list[int], object]:
    """Return all frames as RGBA, their durations, and the loop count."""
    with Image.open(path) as image:
        found, durations = [], []
        for frame in ImageSequence.Iterator(image):
            found.append(np.asarray(frame.convert("RGBA")))
            durations.append(round(frame.info.get("duration", 0)))
        return found, durations, image.info.get("loop")


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
@pytest.mark.parametrize("source_suffix", [".gif", ".png", ".webp"])
def test_frames_durations_loop_and_transparency(
    tmp_path: Path, up: srsdk.Upscaler, source_suffix: str, suffix: str, transparent: bool
) -> None:
    """From each format into each, the disc keeps its place and duration and leaves no trail."""
    source = save(tmp_path / f"in{source_suffix}", frames(transparent=transparent))
    up.upscale_file(source, tmp_path / f"out{suffix}")
    found, durations, loop = shown(tmp_path / f"out{suffix}")
    assert durations == DURATIONS
    assert loop == (None if suffix == ".avif" else 3)
    for index, frame in enumerate(found):
        assert frame.shape == (60, 88, 4)
        y, x = np.mgrid[0:60, 0:88] / 2
        distance = np.hypot(y - 15, x - 9 - 8 * index)
        red = (frame[..., 0] > 180) & (frame[..., 1] < 90) & (frame[..., 3] > 200)
        assert red[distance < 5].mean() > 0.98
        assert not red[distance > 9].any()
        assert (
            (frame[distance > 9][:, 3] < 30).all() if transparent else (frame[..., 3] == 255).all()
        )


def test_pages_of_a_tiff(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Pages may differ in size; each is upscaled independently."""
    pages = [make_picture(20, 30), make_picture(24, 16, seed=1)]
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "in.tiff", save_all=True, append_images=images[1:])
    up.upscale_file(tmp_path / "in.tiff", tmp_path / "out.tiff")
    with Image.open(tmp_path / "out.tiff") as result:
        for index, page in enumerate(pages):
            result.seek(index)
            np.testing.assert_array_equal(np.asarray(result), up(page))


def test_equal_frames_are_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Repeated frames cost one run; progress still reaches its total."""
    one, two = (Image.fromarray(make_picture(20, 30, seed)) for seed in range(2))
    save(tmp_path / "in.webp", [one, two, two, two])
    with Image.open(tmp_path / "in.webp") as image:
        different = image.n_frames  # type: ignore[attr-defined]
    engine = FakeEngine()
    up = open_fake(monkeypatch, engine, fake_manifest())
    seen: list[tuple[int, int]] = []
    up.upscale_file(
        tmp_path / "in.webp",
        tmp_path / "out.gif",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert engine.submitted == 2
    assert seen[-1] == (different, different)


def test_one_picture_formats_are_refused(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Frames are never dropped silently, and the error comes before any work."""
    source = save(tmp_path / "in.gif", frames(transparent=False))
    with pytest.raises(srsdk.OutputError, match=r"4 frames and \.jpg holds one: write \.gif"):
        up.upscale_file(source, tmp_path / "out.jpg")
    with pytest.raises(srsdk.PictureError, match="got 4 frames, expected a single picture"):
        up(source)
    assert [path.name for path in tmp_path.iterdir()] == ["in.gif"]


@pytest.mark.parametrize("suffix", [".gif", ".tiff"])
def test_a_deadline_while_the_frames_are_looked_at_is_no_damage(
    tmp_path: Path, suffix: str
) -> None:
    """A call that is late, or cancelled, before the first frame is computed says so."""
    frames = [Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(9)]
    source = tmp_path / f"a{suffix}"
    frames[0].save(source, save_all=True, append_images=frames[1:])
    for failure in (srsdk.DeadlineExceeded("late"), CancelledError()):
        with pytest.raises(type(failure)):
            files.upscale_file((NEAREST,), source, tmp_path / "b.gif", call=LateCall(failure))
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


class LateCall(Call):
    """A call that ends at its fifth check."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self._failure, self._checks = failure, 0

    def check(self) -> None:
        """Count, and raise."""
        self._checks += 1
        if self._checks == 5:
            raise self._failure


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_target_that_appears_meanwhile_is_kept(tmp_path: Path, suffix: str) -> None:
    """A file that somebody else writes while the model runs is not replaced without `overwrite`."""
    frames = [Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(3)]
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    frames[0].save(source, save_all=suffix == ".gif", append_images=frames[1:])

    def write(*_: int) -> None:
        target.write_bytes(b"theirs")

    with pytest.raises(srsdk.OutputError, match="exists; overwrite=True"):
        files.upscale_file((NEAREST,), source, target, call=Call(write))
    assert target.read_bytes() == b"theirs"
    files.upscale_file((NEAREST,), source, target, overwrite=True, call=Call(write))
    with Image.open(target) as image:
        assert image.size == (16, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


@pytest.mark.parametrize("mode", ["F", "I;16"])
def test_deep_pages_go_into_tiff_only(tmp_path: Path, mode: str) -> None:
    """Pages of more than 8 bits are refused for other formats before any work."""
    page = Image.new(mode, (8, 8))
    page.save(tmp_path / "a.tiff", save_all=True, append_images=[page, page])
    seen: list[int] = []
    for suffix in (".png", ".gif", ".webp"):
        with pytest.raises(srsdk.OutputError, match="more than 8 bits"):
            files.upscale_file(
                (NEAREST,), tmp_path / "a.tiff", tmp_path / f"b{suffix}",
                call=Call(lambda done, _: seen.append(done)),
            )  # fmt: skip
    assert seen == []
    files.upscale_file((NEAREST,), tmp_path / "a.tiff", tmp_path / "b.tiff")
    with Image.open(tmp_path / "b.tiff") as image:
        assert (image.n_frames, image.mode, image.size) == (3, mode, (16, 16))  # type: ignore[attr-defined]


def test_the_deadline_covers_the_encoder_of_an_animated_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames of a PNG are encoded at the end, which may take longer than the network."""
    frames = [Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    goes_on, save = threading.Event(), Image.Image.save

    def hangs(image: Image.Image, target: Any, **options: Any) -> None:
        if isinstance(target, Path):
            assert goes_on.wait(60)
        save(image, target, **options)

    monkeypatch.setattr(Image.Image, "save", hangs)
    source, target = tmp_path / "a.gif", tmp_path / "b.png"
    budget = srsdk.Budget()
    with pytest.raises(srsdk.DeadlineExceeded):
        files.upscale_file((NEAREST,), source, target, call=Call(None, 0.5, budget))
    assert budget.reserved_bytes > 0, "the abandoned encoder still uses its memory"
    goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "srsdk-work":
            thread.join(60)
    assert budget.reserved_bytes == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
