"""uvicorn's HTTP protocol with limits on what it waits for without end: headers and readers."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 15.0
"""Longest time from a connection, or the end of an answer, to the end of the next headers."""
SEND_S, SEND_BYTES = 30.0, 4 << 20
"""How much of an answer a client must read in which time, once it fills the buffers: 1.1 Mbit/s."""


class Protocol(H11Protocol):
    """One connection. Bodies have a limit of their own, in `bodies`."""

    _head: asyncio.TimerHandle | None = None
    _tail: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Handle what arrived."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        """Begin to wait for the next headers."""
        super().on_response_complete()
        self._watch_head()

    def _watch_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _stop(self._head)
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD_S, self.transport.close)

    def pause_writing(self) -> None:
        """Begin to wait for a client that reads slowly or not at all."""
        super().pause_writing()
        self._watch_tail()

    def _watch_tail(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._tail = self.loop.call_later(SEND_S, self._check_tail, left)

    def _check_tail(self, left: int) -> None:
        if left - self.transport.get_write_buffer_size() >= SEND_BYTES:
            self._watch_tail()
        else:
            # `close` would keep the answer in memory until the client has read it
            self.transport.abort()

    def resume_writing(self) -> None:
        """Stop waiting: the client has read nearly all."""
        super().resume_writing()
        self._tail = _stop(self._tail)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._head, self._tail = _stop(self._head), _stop(self._tail)
        super().connection_lost(exc)


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
