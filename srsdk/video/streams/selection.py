"""Decide what becomes of each stream that is not upscaled."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from srsdk.errors import OutputError
from srsdk.system.text import plain
from srsdk.video.ffmpeg import import_av
from srsdk.video.streams import subtitles

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

log = logging.getLogger("srsdk")

COPIED = ("audio", "subtitle", "attachment")
"""Kinds of streams to keep, beside cover pictures; others (time codes, sensor data) describe the
source file and are meaningless in another."""
HOLDS_EVERYTHING = "use .mkv, which holds everything"
_LONGEST_NAME = 80
"""Characters; names and languages come from the file."""


@dataclass(frozen=True)
class Selection:
    """What becomes of the streams that are not upscaled, by index in the source."""

    copied: tuple[int, ...]
    converted: tuple[tuple[int, str], ...]
    """Text subtitles, each with the FFmpeg encoder of the format that the target holds."""

    def encoder(self, index: int) -> str | None:
        """Return the encoder of a converted stream; None: not converted."""
        return dict(self.converted).get(index)


def select(original: InputContainer, video: int, target: Path, *, drop: bool) -> Selection:
    """Decide by trial: a header with that stream alone is written into memory.

    Args:
        original: the source, open.
        video: index of the stream to upscale.
        target: its suffix names the format.
        drop: leave out what the format cannot hold, with a warning that names it.

    Raises:
        OutputError: an unknown suffix, or without `drop` streams that the format cannot hold.
    """
    form = _format(target)
    copied, converted, refused = [], [], []
    for stream in original.streams:
        if stream.index == video or not (stream.type in COPIED or is_cover(stream)):
            continue
        if _can_copy(stream, form, target):
            copied.append(stream.index)
        elif encoder := _encoder(stream, form, target):
            converted.append((stream.index, encoder))
        else:
            refused.append(_name(stream))
    if refused and not drop:
        raise OutputError(
            f"{target} cannot hold {', '.join(refused)}; drop=True leaves "
            f"{'it' if len(refused) == 1 else 'them'} out, or {HOLDS_EVERYTHING}"
        )
    _report(original, target, converted, refused)
    return Selection(tuple(copied), tuple(converted))


def is_cover(stream: Stream) -> bool:
    """Return whether a video stream is a cover picture."""
    return bool(stream.disposition & import_av().stream.Disposition.attached_pic)


def _report(
    original: InputContainer, target: Path, converted: list[tuple[int, str]], refused: list[str]
) -> None:
    """Log once what changes and what is missing in the target."""
    for index, encoder in converted:
        stream = original.streams[index]
        if stream.codec_context.name in subtitles.STYLED:
            log.warning(
                "%s becomes %s in %s: positions and fonts are lost", _name(stream), encoder, target
            )
        else:
            log.info("%s becomes %s in %s", _name(stream), encoder, target)
    # MP4 keeps its chapters in a text stream
    is_data = [s for s in original.streams if s.type == "data" and not _is_chapters(s, original)]
    if missing := [*refused, *map(_name, is_data)]:
        log.warning("%s is made without %s", target, ", ".join(missing))


def _is_chapters(stream: Stream, original: InputContainer) -> bool:
    return getattr(stream, "name", None) == "bin_data" and bool(original.chapters())


def _format(target: Path) -> str:
    """Return FFmpeg's name of the format that the suffix stands for."""
    av = import_av()
    try:
        with av.open(_Named(target.name), "w") as output:
            is_file = not output.format.flags & av.format.Flags.no_file.value
            name: str = output.format.name
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(
            f"{target}: {target.suffix} is no video format that FFmpeg writes; {HOLDS_EVERYTHING}"
        ) from error
    if not is_file:
        raise OutputError(f"{target}: {name} is no format of a single file; {HOLDS_EVERYTHING}")
    return name


class _Named(io.BytesIO):
    """A file in memory whose name tells FFmpeg the format."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _can_copy(stream: Stream, form: str, target: Path) -> bool:
    # MPEG-TS takes any codec, as private data that no player reads
    if form == "mpegts" and subtitles.is_text(stream):
        return False

    def add(output: OutputContainer) -> None:
        output.add_stream_from_template(stream)

    return _works(target, add)


def _encoder(stream: Stream, form: str, target: Path) -> str | None:
    """Return the encoder for text subtitles of the first kind that the format holds."""
    if form == "mpegts" or not subtitles.is_text(stream):
        return None
    for encoder in subtitles.ENCODERS:

        def add(output: OutputContainer, encoder: str = encoder) -> None:
            subtitles.add(output, stream, encoder)

        if _works(target, add):
            return encoder
    return None


def _works(target: Path, add: Callable[[OutputContainer], None]) -> bool:
    """Return whether the format takes what `add` adds."""
    av = import_av()
    try:
        with av.open(_Named(target.name), "w") as output:
            add(output)
            output.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _name(stream: Stream) -> str:
    """Return how messages call a stream: `stream 3 (subtitle hdmv_pgs_subtitle, eng)`."""
    # a stream without a decoder has no name
    facts = [f"{stream.type} {getattr(stream, 'name', None) or 'of unknown codec'}"]
    if (language := stream.metadata.get("language", "und")) != "und":
        facts.append(language)
    return f"stream {stream.index} ({plain(', '.join(facts))[:_LONGEST_NAME]})"
