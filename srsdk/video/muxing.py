"""Mux the upscaled frames with the source's other streams, chapters and metadata."""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srsdk.errors import OutputError
from srsdk.system import durable
from srsdk.system.paths import discard
from srsdk.video.encoding import Encoding, add_encoder
from srsdk.video.ffmpeg import import_av, open_input, reopen, translated, url
from srsdk.video.part_files import read_part
from srsdk.video.parts import Part
from srsdk.video.source import Source, video_stream
from srsdk.video.streams import subtitles
from srsdk.video.streams.packets import Muxer, time_of
from srsdk.video.streams.selection import HOLDS_EVERYTHING, Selection, select

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")


def check_container(
    target: Path, source: Source, encoding: Encoding, *, drop: bool = False
) -> Selection:
    """Decide which streams the target gets, and write its header as a trial, before any work.

    Raises:
        OutputError: an unknown suffix, or a stream that the format cannot hold, without `drop`.
    """
    temporary = temporary_name(target)
    try:
        with open_input(source.path) as original:
            selection = select(original, source.stream, target, drop=drop)
            output, _, _ = open_output(temporary, target, original, source, encoding, selection)
            close(output)
    finally:
        discard(temporary)
    return selection


def assemble(
    parts: Sequence[Part],
    target: Path,
    source: Source,
    encoding: Encoding,
    selection: Selection,
    *,
    before: Callable[[Path], None],
    whole: bool = True,
) -> None:
    """Write the parts' frames and the source's other streams, chapters and titles into one file.

    Nothing is encoded but text subtitles that change their format. The file is read back, and gets
    its name only if it holds all frames.

    Args:
        parts: finished parts, in order.
        target: file to write or replace.
        source: the video that the parts were made from.
        encoding: the settings that they were made with.
        selection: what becomes of the other streams.
        before: called with the complete file before it gets its name; may raise.
        whole: False: the parts are not the whole video; the other streams end with them.

    Raises:
        OutputError: the disk is full, or frames are missing in the file.
    """
    temporary = temporary_name(target)
    end_s = None if whole else _end_s(parts[-1].path, source)
    try:
        with open_input(source.path) as original, open_input(source.path) as texts:
            output, video, added = open_output(
                temporary, target, original, source, encoding, selection
            )
            with translated(f"{target} cannot be written", OutputError), _closed(output):
                ours = _upscaled([part.path for part in parts], source, video)
                theirs = _copied(original, selection, added, end_s)
                converted = _converted(texts, source, selection, added, end_s)
                merged = heapq.merge(ours, theirs, *converted, key=lambda item: item[:2])
                mux = Muxer(output, source)
                for _, _, packet in merged:
                    mux(packet)
                mux.finish()
        check_frames(temporary, target, sum(part.frames for part in parts))
        before(temporary)
        durable.rename(temporary, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error}") from error
    finally:
        discard(temporary)


@contextmanager
def _closed(output: OutputContainer) -> Iterator[None]:
    try:
        yield
    finally:
        close(output)


def check_frames(temporary: Path, target: Path, expected: int) -> None:
    """Read a complete file back, and count its frames.

    Raises:
        OutputError: some are missing.
    """
    with translated(f"{target} cannot be read back", OutputError), reopen(temporary) as written:
        stream = video_stream(written, target)
        found = sum(1 for packet in written.demux(stream) if packet.size)
    if found != expected:
        fix = HOLDS_EVERYTHING
        if target.suffix == ".mkv":
            fix = "damaged sound may be why: remove it with ffmpeg -i IN -an -c copy OUT.mkv"
        raise OutputError(f"{target} would hold {found} frames instead of {expected}; {fix}")


Timed = tuple[float, int, Any]
"""Seconds, stream, packet."""


def open_output(
    temporary: Path,
    target: Path,
    original: InputContainer,
    source: Source,
    encoding: Encoding,
    selection: Selection,
) -> tuple[OutputContainer, VideoStream, dict[int, Stream]]:
    """Open the file, add all streams in the order of the source and write the header.

    Returns:
        The file, the stream for the upscaled frames, and by index in the source the others.
    """
    av = import_av()
    added: dict[int, Stream] = {}
    hint = "" if target.suffix == ".mkv" else f"; {HOLDS_EVERYTHING}"
    with translated(f"{target} cannot hold this video{hint}", OutputError):
        output: OutputContainer = av.open(url(temporary), "w")
        with ExitStack() as opened:
            # otherwise Windows could not remove the file
            opened.callback(close, output)
            video = _add_streams(output, added, original, source, encoding, selection)
            output.start_encoding()
            opened.pop_all()
    return output, video, added


def _add_streams(
    output: OutputContainer,
    added: dict[int, Stream],
    original: InputContainer,
    source: Source,
    encoding: Encoding,
    selection: Selection,
) -> VideoStream:
    for stream in original.streams:
        if stream.index == source.stream:
            video = add_encoder(output, source, encoding)
            if source.rotation:
                video.set_display_rotation(source.rotation)
            new: Stream = video
        elif stream.index in selection.copied:
            new = added[stream.index] = output.add_stream_from_template(stream)
        elif encoder := selection.encoder(stream.index):
            new = added[stream.index] = subtitles.add(output, stream, encoder)
        else:
            continue
        new.metadata.update(stream.metadata)
        new.disposition = stream.disposition
    kept = {k: v for k, v in original.metadata.items() if k not in _CONTAINER_TAGS}
    output.metadata.update(kept)
    output.set_chapters(original.chapters())
    return video


def close(output: OutputContainer) -> None:
    """Close a file that is given up, or only a trial."""
    with suppress(Exception):  # an empty file has no trailer and needs none
        output.close()


def _upscaled(parts: Sequence[Path], source: Source, stream: VideoStream) -> Iterator[Timed]:
    """Read the parts' packets and give them monotonic decoding times (DTS).

    The encoder restarts in each part, so its own decoding times go back where frame durations vary.
    A frame must be decoded before it is shown, by up to `reorder` frames if B-frames reorder them.
    """
    reorder = max((_reorder(read_part(part, source)) for part in parts), default=0)
    shown: list[int] = []
    for part in parts:
        packets = read_part(part, source)
        shown = shown[-reorder:] if reorder else []
        before = len(shown)
        shown += sorted(packet.pts for packet in packets if packet.pts is not None)
        for index, packet in enumerate(packets):
            packet.dts = _decoding_time(shown, before + index - reorder)
            packet.stream = stream
            yield float(packet.dts * packet.time_base), stream.index, packet


def _reorder(packets: Sequence[Packet[Any]]) -> int:
    """Return the reorder depth: how many frames are at most decoded before one shown earlier."""
    order = sorted(range(len(packets)), key=lambda index: packets[index].pts or 0)
    return max((index - rank for rank, index in enumerate(order)), default=0)


def _decoding_time(shown: list[int], index: int) -> int:
    if index >= 0:
        return shown[index]
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    return shown[0] + index * step


def _copied(
    original: InputContainer, selection: Selection, added: dict[int, Stream], end_s: float | None
) -> Iterator[Timed]:
    if not selection.copied:
        return
    wanted = [original.streams[index] for index in selection.copied]
    for packet in original.demux(wanted):
        if (time_s := time_of(packet)) is None or (end_s is not None and time_s > end_s):
            continue
        packet.stream = added[packet.stream.index]
        yield time_s, packet.stream.index, packet


def _converted(
    original: InputContainer,
    source: Source,
    selection: Selection,
    added: dict[int, Stream],
    end_s: float | None,
) -> list[Iterator[Timed]]:
    """Return the converted packets of each stream; its own pass through the source finds them."""
    found: dict[int, list[Packet[Any]]] = {index: [] for index, _ in selection.converted}
    if not found:
        return []
    for packet in original.demux([original.streams[index] for index in found]):
        time_s = time_of(packet)
        if time_s is not None and (end_s is None or time_s <= end_s):
            found[packet.stream.index].append(packet)
    return [
        _timed(
            subtitles.Converter(original.streams[index], added[index], source.path).packets(packets)
        )
        for index, packets in found.items()
    ]


def _timed(packets: Iterator[Packet[Any]]) -> Iterator[Timed]:
    for packet in packets:
        yield time_of(packet) or 0.0, packet.stream.index, packet


def _end_s(part: Path, source: Source) -> float:
    ends = [(packet.pts or 0) + (packet.duration or 0) for packet in read_part(part, source)]
    return float(max(ends) * source.time_base)


def temporary_name(target: Path) -> Path:
    """Return the name that a file has until it is complete."""
    return target.with_name(f".{secrets.token_hex(8)}.tmp{target.suffix}")
