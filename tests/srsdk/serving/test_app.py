"""The service of one process: answers, limits, and nothing left behind."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import srsdk
from srsdk.options import PictureOptions
from srsdk.serving.answers import KINDS, Pictures, Work, format_of
from srsdk.serving.app import make_app
from srsdk.serving.bodies import MAX_BYTES
from srsdk.serving.http.door import Door
from srsdk.serving.limits import MAX_ONGOING, Limits
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
def service() -> Iterator[Door]:
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


def test_the_picture(service: Door, scratch: Path) -> None:
    """The result equals the Upscaler's; no file is written."""
    answer = ask(service, scope_of(), Connection([small()[:100], small()[100:]]))
    assert answer.status == 200
    with srsdk.Upscaler("gan_x2") as up, Image.open(io.BytesIO(answer.body)) as image:
        np.testing.assert_array_equal(np.asarray(image), up(make_picture(20, 24)))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "accept", "status", "sentence"),
    [
        (b"", "", 422, "the picture is empty"),
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
    service: Door, scratch: Path, body: bytes, accept: str, status: int, sentence: str
) -> None:
    """Each is answered with one sentence, without a path of the server, and without a file left."""
    answer = ask(service, scope_of(headers=[LOCAL, ("Accept", accept)]), Connection([body]))
    assert answer.status == status
    assert sentence in answer.error
    assert str(scratch) not in answer.error
    assert list(scratch.iterdir()) == []


def test_other_requests(service: Door) -> None:
    """/healthz, /readyz, /info, and what is neither a route nor its method."""
    health = ask(service, scope_of("/healthz", method="GET"))
    assert (health.status, json.loads(health.body)["model"]) == (200, "gan_x2")
    assert ask(service, scope_of("/readyz", method="GET")).status == 200
    info = json.loads(ask(service, scope_of("/info", method="GET")).body)
    assert (info["scale"], info["backend"], info["limits"]["queue"]) == (
        *(2, service.service.up.backend),
        MAX_ONGOING,
    )
    for path, method, status in (("/", "DELETE", 405), ("/info", "POST", 405), ("/x", "GET", 404)):
        other = ask(service, scope_of(path, method=method))
        assert other.status == status
        assert other.error
    assert (b"allow", b"GET, POST") in ask(service, scope_of(method="PUT")).sent[0]["headers"]
    start = ask(service, scope_of(method="GET"))
    assert (start.status, (b"location", b"/docs") in start.sent[0]["headers"]) == (307, True)
    socket_ = ask(service, scope_of(kind="websocket"))
    assert socket_.sent == [{"type": "websocket.close", "code": 1008}]


def test_other_names(repository: Path) -> None:
    """Only probes, which know a container by its address, may use any name."""
    app = make_app("gan_x2", hosts=["example.com"])
    try:
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/info", 421), ("/docs", 421)):
            assert ask(app, scope_of(path, method="GET")).status == status
        assert ask(app, scope_of("/info", [("Host", "example.com:80")], "GET")).status == 200
    finally:
        app.close()


@pytest.mark.parametrize("path", ["/", "/healthz", "/info"])
def test_pages_of_others_are_refused(service: Door, path: str) -> None:
    """Before the body is read."""
    connection = Connection([small()])
    foreign = [LOCAL, ("Origin", "http://evil.example")]
    assert ask(service, scope_of(path, foreign), connection).status == 403
    assert connection.received == 0


@pytest.mark.parametrize("length", [str(MAX_BYTES + 1), "9" * 30])
def test_a_large_body_is_refused_before_reading(service: Door, length: str) -> None:
    """As its Content-Length says."""
    connection = Connection([b"x"])
    headers = [LOCAL, ("Content-Length", length)]
    assert ask(service, scope_of(headers=headers), connection).status == 413
    assert connection.received == 0


def test_chunks_end_at_the_limit(service: Door) -> None:
    """Not a byte more is kept; the same bytes within it are read to the end."""
    part = bytes(MAX_BYTES // 4)
    assert ask(service, scope_of(), Connection([part] * 4)).status == 422
    connection = Connection([part] * 4 + [b"x"] + [part] * 4)
    assert ask(service, scope_of(), connection).status == 413
    assert connection.received == 5


def test_a_client_that_goes(scratch: Path) -> None:
    """While it sends or waits: the work stops early, and nothing is left."""
    body = encoded(Image.fromarray(make_picture(360, 360)))
    app, tiles = make_app("gan_x4", tile=32, threads=1), []
    upscale_file = app.service.up.upscale_file

    def counted(*pair: Any, progress: Any, **others: Any) -> None:
        def count(done: int, total: int) -> None:
            tiles.append((done, total))
            progress(done, total)

        upscale_file(*pair, progress=count, **others)

    app.service.up.upscale_file = counted
    try:
        assert ask(app, scope_of(), Connection([body[:50], None])).status == 499
        assert tiles == []
        assert ask(app, scope_of(), Connection([body], stays=False)).status == 499
        app.service._pool.shutdown(wait=True)
        assert len(tiles) < 20
        assert app.service.ongoing == app.service.waiting == 0
    finally:
        app.close()
    assert list(scratch.iterdir()) == []


def test_a_cancelled_request(scratch: Path) -> None:
    """As Ray Serve and timeouts of servers cancel it: the work stops after a few tiles."""
    app = make_app("gan_x4", tile=32, threads=1)
    body = encoded(Image.fromarray(make_picture(360, 360)))

    async def run() -> None:
        connection = Connection([body])
        task = asyncio.create_task(app(scope_of(), connection.receive, connection.send))
        while not connection.received or app.service.waiting:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert app.service.ongoing == 0

    try:
        asyncio.run(run())
    finally:
        app.close()
    assert list(scratch.iterdir()) == []


def test_a_deadline(scratch: Path) -> None:
    """A picture that takes too long ends with 504, in work or while it waits for its turn."""
    app = make_app("gan_x4", tile=32, threads=1, limits=Limits(seconds=0.3))
    body = encoded(Image.fromarray(make_picture(700, 700)))

    async def run() -> list[Connection]:
        some = [Connection([body]) for _ in range(app.service.up.ahead + 2)]
        await asyncio.gather(*(app(scope_of(), each.receive, each.send) for each in some))
        return some

    try:
        for answer in asyncio.run(run()):
            assert answer.status == 504
            assert "0.3 s" in answer.error
    finally:
        app.close()
    assert list(scratch.iterdir()) == []


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
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "png"),
        ("text/html, image/jpeg;q=0.9", "jpeg"),
        ("image/png;q=0, image/webp", "webp"),
        ("image/png;q=0.000,image/jpeg;q=0", "png"),
        ("IMAGE/WEBP", "webp"),
        (";;;,,;q=,image", "png"),
        ("image/jpeg;q=0.5;q=x", "jpeg"),
    ],
)
def test_accept(accept: str, kind: str) -> None:
    """The first supported format that is not excluded; otherwise PNG."""
    assert format_of(accept) == kind


@given(st.text(st.characters(max_codepoint=255)))
def test_any_accept(accept: str) -> None:
    """Whatever stands in the header, the result is a format that can be written."""
    assert format_of(accept) in KINDS


def test_any_body(service: Door) -> None:
    """A body is a picture or a sentence, never another exception."""
    pictures = Pictures(service.service.up)
    whole, png = small(), PictureOptions(format="png")

    @given(st.one_of(st.binary(max_size=200), st.integers(0, len(whole)).map(lambda n: whole[:n])))
    def check(body: bytes) -> None:
        answer = pictures.answer(Work(body, png, 60))
        assert answer.status in (200, 422)

    check()


def test_a_model_that_cannot_be_opened() -> None:
    """The application does not start, and leaves no thread."""
    before = threading.active_count()
    with pytest.raises(srsdk.ModelError):
        make_app("no_such_model")
    assert threading.active_count() <= before


HEADERS: list[Headers] = [
    [LOCAL, ("Content-Type", "x" * 60_000)],
    [LOCAL, ("Accept", "," * 60_000)],
]


@pytest.mark.parametrize("headers", HEADERS)
def test_long_headers(service: Door, headers: Headers) -> None:
    """They are no reason to refuse a picture."""
    assert ask(service, scope_of(headers=headers), Connection([small()])).status == 200
