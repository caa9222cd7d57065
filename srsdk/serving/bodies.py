"""Receive request bodies within limits on size and time."""

from __future__ import annotations

import asyncio
import time

from srsdk.serving.asgi import Disconnected, Message, Receive, Refused, Scope, refusal, values

MAX_BYTES = 64 * 1024 * 1024
"""Largest picture file that is accepted."""
RECEIVE_S = 60.0
"""Longest time for receiving one request body."""


class Incoming:
    """The `receive` of one request, which ends it where its body breaks a limit.

    Args:
        scope: the request.
        receive: as the server passed it.
        max_bytes: size of the whole body.
        seconds: time for the whole body, from now.

    Raises:
        Refused: the declared size is above the limit, or no size.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        max_bytes: int = MAX_BYTES,
        seconds: float = RECEIVE_S,
    ) -> None:
        self._receive, self._max_bytes, self._seconds = receive, max_bytes, seconds
        self._until_s = time.monotonic() + seconds
        self._size = 0
        self.complete = False
        """Whether the whole body was received."""
        for length in values(scope, b"content-length"):
            if not (length.isascii() and length.isdigit()):
                raise Refused(refusal(400, "Content-Length is no number", connection="close"))
            # compared by length first: the conversion of a long number takes quadratic time
            digits = length.lstrip("0")
            if len(digits) > len(str(max_bytes)) or int(digits or 0) > max_bytes:
                raise self._too_large()

    async def __call__(self) -> Message:
        """Return the next message.

        Raises:
            Refused: too large, or too slow.
            Disconnected: the client has gone before the body was complete.
        """
        if self.complete:
            return await self._receive()
        try:
            left_s = max(0.0, self._until_s - time.monotonic())
            message = await asyncio.wait_for(self._receive(), left_s)
        except TimeoutError:
            sentence = f"the body did not arrive within {self._seconds:g} s"
            raise Refused(refusal(408, sentence, connection="close")) from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        self._size += len(message.get("body", b""))
        if self._size > self._max_bytes:
            raise self._too_large()
        self.complete = not message.get("more_body", False)
        return message

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            Refused, Disconnected: as for a call.
        """
        parts: list[bytes] = []
        while not self.complete:
            parts.append((await self()).get("body", b""))
        return b"".join(parts)

    def _too_large(self) -> Refused:
        sentence = f"the body exceeds {self._max_bytes:,} bytes"
        return Refused(refusal(413, sentence, connection="close"))
