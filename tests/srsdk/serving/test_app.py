"""The service of one process: answers, limits, and nothing left behind."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import srsdk
from srsdk.serving import app as application
from srsdk.serving.answers import SUFFIXES, Pictures, kind_of
from srsdk.serving.app import MAX_ONGOING, Service, make_app
from srsdk.serving.bodies import MAX_BYTES, Incoming
from tests.conftest import make_picture
from tests.srsdk.serving.clients import (
    LOCAL,
    Connection,
    Headers,
    ask,
    bomb,
    encoded,
    frames,
    scope_of,
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Open one service."""
    app = make_app("gan_x2")
    yield app
    app.close()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that temporary folders are made in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def small() -> bytes:
    """Return a picture file."""
    return encoded(Image.fromarray(make_picture(20, 24)))


def test_the_picture(service: Service, scratch: Path) -> None:
    """The result equals the Upscaler's; no file is left."""
    answer = ask(service, scope_of(), Connection([small()[:100], small()[100:]]))
    assert answer.status == 200
    with srsdk.Upscaler("gan_x2") as up, Image.open(io.BytesIO(answer.sent[1]["body"])) as image:
        np.testing.assert_array_equal(np.asarray(image), up(make_picture(20, 24)))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "accept", "status", "sentence"),
    [
        (b"", "", 422, "picture is not a picture"),
        (b"GET / HTTP/1.1", "", 422, "picture is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "", 422, "not a picture"),
        (bomb(30_000, 30_000), "", 422, "too large"),
        (bomb(8_000, 8_000), "", 422, "64,000,000 pixels"),
        (bomb(500, 500), "", 422, "damaged"),
        (frames(3), "image/jpeg", 422, "3 frames"),
        (frames(1500), "", 422, "1,500 frames"),
        (encoded(Image.new("L", (9000, 2))), "image/webp", 422, "at most 16383"),
        # Pillow's decoder of JPEG 2000 stops all threads, those of other clients too
        (encoded(Image.new("RGB", (9, 9)), "JPEG2000"), "", 422, "not of these formats: PNG"),
    ],
)
def test_bad_pictures(
    service: Service, scratch: Path, body: bytes, accept: str, status: int, sentence: str
) -> None:
    """Each is answered with one sentence, without a path of the server, and without a file left."""
    answer = ask(service, scope_of(headers=[LOCAL, ("Accept", accept)]), Connection([body]))
    assert answer.status == status
    assert sentence in answer.error
    assert str(scratch) not in answer.error
    assert list(scratch.iterdir()) == []


def test_forms_are_refused(service: Service) -> None:
    """With the command that sends the file itself."""
    form = ("Content-Type", "Multipart/Form-Data; boundary=x")
    answer = ask(service, scope_of(headers=[LOCAL, form]), Connection([b"--x"]))
    assert answer.status == 415
    assert "--data-binary" in answer.error


def test_other_requests(service: Service) -> None:
    """/healthz, /info, and what is no POST."""
    health = ask(service, scope_of("/healthz", method="GET"))
    assert (health.status, json.loads(health.sent[1]["body"])["model"]) == (200, "gan_x2")
    info = ask(service, scope_of("/info", method="GET"))
    assert json.loads(info.sent[1]["body"])["scale"] == 2
    other = ask(service, scope_of(method="DELETE"))
    assert other.status == 405
    assert (b"allow", b"POST") in other.sent[0]["headers"]
    socket_ = ask(service, scope_of(kind="websocket"))
    assert socket_.sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", ["/", "/healthz", "/info"])
def test_pages_of_others_are_refused(service: Service, path: str) -> None:
    """Before the body is read."""
    connection = Connection([small()])
    foreign = [LOCAL, ("Origin", "http://evil.example")]
    assert ask(service, scope_of(path, foreign), connection).status == 403
    assert connection.received == 0


@pytest.mark.parametrize("length", [str(MAX_BYTES + 1), "9" * 30])
def test_a_large_body_is_refused_before_reading(service: Service, length: str) -> None:
    """As its Content-Length says."""
    connection = Connection([b"x"])
    headers = [LOCAL, ("Content-Length", length)]
    assert ask(service, scope_of(headers=headers), connection).status == 413
    assert connection.received == 0


def test_chunks_end_at_the_limit(service: Service) -> None:
    """Not a byte more is kept; the same bytes within it are read to the end."""
    part = bytes(MAX_BYTES // 4)
    assert ask(service, scope_of(), Connection([part] * 4)).status == 422
    connection = Connection([part] * 4 + [b"x"] + [part] * 4)
    assert ask(service, scope_of(), connection).status == 413
    assert connection.received == 5


def test_a_client_that_goes(scratch: Path) -> None:
    """While it sends or waits: the work stops early, and its folder is removed."""
    body = encoded(Image.fromarray(make_picture(360, 360)))
    app = make_app("gan_x4", tile=32, threads=1)
    try:
        assert ask(app, scope_of(), Connection([body[:50], None])).status == 499
        began_s = time.monotonic()
        assert ask(app, scope_of(), Connection([body], stays=False)).status == 499
        assert list(scratch.iterdir()) == []
        left_s = time.monotonic() - began_s
        began_s = time.monotonic()
        assert ask(app, scope_of(), Connection([body])).status == 200
        assert left_s < (time.monotonic() - began_s) / 2
    finally:
        app.close()


def test_a_cancelled_request(scratch: Path) -> None:
    """As Ray Serve and timeouts of servers cancel it: the folder is gone after a few tiles."""
    app = make_app("gan_x4", tile=32, threads=1)
    body = encoded(Image.fromarray(make_picture(360, 360)))

    async def run() -> None:
        connection = Connection([body])
        task = asyncio.create_task(app.respond(scope_of(), connection.receive))
        while not list(scratch.iterdir()) and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    try:
        asyncio.run(run())
    finally:
        app.close()
    assert list(scratch.iterdir()) == []


def test_a_deadline(scratch: Path) -> None:
    """A picture that takes too long ends with 504, and its folder is removed."""
    budget = srsdk.Budget(seconds=60)
    app = make_app("gan_x4", tile=32, threads=1, budget=budget)
    budget.seconds = 0.3  # from now on: opening takes its time on a busy machine
    try:
        body = encoded(Image.fromarray(make_picture(700, 700)))
        answer = ask(app, scope_of(), Connection([body]))
        assert answer.status == 504
        assert "0.3 s" in answer.error
    finally:
        app.close()
    assert list(scratch.iterdir()) == []


def test_many_at_a_time(service: Service) -> None:
    """Beyond the limit they are refused at once; a slow sender does not stop the others."""

    async def run() -> tuple[int, int, list[int]]:
        slow = [Connection([b"x", b"x"], delay_s=0.4) for _ in range(MAX_ONGOING - 1)]
        tasks = [asyncio.create_task(service.respond(scope_of(), each.receive)) for each in slow]
        await asyncio.sleep(0.05)
        good = await service.respond(scope_of(), Connection([small()]).receive)
        last = asyncio.create_task(
            service.respond(scope_of(), Connection([b"x"], delay_s=9).receive)
        )
        await asyncio.sleep(0.05)
        full = await service.respond(scope_of(), Connection([small()]).receive)
        last.cancel()
        return good.status, full.status, [(await task).status for task in tasks]

    good, full, others = asyncio.run(run())
    assert (good, full) == (200, 503)
    assert set(others) == {422}
    assert ask(service, scope_of(), Connection([small()])).status == 200


def test_the_lifespan_closes() -> None:
    """When the server shuts down, the Upscaler is closed and its threads end."""
    before = threading.active_count()
    app = make_app("gan_x2")
    sent: list[Any] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "image/png"),
        ("text/html, image/jpeg;q=0.9", "image/jpeg"),
        ("image/png;q=0, image/webp", "image/webp"),
        ("image/png;q=0.000,image/jpeg;q=0", "image/png"),
        ("IMAGE/WEBP", "image/webp"),
        (";;;,,;q=,image", "image/png"),
        ("image/jpeg;q=0.5;q=x", "image/jpeg"),
    ],
)
def test_accept(accept: str, kind: str) -> None:
    """The first supported format that is not excluded; otherwise PNG."""
    assert kind_of(accept) == kind


@given(st.text(st.characters(max_codepoint=255)))
def test_any_accept(accept: str) -> None:
    """Whatever stands in the header, the result is a format that can be written."""
    assert kind_of(accept) in SUFFIXES


def test_any_body(service: Service) -> None:
    """A body is a picture or a sentence, never another exception."""
    pictures = Pictures(service._up)
    whole = small()

    @given(st.one_of(st.binary(max_size=200), st.integers(0, len(whole)).map(lambda n: whole[:n])))
    def check(body: bytes) -> None:
        answer = pictures.answer(body, {"accept": "image/png"})
        assert answer.status in (200, 422)

    check()


def test_a_model_that_cannot_be_opened() -> None:
    """The application does not start, and leaves no thread."""
    before = threading.active_count()
    with pytest.raises(srsdk.ModelError):
        make_app("no_such_model")
    assert threading.active_count() == before


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """Serve an application with uvicorn, and yield its port."""
    uvicorn: Any = pytest.importorskip("uvicorn", reason="needs uvicorn, of srsdk[demo] or [serve]")
    importlib.import_module("uvicorn.lifespan.on")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def exchange(port: int, head: str, *parts: bytes, delay_s: float = 0) -> str:
    """Send a request as bytes, and return the answer up to its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        for part in parts:
            connection.sendall(part)
            time.sleep(delay_s)
        found = b""
        while part := connection.recv(1 << 16):
            found += part
    return found.decode("latin-1")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_over_http(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a real server: limits, headers, a slow body, and a picture among them."""
    monkeypatch.setattr(application, "Incoming", _Hasty)
    body = small()
    with listening(make_app("gan_x2")) as port:
        head = f"POST / HTTP/1.1\nHost: 127.0.0.1:{port}\nConnection: close"
        good = exchange(port, f"{head}\nContent-Length: {len(body)}", body)
        assert good.startswith("HTTP/1.1 200")
        assert "content-type: image/png" in good
        assert " 413 " in exchange(port, f"{head}\nContent-Length: {MAX_BYTES + 1}")
        assert " 403 " in exchange(port, f"{head}\nContent-Length: 1\nOrigin: http://evil.example")
        assert " 408 " in exchange(port, f"{head}\nContent-Length: 9", b"x", b"x", delay_s=0.2)
        assert " 400 " in exchange(port, f"{head}\nContent-Length: x")
        chunk = b"%x\r\n%s\r\n" % (len(body), body)
        good = exchange(port, f"{head}\nTransfer-Encoding: chunked", chunk, b"0\r\n\r\n")
        assert good.startswith("HTTP/1.1 200")
        upgrade = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        answer = exchange(port, f"GET / HTTP/1.1\nHost: 127.0.0.1:{port}\n{upgrade}\n{key}")
        assert not answer.startswith("HTTP/1.1 101")
    assert list(scratch.iterdir()) == []


class _Hasty(Incoming):
    def __init__(self, scope: Any, receive: Any) -> None:
        super().__init__(scope, receive, seconds=0.3)


HEADERS: list[Headers] = [
    [LOCAL, ("Content-Type", "x" * 60_000)],
    [LOCAL, ("Accept", "," * 60_000)],
]


@pytest.mark.parametrize("headers", HEADERS)
def test_long_headers(service: Service, headers: Headers) -> None:
    """They are no reason to refuse a picture."""
    assert ask(service, scope_of(headers=headers), Connection([small()])).status == 200
