"""Write packets into a file, whatever a damaged source puts into them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from srsdk.video.ffmpeg import import_av
from srsdk.video.source import Source

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

log = logging.getLogger("srsdk")


class Muxer:
    """Writes packets; skips damaged ones with a single warning.

    FFmpeg queues packets: an error may be about one given before, of any stream. That none of the
    upscaled frames is missing is checked in the finished file.
    """

    def __init__(self, output: OutputContainer, source: Source) -> None:
        self._output, self._path = output, source.path
        self._warned = False

    def __call__(self, packet: Packet[Any]) -> None:
        """Write a packet; its stream is one of the file."""
        with self._damage_is_warned_of():
            self._output.mux(packet)

    def finish(self) -> None:
        """Write what is queued, and the end of the file."""
        with self._damage_is_warned_of():
            self._output.close()

    @contextmanager
    def _damage_is_warned_of(self) -> Iterator[None]:
        av = import_av()
        try:
            yield
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if not self._warned:
                log.warning(
                    "%s is damaged in places; damaged sound or subtitles are skipped: %s",
                    self._path, error.strerror,
                )  # fmt: skip
            self._warned = True


def time_of(packet: Packet[Any]) -> float | None:
    """Return the time of a packet in seconds; None: it holds nothing, or has no time."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if not packet.size or stamp is None else float(stamp * packet.time_base)
