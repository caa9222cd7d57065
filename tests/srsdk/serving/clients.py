"""Clients for the servers: ASGI without a server, and pictures to send."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

Headers = Sequence[tuple[str, str]]
LOCAL = ("Host", "127.0.0.1:7860")
DISCONNECT = {"type": "http.disconnect"}


def scope_of(
    path: str = "/", headers: Headers = (LOCAL,), method: str = "POST", kind: str = "http"
) -> dict[str, Any]:
    """Return what an ASGI server passes for a request."""
    raw = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
    path, _, query = path.partition("?")
    return {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": query.encode("latin-1"),
        "headers": raw,
        "server": ("127.0.0.1", 7860),
    }


def form(*parts: tuple[str, bytes] | tuple[str, bytes, str]) -> tuple[bytes, tuple[str, str]]:
    """Return a form and its header; a part is (name, text), or (name, content, file name)."""
    body = b""
    for name, content, *files in parts:
        file = "".join(f'; filename="{each}"' for each in files)
        head = f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + b"--B--\r\n", ("Content-Type", "multipart/form-data; boundary=B")


class Connection:
    """The `receive` and `send` of one request.

    Args:
        chunks: parts of the body; None: the client disconnects.
        delay_s: time before each part.
        stays: whether the client waits for the answer.
    """

    def __init__(
        self, chunks: Iterable[bytes | None] = (b"",), *, delay_s: float = 0, stays: bool = True
    ) -> None:
        self._chunks, self._delay_s, self._stays = list(chunks), delay_s, stays
        self.received = 0
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        """Return the next part of the body, and then wait as a client does."""
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if not self._chunks:
            if self._stays:
                await asyncio.sleep(600)
            return DISCONNECT
        self.received += 1
        chunk = self._chunks.pop(0)
        if chunk is None:
            return DISCONNECT
        return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}

    async def send(self, message: Any) -> None:
        """Keep what the application sends."""
        self.sent.append(message)

    @property
    def status(self) -> int:
        """Status of the answer."""
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        """Body of the answer."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def error(self) -> str:
        """Sentence of the answer."""
        return str(json.loads(self.body)["error"])


def ask(app: Any, scope: dict[str, Any], connection: Connection | None = None) -> Connection:
    """Send one request to an ASGI application."""
    connection = connection or Connection()

    async def run() -> None:
        await app(scope, connection.receive, connection.send)

    asyncio.run(run())
    return connection


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def frames(count: int) -> bytes:
    """Return an animated GIF."""
    first, *rest = (Image.new("RGB", (20, 10), (index % 256, 9, 9)) for index in range(count))
    return encoded(first, "GIF", save_all=True, append_images=rest)


def bomb(height: int, width: int) -> bytes:
    """Return a PNG of a few bytes that claims a size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
