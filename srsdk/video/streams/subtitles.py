"""Convert text subtitles between the formats of containers; times and text stay the same.

FFmpeg's decoders turn each kind into ASS events, from which its encoders make another kind: the
styles that both kinds know (bold, italic, underline, color) are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any

from srsdk.video.ffmpeg import import_av

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream

log = logging.getLogger("srsdk")

ENCODERS = ("subrip", "mov_text", "webvtt")
"""FFmpeg encoders of text subtitles, in the order in which they are tried."""
STYLED = ("ass", "ssa")
"""Kinds whose positions and fonts the encoders' kinds do not have."""
TICK = Fraction(1, 1000)
"""Seconds per tick of converted subtitles: every kind counts milliseconds or finer."""
UNKNOWN_MS = 3000
"""Duration of a text if neither it nor the following one ends it."""
MOST_LINES = 8
"""Texts that are shown at once where a format shows one: the latest."""
_TEXT_FIELD = 8
"""Commas before the text of an ASS event."""


@dataclass(frozen=True)
class Cue:
    """One text that is shown for a time."""

    start_ms: int
    end_ms: int
    event: bytes
    """ASS event, as FFmpeg's decoders give it."""


def is_text(stream: Stream) -> bool:
    """Return whether a stream holds subtitles as text, with a decoder for them."""
    codec = getattr(stream.codec_context, "codec", None)
    return stream.type == "subtitle" and codec is not None and bool(codec.text_sub)


def add(output: OutputContainer, stream: Stream, encoder: str) -> Stream:
    """Add a stream to the target whose open encoder makes another kind of `stream`."""
    added: Any = output.add_stream(encoder)
    decoding: Any = stream.codec_context
    decoding.open(strict=False)  # it makes the header, with the styles
    context = added.codec_context
    context.subtitle_header = decoding.subtitle_header
    context.time_base = added.time_base = TICK
    context.open()
    return added  # type: ignore[no-any-return]


class Converter:
    """Converts the packets of one stream.

    Args:
        stream: of the source.
        added: of the target, made by `add`.
        path: the source, for the warning.
    """

    def __init__(self, stream: Stream, added: Stream, path: object) -> None:
        self._stream: Any = stream
        self._added: Any = added
        self._path, self._warned = path, False

    def packets(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """Yield converted packets, in the order of their times."""
        cues = self._with_ends(cue for packet in packets for cue in self.cues(packet))
        if self._added.codec_context.name == "mov_text":
            cues = one_at_a_time(cues)
        for cue in cues:
            yield from self.encoded(cue)

    def cues(self, packet: Packet[Any]) -> list[Cue]:
        """Decode a packet; a text without a duration ends when it begins.

        Damaged packets are skipped, with one warning.
        """
        if not packet.size or packet.pts is None:
            return []
        with suppress(*self._damage()):
            decoded = self._stream.codec_context.decode2(packet)
            ms = packet.time_base / TICK
            start_ms = round(packet.pts * ms)
            length_ms = round((packet.duration or 0) * ms)
            events = [rect.ass for rect in decoded or () if rect.type == b"ass"]
            return [Cue(start_ms, start_ms + length_ms, event) for event in events if event]
        self._warn()
        return []

    def encoded(self, cue: Cue) -> list[Packet[Any]]:
        """Encode a text; one that the encoder refuses is skipped, with one warning."""
        av = import_av()
        length_ms = cue.end_ms - cue.start_ms or UNKNOWN_MS
        made = av.subtitles.subtitle.SubtitleSet.create(cue.event, 0, length_ms)
        with suppress(*self._damage()):
            packet = self._added.codec_context.encode_subtitle(made)
            packet.pts = packet.dts = cue.start_ms
            packet.duration, packet.time_base, packet.stream = length_ms, TICK, self._added
            return [packet]
        self._warn()
        return []

    def _with_ends(self, cues: Iterable[Cue]) -> list[Cue]:
        """Sort by time, and give an end to those that have none: the next one's start."""
        ordered = sorted(cues, key=lambda cue: cue.start_ms)
        ended = []
        for cue, following in zip_longest(ordered, ordered[1:]):
            end_ms = cue.end_ms
            if end_ms <= cue.start_ms:
                end_ms = following.start_ms if following else cue.start_ms + UNKNOWN_MS
            ended.append(replace(cue, end_ms=end_ms))
        return [cue for cue in ended if cue.end_ms > cue.start_ms]

    def _damage(self) -> tuple[type[Exception], ...]:
        return import_av().error.FFmpegError, ValueError, ArithmeticError

    def _warn(self) -> None:
        if not self._warned:
            log.warning("%s has damaged subtitles, which are skipped", self._path)
        self._warned = True


def one_at_a_time(cues: list[Cue]) -> list[Cue]:
    """Join texts that are shown at the same time, for formats that show one text after another."""
    joined: list[Cue] = []
    shown: list[Cue] = []
    moments = sorted({moment for cue in cues for moment in (cue.start_ms, cue.end_ms)})
    waiting = cues[::-1]
    for start_ms, end_ms in pairwise(moments):
        shown = [cue for cue in shown if cue.end_ms > start_ms]
        while waiting and waiting[-1].start_ms <= start_ms:
            shown.append(waiting.pop())
        shown = shown[-MOST_LINES:]
        if shown:
            joined.append(Cue(start_ms, end_ms, _join([cue.event for cue in shown])))
    return joined


def _join(events: list[bytes]) -> bytes:
    """Return one event with the texts of all, each on its own line and in its own style."""
    *_, first = events[0].split(b",", _TEXT_FIELD)
    head = events[0][: len(events[0]) - len(first)]
    texts = [event.split(b",", _TEXT_FIELD)[-1] for event in events]
    return head + b"{\\r}\\N".join(texts)
