"""Upscale animations and multi-page files, frame by frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srsdk.errors import OutputError, PictureError
from srsdk.image import decode, encode
from srsdk.image.arrays import Array
from srsdk.image.metadata import Carried, carried_of, pillow_options
from srsdk.image.pixels import Pixels
from srsdk.image.resize import goal
from srsdk.image.streams import Place, Source
from srsdk.options import PictureOptions
from srsdk.scheduling.abandon import within
from srsdk.scheduling.context import Call
from srsdk.system import memory_limits
from srsdk.system.paths import discard
from srsdk.upscaling.steps import Step, factor_of, upscale

SEVERAL = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")
"""Formats that hold several frames or pages."""
BYTES_KEPT = {"GIF": 2}
"""Bytes per pixel of each result frame, all of which Pillow keeps until the file is written;
other formats: 4."""
FRAME_BYTES = 4 << 10
"""Memory that Pillow keeps per frame besides its pixels: 2.3 KB measured for one-pixel frames."""
OPAQUE_FROM = 128
"""Lowest alpha of an opaque pixel in a GIF, whose pixels are opaque or transparent."""


def upscale_file(
    steps: Sequence[Step],
    source: Source,
    target: Place,
    header: decode.Header,
    options: PictureOptions,
    call: Call,
    *,
    overwrite: bool = True,
) -> None:
    """Upscale every frame; keep durations, loop count and transparency.

    Frames are written fully composited, so the source's disposal is already applied.

    Raises:
        OutputError: the target's format holds a single picture.
        PictureError: damaged, or it needs more memory than is allowed.
    """
    kind = encode.format_of(target)
    if kind not in SEVERAL:
        raise OutputError(
            f"{source} has {header.frames} frames and {target.suffix} holds one: "
            "write .gif, .png, .webp, .avif, or .tiff for pages"
        )
    if header.dtype != "uint8" and kind != "TIFF":
        raise OutputError(
            f"{source} has pages of more than 8 bits, {target.suffix} cannot hold them: use .tiff"
        )
    need = need_bytes(steps, header, kind, options)
    call.budget.check_memory(need, options.max_memory_bytes)
    with call.budget.reserve(need - memory_limits.FIXED_BYTES, call.check, call.abandoned):
        _upscale_frames(steps, source, target, header, options, call, overwrite=overwrite)


def need_bytes(
    steps: Sequence[Step], header: decode.Header, kind: str, options: PictureOptions
) -> int:
    """Return the memory for all frames of the result, and for work on the largest."""
    factor = factor_of(steps)
    kept = largest_bytes = 0
    for (height, width), count in Counter(header.sizes).items():
        rows, columns = goal(options, height, width, factor).size
        kept += count * (rows * columns * BYTES_KEPT.get(kind, 4) + FRAME_BYTES)
        work = height * width * decode.DECODED_BYTES + rows * columns * 8
        largest_bytes = max(largest_bytes, work)
    return memory_limits.FIXED_BYTES + kept + largest_bytes


def _upscale_frames(
    steps: Sequence[Step],
    source: Source,
    target: Place,
    header: decode.Header,
    options: PictureOptions,
    call: Call,
    *,
    overwrite: bool = True,
) -> None:
    kind = encode.format_of(target)
    failed: list[Exception] = []
    try:
        with decode.opened(source, formats=call.budget.formats) as image:
            carried, timing = _first_look(image, source, call)
            carried = encode.fitted_metadata(carried, target)
            compute = _Compute(steps, options, call, header.frames, failed)
            frames = _frames(compute, image, timing["alpha"], kind)
            first = next(frames)
            saved = {
                **pillow_options(carried.resized(first.width, first.height), kind),
                **encode.save_options(kind, options, carried),
                **_timing(timing, kind),
            }
            with encode.writing(target, overwrite=overwrite) as temporary:
                _save(first, frames, temporary, kind, saved, call)
    except (PictureError, OutputError):
        if failed:
            raise failed[0] from None  # the cause is in neither file
        raise


def _save(
    first: Image.Image,
    frames: Iterator[Image.Image],
    temporary: Path | BytesIO,
    kind: str,
    saved: dict[str, Any],
    call: Call,
) -> None:
    if kind != "PNG":
        # each frame is encoded when it is computed
        first.save(temporary, format=kind, save_all=True, append_images=frames, **saved)
        return
    # Pillow iterates over the frames of a PNG twice, and keeps them all anyway
    rest = list(frames)
    within(
        call,
        lambda: first.save(temporary, format=kind, save_all=True, append_images=rest, **saved),
        lambda: discard(temporary) if isinstance(temporary, Path) else None,
    )


def _first_look(image: Image.Image, source: Source, call: Call) -> tuple[Carried, dict[str, Any]]:
    """Read all frames once for their durations and whether any is transparent."""
    durations, alpha = [], False
    for index in range(image.n_frames):  # type: ignore[attr-defined]
        call.check()
        image.seek(index)
        image.load()
        durations.append(round(image.info.get("duration", 0)))
        alpha = alpha or image.has_transparency_data
    timing = {"duration": durations, "alpha": alpha}
    if image.format == "AVIF":
        timing["loop"] = 0  # AVIF sequences loop forever and store no loop count
    for name in ("loop", "default_image"):
        if name in image.info:
            timing[name] = image.info[name]
    image.seek(0)
    return carried_of(image, source), timing


def _timing(timing: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return Pillow's timing options for a format; pages have no timing."""
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
    """Upscale one frame after the other, and keep the exceptions that this raises.

    It runs while source and target are open; a deadline, a cancellation or a backend error must not
    be reported as damage to either file.
    """

    steps: Sequence[Step]
    options: PictureOptions
    call: Call
    total: int
    failed: list[Exception]

    def __call__(self, pixels: Pixels | None, index: int) -> Pixels | None:
        """Upscale a frame; None: it equals the one before."""
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
    """Yield the enlarged frames; a frame equal to the one before is not computed again."""
    before: Array | None = None
    result: Image.Image | None = None
    start = int(bool(image.info.get("default_image")) and kind != "PNG")
    for index in range(start, compute.total):
        image.seek(index)
        frame = image.convert("RGBA") if has_alpha else image
        pixels = decode.from_image(frame)
        bands = pixels.bands()
        same = result is not None and before is not None and np.array_equal(bands, before)
        large = compute(None if same else pixels, index)
        if large is not None:
            result = decode.to_image(_binary_alpha(large) if kind == "GIF" else large)
        assert result is not None
        before = bands
        yield result.copy()


def _part(call: Call, index: int, total: int) -> Call:
    return call.part(lambda done, of: call.report(index * of + done, total * of))


def _binary_alpha(pixels: Pixels) -> Pixels:
    """Make each pixel opaque or fully transparent, and all transparent pixels one color."""
    if pixels.alpha is None:
        return pixels
    opaque = pixels.alpha >= OPAQUE_FROM
    rgb = pixels.rgb * opaque[..., None]
    return Pixels(rgb, np.where(opaque, 255, 0).astype(np.uint8), pixels.is_gray)
