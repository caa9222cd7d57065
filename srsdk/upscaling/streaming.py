"""Upscale pictures larger than memory: decode, upscale and encode a stream of rows."""

from __future__ import annotations

import logging
import queue
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from srsdk.budget import DEFAULT, Budget
from srsdk.errors import OutputError, PictureError
from srsdk.image import vips
from srsdk.image.arrays import Array
from srsdk.image.decode import Header
from srsdk.image.encode import (
    JPEG_QUALITY,
    fitted_metadata,
    format_of,
    replacing,
    transparent,
    without_alpha,
)
from srsdk.image.metadata import Carried, png_chunk
from srsdk.image.pixels import from_bands, to_depth
from srsdk.image.resize import Goal, goal
from srsdk.image.streams import Source
from srsdk.inference.global_context.cost import SEE_ALL
from srsdk.inference.tiling import Span, spans
from srsdk.options import PictureOptions
from srsdk.scheduling.context import Call
from srsdk.system import memory_limits, threads
from srsdk.upscaling.steps import (
    Report,
    Step,
    count,
    enlarge,
    factor_of,
    grid_px,
    halo_px,
    steps_for,
)

log = logging.getLogger("srsdk")

FORMATS = ("PNG", "TIFF", "JPEG")
"""Formats that are read and written row by row."""
WINDOW_BYTES = 192 << 20
"""Memory for the rows of one window, source and result, unless the limit is lower."""


_TIMEOUT_S = 0.2


def can_stream(header: Header, target: Path) -> bool:
    """Return whether both files can be streamed."""
    return (
        vips.installed()
        and header.kind in FORMATS
        and format_of(target) in FORMATS
        and header.frames == 1
        and header.dtype in ("uint8", "uint16")
    )


@dataclass(frozen=True)
class Plan:
    """How a picture is streamed."""

    steps: tuple[Step, ...]
    target: Goal
    rows: list[Span]
    """Windows of source rows, each with the surrounding rows that its result depends on."""
    need_bytes: int
    """Memory needed while it runs."""


def plan(
    steps: Sequence[Step], header: Header, options: PictureOptions, budget: Budget = DEFAULT
) -> Plan:
    """Split a picture into windows of rows that fit into the allowed memory.

    Raises:
        PictureError: even the smallest window does not fit.
    """
    target = goal(options, header.height, header.width, factor_of(steps))
    chosen = tuple(steps)
    if options.resizes:
        chosen = steps_for(steps, target.factor(header.height, header.width))
    halo = halo_px(chosen, has_alpha=header.has_alpha)
    multiple = grid_px(chosen)
    row_bytes = _row_bytes(header, factor_of(chosen))
    # rotating a picture swaps rows and columns, so its source is kept in memory
    source_bytes = header.height * header.width * 4 if header.orientation > 1 else 0
    allowed = budget.allowance(options.max_memory_bytes) - memory_limits.FIXED_BYTES - source_bytes
    smallest = 2 * halo + multiple
    # with a window of 8 halos a quarter of the rows is computed twice, also in wide pictures
    wanted = max(WINDOW_BYTES // row_bytes, 8 * halo)
    window = max(smallest, min(wanted, allowed // row_bytes) // multiple * multiple)
    window = min(window, header.height)
    need = (
        memory_limits.FIXED_BYTES
        + source_bytes
        + min(window + multiple - 1, header.height) * row_bytes
    )
    budget.check_memory(need, options.max_memory_bytes)
    rows = on_grid(spans(header.height, window, halo, multiple), multiple)
    _check_parts(chosen, header, rows)
    return Plan(chosen, target, rows, need)


def on_grid(rows: list[Span], multiple_px: int) -> list[Span]:
    """Let the last window begin on the grid too; it is then a few rows higher than the others."""
    last = rows[-1]
    return [*rows[:-1], replace(last, start=last.start - last.start % multiple_px)]


def _check_parts(steps: Sequence[Step], header: Header, rows: list[Span]) -> None:
    """Refuse to cut the picture for networks that see all of it, or say that it costs something.

    Raises:
        PictureError: a network computes whole pictures only.
    """
    seeing = [step for step in steps if step.tiling in SEE_ALL] if len(rows) > 1 else []
    for step in seeing:
        if step.tiling == "none":
            raise PictureError(
                f"{step.name} computes whole pictures only, and one of {header.height}x"
                f"{header.width} px does not fit into memory: use a smaller picture, or more memory"
            )
    for name in dict.fromkeys(step.name for step in seeing):
        log.warning(
            "%s sees the whole picture, and this one of %dx%d px is computed in %d parts because "
            "it does not fit into memory: the result depends a little on where it is cut",
            name, header.height, header.width, len(rows),
        )  # fmt: skip


def upscale_file(
    steps: Sequence[Step],
    source: Source,
    target: Path,
    header: Header,
    options: PictureOptions,
    call: Call,
    *,
    overwrite: bool = True,
) -> None:
    """Upscale a file into another file with a few hundred rows in memory at a time.

    This thread reads the source and computes the result; another thread encodes it.

    Raises:
        PictureError: damaged, or even the smallest window does not fit into memory.
        OutputError: the disk is full.
    """
    layout = plan(steps, header, options, call.budget)
    need = layout.need_bytes - memory_limits.FIXED_BYTES
    with call.budget.reserve(need, call.check):
        _stream(layout, source, target, header, options, call, overwrite=overwrite)


def _stream(
    layout: Plan,
    source: Source,
    target: Path,
    header: Header,
    options: PictureOptions,
    call: Call,
    *,
    overwrite: bool,
) -> None:
    kind = format_of(target)
    if kind == "JPEG" and header.has_alpha:
        _check_opaque(source, target)
    image = vips.open_rows(source)
    with vips.translated(f"{source} is damaged or cannot be read"):
        image, carried = vips.as_pixels(image, vips.carried_of(image))
    carried = fitted_metadata(carried, target)
    height, width = layout.target.size
    feed = _Feed()

    def encode(temporary: Path | BytesIO) -> None:
        with vips.translated(str(target), OutputError):
            result = _to_goal(feed.image(), layout.target)
            quality = _jpeg_options(options) if kind == "JPEG" else {}
            vips.write(result, temporary, kind, carried.resized(width, height), quality)

    with (
        replacing(target, overwrite=overwrite) as temporary,
        threads.started_pool(1, "srsdk-encode") as pool,
    ):
        written = pool.submit(encode, temporary)
        try:
            bands = _enlarged(layout, image, header, options, target, call)
            for piece in _as_png(bands, *_size(layout, header)):
                feed.put(piece, written)
        finally:
            feed.put(b"", written)
        written.result()


def _check_opaque(source: Source, target: Path) -> None:
    """Read the whole alpha before any work: a transparent part may be in the last row.

    Raises:
        OutputError: the picture has transparent parts, which the format cannot hold.
    """
    image = vips.open_rows(source)
    with vips.translated(f"{source} is damaged or cannot be read"):
        image, _ = vips.as_pixels(image, Carried())
        lowest = image[image.bands - 1].min() if image.bands in (2, 4) else None
    white = {"uchar": 255, "ushort": 65535}[image.format]
    if lowest is not None and lowest < white:
        raise transparent(target)


def _enlarged(
    layout: Plan,
    image: Any,
    header: Header,
    options: PictureOptions,
    target: Path,
    call: Call,
) -> Iterator[Array]:
    """Yield the result's rows, (rows, W, C), in order."""
    factor = factor_of(layout.steps)
    windows = _windows(image, layout.rows)
    runs = 1 + int(header.has_alpha and options.alpha == "model")
    tiles = (count(layout.steps, s.stop - s.start, header.width) for s in layout.rows)
    report = Report(call, runs * sum(tiles))
    for span, rows in zip(layout.rows, windows, strict=True):
        large = enlarge(layout.steps, from_bands(rows), options.alpha == "model", report.part())
        if format_of(target) == "JPEG":
            large = to_depth(without_alpha(large, target), np.uint8)
        first = (span.keep_start - span.start) * factor
        yield large.bands()[first : first + (span.keep_stop - span.keep_start) * factor]


def _windows(image: Any, rows: list[Span]) -> Iterator[Array]:
    """Read the windows; rows shared by two windows are read once."""
    from pyvips import Region

    region = Region.new(image)
    dtype = {"uchar": np.uint8, "ushort": np.uint16}[image.format]
    held = np.empty((0, image.width, image.bands), dtype)
    read = 0
    for span in rows:
        with vips.translated("the source is damaged"):
            data = region.fetch(0, read, image.width, span.stop - read)
        new = np.frombuffer(data, dtype).reshape(-1, image.width, image.bands)
        old = held[held.shape[0] - (read - span.start) :]
        held = np.concatenate([old, new]) if old.size else new
        read = span.stop
        yield held


def _size(layout: Plan, header: Header) -> tuple[int, int]:
    factor = factor_of(layout.steps)
    return header.height * factor, header.width * factor


def _as_png(bands: Iterator[Array], height: int, width: int) -> Iterator[bytes]:
    """Yield rows as an uncompressed PNG stream, which libvips can read as the rows arrive.

    It holds the raw bytes with a zero before each row, and a few headers.
    """
    stored = zlib.compressobj(0)
    begun = False
    for rows in bands:
        if not begun:
            color = {1: 0, 2: 4, 3: 2, 4: 6}[rows.shape[2]]
            head = struct.pack(">IIBBBBB", width, height, 8 * rows.itemsize, color, 0, 0, 0)
            yield b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head)
            begun = True
        raw = rows.astype(rows.dtype.newbyteorder(">"), copy=False).view(np.uint8)
        for part in np.array_split(raw.reshape(raw.shape[0], -1), max(1, raw.nbytes >> 23)):
            lines = np.zeros((part.shape[0], part.shape[1] + 1), np.uint8)
            lines[:, 1:] = part
            yield png_chunk(b"IDAT", stored.compress(lines.data))
    yield png_chunk(b"IDAT", stored.flush()) + png_chunk(b"IEND", b"")


def _to_goal(image: Any, target: Goal) -> Any:
    if (image.height, image.width) != (target.height, target.width):
        image = image.resize(
            target.width / image.width,
            vscale=target.height / image.height,
            kernel="lanczos3",
            gap=0,
        )
    if target.crop is None:
        return image
    top, left, height, width = target.crop
    return image.crop(left, top, width, height)


def _jpeg_options(options: PictureOptions) -> dict[str, Any]:
    quality = options.quality if isinstance(options.quality, int) else JPEG_QUALITY
    sampled = options.subsampling == "4:2:0"
    return {"Q": quality, "subsample_mode": "on" if sampled else "off"}


def _row_bytes(header: Header, factor: int) -> int:
    """Return the memory of one source row and its result, including intermediate copies."""
    bands = 3 + header.has_alpha
    itemsize = np.dtype(header.dtype).itemsize
    return header.width * bands * itemsize * (3 + 3 * factor * factor)


class _Feed:
    """Pass bytes from this thread to libvips' own thread."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes] = queue.Queue(2)
        self._rest = memoryview(b"")
        self._ended = False
        self._source: Any = None

    def put(self, piece: bytes, reader: Future[None]) -> None:
        """Pass on a piece, or no bytes at the end; raise the reader's error if it has failed."""
        while not reader.done():
            try:
                self._pieces.put(piece, timeout=_TIMEOUT_S)
                return
            except queue.Full:
                continue
        if piece:
            reader.result()  # the reader has failed: raise its error

    def image(self) -> Any:
        """Return the libvips image that reads these bytes."""
        import pyvips

        # libvips calls back through this object and does not keep it alive
        self._source = pyvips.SourceCustom()
        self._source.on_read(self._read)
        return pyvips.Image.pngload_source(self._source, access="sequential", unlimited=True)

    def _read(self, length: int) -> bytes:
        if not self._rest and not self._ended:
            self._rest = memoryview(self._pieces.get())
            self._ended = not self._rest
        part, self._rest = self._rest[:length], self._rest[length:]
        return bytes(part)
