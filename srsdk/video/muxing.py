"""Mux the upscaled frames with the source's other streams, chapters and metadata."""

from __future__ import annotations

import heapq
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
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

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

log = logging.getLogger("srsdk")

COPIED = ("audio", "subtitle", "attachment")
"""Kinds of streams to copy; others (time codes, menus) are meaningless in another file."""
_CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")


def check_container(target: Path, source: Source, encoding: Encoding) -> None:
    """Reject a target whose format cannot hold the streams, before any work.

    Raises:
        OutputError: an unknown suffix, or a stream that the format cannot hold.
    """
    temporary = _temporary(target)
    try:
        with open_input(source.path) as original:
            output, _, _ = _open_output(temporary, target, original, source, encoding)
            _close(output)
    finally:
        discard(temporary)


def assemble(
    parts: Sequence[Part],
    target: Path,
    source: Source,
    encoding: Encoding,
    *,
    before: Callable[[Path], None],
    whole: bool = True,
) -> None:
    """Write the parts' frames and the source's other streams, chapters and titles into one file.

    Nothing is re-encoded. The file is read back, and gets its name only if it holds all frames.

    Args:
        parts: finished parts, in order.
        target: file to write or replace.
        source: the video that the parts were made from.
        encoding: the settings that they were made with.
        before: called with the complete file before it gets its name; may raise.
        whole: False: the parts are not the whole video; the other streams end with them.

    Raises:
        OutputError: the disk is full, or frames are missing in the file.
    """
    temporary = _temporary(target)
    end_s = None if whole else _end_s(parts[-1].path, source)
    try:
        with open_input(source.path) as original:
            output, video, copies = _open_output(temporary, target, original, source, encoding)
            with translated(f"{target} cannot be written", OutputError), output:
                ours = _upscaled([part.path for part in parts], source, video)
                theirs = _copied(original, copies, end_s)
                merged = heapq.merge(ours, theirs, key=lambda item: item[:2])
                _mux(output, (packet for _, _, packet in merged), source)
        _check_frames(temporary, target, sum(part.frames for part in parts))
        before(temporary)
        durable.rename(temporary, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error}") from error
    finally:
        discard(temporary)


def _mux(output: OutputContainer, packets: Iterator[Any], source: Source) -> None:
    """Write all packets; skip damaged ones with a single warning.

    FFmpeg queues packets: an error may be about one given before, of any stream. That none of the
    upscaled frames is missing is checked in the finished file.
    """
    av = import_av()
    warned = False
    for packet in packets:
        try:
            output.mux(packet)
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if not warned:
                log.warning(
                    "%s is damaged in places; damaged sound or subtitles are skipped: %s",
                    source.path, error.strerror,
                )  # fmt: skip
            warned = True


def _check_frames(temporary: Path, target: Path, expected: int) -> None:
    with translated(f"{target} cannot be read back", OutputError), reopen(temporary) as written:
        stream = video_stream(written, target)
        found = sum(1 for packet in written.demux(stream) if packet.size)
    if found != expected:
        raise OutputError(
            f"{target} would hold {found} frames instead of {expected}; use .mkv, which holds "
            "everything"
        )


Timed = tuple[float, int, Any]
"""Seconds, stream, packet."""


def _open_output(
    temporary: Path, target: Path, original: InputContainer, source: Source, encoding: Encoding
) -> tuple[OutputContainer, VideoStream, dict[int, Stream]]:
    """Open the file, add all streams in the order of the source and write the header.

    Returns:
        The file, the stream for the upscaled frames, and by index in the source the others.
    """
    av = import_av()
    copies: dict[int, Stream] = {}
    hint = "" if target.suffix == ".mkv" else "; use .mkv, which holds everything"
    with translated(f"{target} cannot hold this video{hint}", OutputError):
        output: OutputContainer = av.open(url(temporary), "w")
        with ExitStack() as opened:
            # otherwise Windows could not remove the file
            opened.callback(_close, output)
            if output.format.flags & av.format.Flags.no_file.value:
                raise ValueError(f"{output.format.name} is no format of a single file")
            video = _add_streams(output, copies, original, source, encoding)
            output.start_encoding()
            opened.pop_all()
    return output, video, copies


def _add_streams(
    output: OutputContainer,
    copies: dict[int, Stream],
    original: InputContainer,
    source: Source,
    encoding: Encoding,
) -> VideoStream:
    for stream in original.streams:
        if stream.index == source.stream:
            video = add_encoder(output, source, encoding)
            if source.rotation:
                video.set_display_rotation(source.rotation)
            added: Stream = video
        elif stream.type in COPIED or _is_cover(stream):
            added = copies[stream.index] = output.add_stream_from_template(stream)
        else:
            continue
        added.metadata.update(stream.metadata)
        added.disposition = stream.disposition
    kept = {k: v for k, v in original.metadata.items() if k not in _CONTAINER_TAGS}
    output.metadata.update(kept)
    output.set_chapters(original.chapters())
    return video


def _close(output: OutputContainer) -> None:
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
    original: InputContainer, copies: dict[int, Stream], end_s: float | None
) -> Iterator[Timed]:
    if not copies:
        return
    wanted = [original.streams[index] for index in copies]
    for packet in original.demux(wanted):
        if not packet.size or (packet.dts is None and packet.pts is None):
            continue
        stamp = packet.dts if packet.dts is not None else packet.pts
        time_s = float((stamp or 0) * packet.time_base)
        if end_s is not None and time_s > end_s:
            continue
        packet.stream = copies[packet.stream.index]
        yield time_s, packet.stream.index, packet


def _end_s(part: Path, source: Source) -> float:
    ends = [(packet.pts or 0) + (packet.duration or 0) for packet in read_part(part, source)]
    return float(max(ends) * source.time_base)


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & import_av().stream.Disposition.attached_pic)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{secrets.token_hex(8)}.tmp{target.suffix}")
