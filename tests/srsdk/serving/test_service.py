"""Many requests at once: room, health, readiness, errors of ours, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

import srsdk
from srsdk.serving.answers import Work
from srsdk.serving.app import make_app
from srsdk.serving.http.door import Door
from srsdk.serving.limits import MAX_ONGOING
from tests.conftest import make_picture
from tests.srsdk.serving.clients import Connection, ask, encoded, scope_of


@pytest.fixture(scope="module")
def service() -> Iterator[Door]:
    """Open one service."""
    app = make_app("gan_x2")
    yield app
    app.close()


def small() -> bytes:
    """Return a picture file."""
    return encoded(Image.fromarray(make_picture(20, 24)))


def test_many_at_a_time(service: Door) -> None:
    """Beyond the limit they are refused at once; a slow sender does not stop the others."""

    async def send(connection: Connection) -> int:
        await service(scope_of(), connection.receive, connection.send)
        return connection.status

    async def run() -> tuple[int, int, int, list[int]]:
        slow = [Connection([b"x", b"x"], delay_s=0.4) for _ in range(MAX_ONGOING - 1)]
        tasks = [asyncio.create_task(send(each)) for each in slow]
        await asyncio.sleep(0.05)
        good = await send(Connection([small()]))
        last = asyncio.create_task(send(Connection([b"x"], delay_s=9)))
        await asyncio.sleep(0.05)
        full, probe = Connection([small()]), Connection()
        await send(full)
        await service(scope_of("/readyz", method="GET"), probe.receive, probe.send)
        assert (b"retry-after", b"1") in full.sent[0]["headers"]
        last.cancel()
        return good, full.status, probe.status, [await task for task in tasks]

    good, full, probe, others = asyncio.run(run())
    assert (good, full, probe) == (200, 503, 503)
    assert set(others) == {422}
    assert ask(service, scope_of(), Connection([small()])).status == 200


def test_an_answer_that_is_not_read(service: Door) -> None:
    """Its picture counts until it is sent, so that results cannot fill the memory."""

    async def run() -> tuple[int, int]:
        connection, sending, go_on = Connection([small()]), asyncio.Event(), asyncio.Event()

        async def send(_: Any) -> None:
            sending.set()
            await go_on.wait()

        task = asyncio.create_task(service(scope_of(), connection.receive, send))
        await sending.wait()
        during = service.service.ongoing
        go_on.set()
        await task
        return during, service.service.ongoing

    assert asyncio.run(run()) == (1, 0)


def test_many_health_checks(service: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once cost one picture, and none where one was upscaled a moment ago."""
    calls, check = [], service.service.check_health

    def counted() -> None:
        calls.append(1)
        check()

    monkeypatch.setattr(service.service, "check_health", counted)

    async def run() -> None:
        await asyncio.gather(*(service.service.health() for _ in range(20)))

    service.service._worked_s = -1000
    asyncio.run(run())
    asyncio.run(run())
    assert calls == [1]


def test_a_model_that_fails(service: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """/healthz answers 503 with the sentence."""

    def fail() -> None:
        raise srsdk.BackendError("the device is gone")

    monkeypatch.setattr(service.service, "check_health", fail)
    service.service._worked_s = -1000
    answer = ask(service, scope_of("/healthz", method="GET"))
    assert (answer.status, answer.error) == (503, "the device is gone")
    monkeypatch.undo()
    assert ask(service, scope_of("/healthz", method="GET")).status == 200


def test_an_error_of_ours(service: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is JSON without its text, which may hold anything; the server logs it."""

    def fail(_: Work) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(service.service._pictures, "answer", fail)
    connection = Connection([small()])
    with pytest.raises(RuntimeError, match="secret"):
        ask(service, scope_of(), connection)
    assert connection.status == 500
    assert "secret" not in connection.error
    assert service.service.ongoing == service.service.waiting == 0


def test_metrics(service: Door) -> None:
    """Requests by route and status, latency, pixels, bytes, queue and process."""

    def value(name: str) -> float:
        text = ask(service, scope_of("/metrics", method="GET")).body.decode()
        found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0].split()[-1]) if found else 0.0

    names = [
        'srsdk_requests_total{route="picture",status="200"}',
        'srsdk_requests_total{route="picture",status="422"}',
        'srsdk_request_seconds_count{route="picture"}',
        'srsdk_pixels_total{direction="in"}',
        'srsdk_pixels_total{direction="out"}',
        'srsdk_bytes_total{direction="in"}',
    ]
    before = [value(name) for name in names]
    ask(service, scope_of(), Connection([small()]))
    ask(service, scope_of("/?scale=3"), Connection([small()]))
    ask(service, scope_of("/any/path/a/client/likes"), Connection([b"x"]))
    ask(service, scope_of(), Connection([b"x"]))
    grown = [value(name) - old for name, old in zip(names, before, strict=True)]
    sizes = 2 * len(small()) + 1
    assert grown == [2, 1, 4, 2 * 480, 480 * 4 + 480 * 9, sizes]
    assert value("srsdk_in_flight") == value("srsdk_queue_length") == 0
    assert value("srsdk_queue_limit") == MAX_ONGOING
    assert value("process_resident_memory_bytes") > 1e7
