"""Clients that keep a connection and send or read slowly: uvicorn with our limits on both."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn
from PIL import Image

from srsdk.serving import server
from srsdk.serving.app import make_app
from srsdk.serving.asgi import Answer, send_answer
from srsdk.serving.http import protocol
from srsdk.serving.limits import Limits
from tests.conftest import make_picture
from tests.srsdk.serving.clients import encoded
from tests.srsdk.serving.test_server import PHOTO

LARGE = Answer(200, bytes(64 << 20), "image/png")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the limits."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)
    monkeypatch.setattr(protocol, "SEND_S", 0.5)


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """Serve an application in a thread, and yield its port."""
    config = uvicorn.Config(server.Watched(app), http=protocol.Protocol, ws="none", log_config=None)
    found = uvicorn.Server(config)
    bound = server.listen(port=0)
    thread = threading.Thread(target=found.run, args=([bound],))
    thread.start()
    try:
        while not found.started:
            time.sleep(0.01)
        yield bound.getsockname()[1]
    finally:
        found.should_exit = True
        thread.join()
        bound.close()


def connect(port: int) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def drip(connection: socket.socket, data: bytes) -> None:
    """Send a byte at a time, until the other side closes."""
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(0.05)


def end_of(connection: socket.socket) -> bytes:
    """Return what is received until the other side closes."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            found += part
    return bytes(found)


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send_answer(send, Answer(200, b"{}"))


def test_headers_that_do_not_end() -> None:
    """A client that sends nothing, or a byte from time to time, is disconnected."""
    with listening(_hello) as port:
        for data in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 600):
            with connect(port) as connection:
                drip(connection, data)
                assert end_of(connection) == b""


def test_a_connection_that_is_kept() -> None:
    """The second request has the same time as the first, and is answered within it."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with listening(_hello) as port, connect(port) as connection:
        for _ in range(3):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"{}"):
                answer += connection.recv(1000)
            time.sleep(0.2)
        connection.sendall(request[:10])
        assert end_of(connection) == b""


def test_an_answer_that_nobody_reads() -> None:
    """The connection is dropped, with what was still to be sent; a slow reader gets all of it."""
    sent = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send_answer(send, LARGE)
            sent.set()

    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with listening(app) as port:
        with connect(port) as connection:
            connection.sendall(request)
            assert sent.wait(60)
            assert len(end_of(connection)) < len(LARGE.body) / 2
        sent.clear()
        with connect(port) as connection:
            connection.sendall(request)
            found = 0
            while part := connection.recv(1 << 20):
                found += len(part)
                time.sleep(len(part) / (40 << 20))
                assert not sent.is_set() or found > len(LARGE.body) / 2
            assert found > len(LARGE.body)


def test_a_body_that_drips() -> None:
    """It has its own limit, and is answered with 408; other clients are served meanwhile."""
    app = make_app("gan_x2", limits=Limits(receive_s=0.7))
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    with listening(app) as port, connect(port) as slow, connect(port) as quick:
        slow.sendall(head % 100)
        quick.sendall(head % len(PHOTO) + PHOTO)
        assert end_of(quick).startswith(b"HTTP/1.1 200 ")
        drip(slow, bytes(50))
        assert end_of(slow).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_disconnects() -> None:
    """Its picture is given up, whether it waits or is in work, and nothing is left."""
    app = make_app("gan_x4", tile=32, threads=1)
    body = encoded(Image.fromarray(make_picture(600, 600)))
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with listening(app) as port:
        some = [connect(port) for _ in range(app.service.up.ahead + 3)]
        for connection in some:
            connection.sendall(head + body)
        while app.service.waiting < 3:
            time.sleep(0.01)
        for connection in some:
            connection.close()
        until_s = time.monotonic() + 60
        while app.service.ongoing or app.service.waiting:
            assert time.monotonic() < until_s
            time.sleep(0.01)
