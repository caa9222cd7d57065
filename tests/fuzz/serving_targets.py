"""Fuzz target for HTTP requests: the services' own code, without a server in front of it."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from types import SimpleNamespace
from typing import Any

from PIL import Image

from srsdk.image.streams import source_of, target_of
from srsdk.scheduling.context import Call
from srsdk.serving.answers import Work
from srsdk.serving.app import application
from srsdk.serving.asgi import Answer, Message, Receive, Scope, Send, send_answer
from srsdk.serving.guard import LOOPBACK, Guard, Rules
from srsdk.serving.http.metrics import Metrics
from srsdk.serving.uploads import Folder, Uploads
from srsdk.upscaling import files
from tests.fuzz.picture_targets import LIMITS, MAX_PIXELS
from tests.fuzz.workplace import FOLDER, NEAREST, check_message

STATUSES = (200, 304, 307, 400, 403, 404, 405, 408, 413, 415, 421, 422, 499, 500, 503, 504)
KEPT = FOLDER / "uploads"


def request(data: bytes) -> None:
    """Send a request to the service and to the demo page: each answers once and raises nothing."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    for app in (SERVICE, DEMO):
        sent = LOOP.run_until_complete(_answers(app, data))
        types = [message["type"] for message in sent]
        assert types[:1] == _TYPES[: len(types[:1])], sent
        assert set(types[1:]) <= {_TYPES[1]}, sent
        if sent:
            _check(sent[0], b"".join(message.get("body", b"") for message in sent[1:]), data)


def _check(start: Message, body: bytes, data: bytes) -> None:
    assert start["status"] in STATUSES
    headers = dict(start["headers"])
    # a page's file may be asked for without its content
    if not data.startswith(b"HEAD ") and start["status"] != 304:
        assert int(headers[b"content-length"]) == len(body)
    if headers.get(b"content-type") == b"application/json" and start["status"] != 200:
        check_message(json.loads(body)["error"])


async def _answers(app: Any, data: bytes) -> list[Message]:
    scope, body = _parsed(data)
    parts = [body[:100], body[100:]]
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": not index}
        for index, part in enumerate(parts)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def _parsed(data: bytes) -> tuple[Scope, bytes]:
    """Split a request as an HTTP server does, which lets no line break into a header."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, _, path = first.partition(b" ")
    path, _, query = path.partition(b"?")
    pairs = (line.partition(b":") for line in lines if line)
    scope = {
        "type": "http",
        "method": method.decode("latin-1"),
        "path": "/" + urllib.parse.unquote(path.decode("latin-1")).lstrip("/"),
        "query_string": query,
        "headers": [(name.lower(), value.strip()) for name, _, value in pairs],
        "server": ("127.0.0.1", 7860),
    }
    return scope, body


class _Nearest:
    """Stands in for an Upscaler."""

    manifest = SimpleNamespace(name="nearest", to_dict=dict)
    backend = device = "none"
    scale, ahead, budget = 2, 1, LIMITS

    def __call__(self, picture: Any, timeout: float) -> Any:
        return files.upscale_any((NEAREST,), picture, None, Call(budget=LIMITS))

    def upscale_file(
        self, source: bytes, target: Any, *, options: Any, progress: Any, timeout: float
    ) -> None:
        call, place = Call(progress, timeout, LIMITS), target_of(target, options.format)
        files.upscale_file((NEAREST,), source_of(source), place, options=options, call=call)


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand in for Gradio, which reads the body."""
    more = scope["method"] == "POST"
    while more:
        more = (await receive()).get("more_body", False)
    await send_answer(send, Answer(200, b"{}"))


async def _here(work: Work) -> Answer:
    return PICTURES.answer(work)


KEPT.mkdir()
LOOP = asyncio.new_event_loop()
SERVICE = application(_Nearest(), metrics=Metrics(), submit=_here)
PICTURES = SERVICE.service._pictures
DEMO = Guard(Uploads(_page, Folder(KEPT)), Rules(hosts=LOOPBACK, same_port=True))
_TYPES = ["http.response.start", "http.response.body"]
