"""Files of several frames or pages, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srsdk import encode, memory, pictures
from srsdk.call import Call
from srsdk.enlarge import Step, factor_of, upscale
from srsdk.errors import OutputError, PictureError
from srsdk.metadata import Carried, carried_of, pillow_options, warn_of_loss
from srsdk.options import PictureOptions
from srsdk.pixels import Pixels
from srsdk.sizes import goal
from srsdk.tiles import Array

SEVERAL = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")
"""Formats that hold several frames, or pages."""
BYTES_KEPT = {"GIF": 2}
"""A pixel of a finished frame until the file is written: Pillow keeps them all; others take 4."""
FRAME_BYTES = 4 << 10
"""What Pillow keeps of a frame beside its pixels: 2.3 KB were seen, of frames of one pixel."""
OPAQUE_FROM = 128
"""A GIF's pixel is seen or not."""


def upscale_file(
    steps: Sequence[Step],
    source: Path,
    target: Path,
    header: pictures.Header,
    options: PictureOptions,
    call: Call,
) -> None:
    """Upscale every frame; durations, loop count and what is transparent are kept.

    Frames are written whole, as they are seen, so the source's disposal has done its work.

    Raises:
        OutputError: the target's format holds one picture.
        PictureError: damaged, or it needs more memory than it may have.
    """
    kind = encode.format_of(target)
    if kind not in SEVERAL:
        raise OutputError(
            f"{source} has {header.frames} frames and {target.suffix} holds one: "
            "write .gif, .png, .webp, .avif, or .tiff for pages"
        )
    size = goal(options, header.height, header.width, factor_of(steps)).size
    kept = header.frames * (size[0] * size[1] * BYTES_KEPT.get(kind, 4) + FRAME_BYTES)
    memory.check(kept, options.max_memory_bytes)
    failed: list[Exception] = []
    try:
        with pictures.opened(source) as image:
            carried, timing = _first_look(image, source)
            warn_of_loss(carried, target, kind)
            compute = _Compute(steps, options, call, header.frames, failed)
            frames = _frames(compute, image, timing["alpha"], kind)
            first = next(frames)
            with encode.replacing(target) as temporary:
                first.save(
                    temporary,
                    save_all=True,
                    # Pillow goes through the frames of a PNG twice, and keeps them all anyway
                    append_images=list(frames) if kind == "PNG" else frames,
                    **pillow_options(carried.resized(first.width, first.height), kind),
                    **encode.save_options(kind, options, carried),
                    **_timing(timing, kind),
                )
    except (PictureError, OutputError):
        if failed:
            raise failed[0] from None  # neither file is to blame
        raise


def _first_look(image: Image.Image, source: Path) -> tuple[Carried, dict[str, Any]]:
    """Go through all frames once: when each is shown, and whether any is transparent."""
    durations, alpha = [], False
    for index in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(index)
        image.load()
        durations.append(round(image.info.get("duration", 0)))
        alpha = alpha or image.has_transparency_data
    timing = {"duration": durations, "alpha": alpha}
    if image.format == "AVIF":
        timing["loop"] = 0  # its sequences run on for ever, without a word about it
    for name in ("loop", "default_image"):
        if name in image.info:
            timing[name] = image.info[name]
    image.seek(0)
    return carried_of(image, source), timing


def _timing(timing: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return what Pillow takes, by format; pages have no time."""
    if kind == "TIFF":
        return {}
    durations = timing["duration"]
    if timing.get("default_image") and kind != "PNG":
        durations = durations[1:]
    options: dict[str, Any] = {"duration": durations}
    if kind == "GIF":
        # each frame replaces the one before, also where it is transparent
        options["disposal"] = 2 if timing["alpha"] else 0
        if "loop" in timing:
            options["loop"] = timing["loop"]
    elif kind == "PNG":
        options |= {"loop": timing.get("loop", 1), "disposal": 0, "blend": 0}
        options["default_image"] = timing.get("default_image", False)
    elif kind == "WEBP":
        options["loop"] = timing.get("loop", 1)
    return options


@dataclass
class _Compute:
    """Upscales one frame after the other, and keeps what that raises.

    It happens while files are open for reading and writing, and is neither's damage: a deadline, a
    cancellation, a backend.
    """

    steps: Sequence[Step]
    options: PictureOptions
    call: Call
    total: int
    failed: list[Exception]

    def __call__(self, pixels: Pixels | None, index: int) -> Pixels | None:
        """Upscale a frame; None: it is as the one before."""
        part = _part(self.call, index, self.total)
        try:
            if pixels is not None:
                return upscale(self.steps, pixels, self.options, part)
            part.report(1, 1)
        except PictureError:
            raise
        except Exception as error:
            self.failed.append(error)
            raise
        return None


def _frames(
    compute: _Compute, image: Image.Image, has_alpha: bool, kind: str
) -> Iterator[Image.Image]:
    """Yield the enlarged frames; one that equals the frame before is not computed again."""
    before: Array | None = None
    result: Image.Image | None = None
    start = int(bool(image.info.get("default_image")) and kind != "PNG")
    for index in range(start, compute.total):
        image.seek(index)
        frame = image.convert("RGBA") if has_alpha else image
        pixels = pictures.from_image(frame)
        bands = pixels.bands()
        same = result is not None and before is not None and np.array_equal(bands, before)
        large = compute(None if same else pixels, index)
        if large is not None:
            result = pictures.to_image(_cut_out(large) if kind == "GIF" else large)
        assert result is not None
        before = bands
        yield result.copy()


def _part(call: Call, index: int, total: int) -> Call:
    return call.part(lambda done, of: call.report(index * of + done, total * of))


def _cut_out(pixels: Pixels) -> Pixels:
    """Make each pixel wholly seen or wholly transparent, and those of one colour."""
    if pixels.alpha is None:
        return pixels
    seen = pixels.alpha >= OPAQUE_FROM
    rgb = pixels.rgb * seen[..., None]
    return Pixels(rgb, np.where(seen, 255, 0).astype(np.uint8), pixels.is_grey)
