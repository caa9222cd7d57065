"""What the demo page may receive, keep and hand out: pictures in one folder, and no more."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from srsdk.serving.asgi import (
    App,
    Disconnected,
    Message,
    Receive,
    Refused,
    Scope,
    Send,
    refusal,
    send_answer,
)
from srsdk.serving.bodies import MAX_BYTES, Incoming

FORM_BYTES = 16 * 1024
"""What a form adds to a file: its boundaries and headers."""
JSON_BYTES = 1024 * 1024
MAX_UPLOADS = 4
"""Received at a time; more are refused."""
DISK_BYTES = 1024 * 1024 * 1024
"""For uploads and results, besides those in work."""
API = "/gradio_api"
POSTS = tuple(f"{API}/{name}" for name in ("upload", "queue/join", "cancel", "reset"))
"""All that the page posts. Gradio has more routes, which write files or fetch addresses."""
BLOCK_BYTES = 4096


class Folder:
    """A folder whose oldest files are deleted to keep it below a size.

    Args:
        path: the folder; nothing but uploads and results may be in it.
        max_bytes: size of all files after `make_room`.
    """

    def __init__(self, path: Path, max_bytes: int = DISK_BYTES) -> None:
        # resolved: a temporary directory may be a link, as on macOS
        self.path, self._max_bytes = path.resolve(), max_bytes

    def holds(self, name: str) -> bool:
        """Whether a path, links followed, is of a file in this folder."""
        with suppress(OSError, ValueError):
            path = Path(name).resolve()
            return path.is_relative_to(self.path) and path.is_file()
        return False

    def make_room(self) -> None:
        """Delete the oldest files until the others are within the limit."""
        files = sorted(self._files(), key=lambda file: file[0])
        used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if used <= self._max_bytes:
                break
            used -= size
            self._delete(path)

    def delete_loose(self) -> None:
        """Delete what interrupted uploads left: complete ones lie in folders of their own."""
        for path in self.path.iterdir():
            if path.is_file():
                self._delete(path)

    def _delete(self, path: Path) -> None:
        # on Windows a file that is being read cannot be deleted; it is tried again next time
        with suppress(OSError):
            path.unlink()
            if path.parent != self.path:
                path.parent.rmdir()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        # others delete, too: `os.walk` passes over a folder that has gone, `rglob` raises
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):
                    found = path.lstat()
                    yield found.st_mtime, max(found.st_size, BLOCK_BYTES), path


class Uploads:
    """ASGI middleware around Gradio: limits what is sent, and which files are read.

    Args:
        app: Gradio.
        folder: where it keeps uploads and results.
    """

    def __init__(self, app: App, folder: Folder) -> None:
        self._app, self._folder = app, folder
        self._ongoing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            started = _Started(send)
            try:
                await self._serve(scope, receive, started)
            except Refused as refused:
                if started.status is None:
                    await send_answer(send, refused.answer)
            except Disconnected:
                pass

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            self._check_read(scope["path"])
            await self._app(scope, receive, send)
        elif path not in POSTS:
            raise Refused(refusal(403, f"nothing is posted to {path[:200]}", connection="close"))
        elif path == POSTS[0]:
            with self._uploading():
                await self._app(scope, Incoming(scope, receive, MAX_BYTES + FORM_BYTES), send)
        else:
            incoming = Incoming(scope, receive, JSON_BYTES)
            body = await incoming.read()
            self._check_paths(body)
            await self._app(scope, _replay(body, incoming), send)

    def _check_read(self, path: str) -> None:
        """Refuse files of others, and addresses that Gradio would fetch."""
        found = re.search(r"/file[=/](.*)", path, re.DOTALL)
        names = {found[1], unquote(found[1])} if found else set()
        # a server decodes the path once; Gradio might do so again
        if "/proxy=" in path or not all(map(self._folder.holds, names)):
            raise Refused(refusal(403, "only uploads and results are served"))

    def _check_paths(self, body: bytes) -> None:
        """Refuse work on files that were not uploaded, and on addresses."""
        try:
            paths = list(_paths(json.loads(body or b"null")))
        except (ValueError, RecursionError):
            raise Refused(refusal(400, "the body is no JSON", connection="close")) from None
        if not all(isinstance(path, str) and self._folder.holds(path) for path in paths):
            raise Refused(refusal(403, "only pictures that were uploaded are upscaled"))

    @contextmanager
    def _uploading(self) -> Iterator[None]:
        if self._ongoing >= MAX_UPLOADS:
            sentence = f"{MAX_UPLOADS} uploads are in work; try again later"
            raise Refused(refusal(503, sentence, retry_after="1", connection="close"))
        self._folder.make_room()
        self._ongoing += 1
        try:
            yield
        finally:
            self._ongoing -= 1
            if not self._ongoing:
                self._folder.delete_loose()


class _Started:
    """A `send` that knows whether the answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def _paths(value: Any) -> Iterator[Any]:
    """Yield what stands under `path` in a JSON value: the files that Gradio will read."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "path":
                yield inner
            else:
                yield from _paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner)
