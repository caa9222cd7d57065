"""Bodies are received within limits on size and time."""

from __future__ import annotations

import asyncio

import pytest

from srsdk.serving.asgi import Disconnected, Refused
from srsdk.serving.bodies import Incoming
from tests.srsdk.serving.clients import LOCAL, Connection, scope_of


def read(connection: Connection, length: str | None = None, seconds: float = 60.0) -> bytes:
    """Receive a body of at most 1,000 bytes."""
    headers = [LOCAL] if length is None else [LOCAL, ("Content-Length", length)]
    scope = scope_of(headers=headers)

    async def run() -> bytes:
        return await Incoming(scope, connection.receive, 1000, seconds).read()

    return asyncio.run(run())


def test_whole_bodies() -> None:
    """Up to the limit, in any number of parts."""
    assert read(Connection([b"a" * 500, b"", b"b" * 500])) == b"a" * 500 + b"b" * 500
    assert read(Connection([b"x" * 1000]), "1000") == b"x" * 1000
    assert read(Connection(), "0000") == b""


@pytest.mark.parametrize("length", ["1001", "9" * 5000, "0" * 5000 + "1001"])
def test_a_declared_size_is_refused_before_reading(length: str) -> None:
    """Nothing is received."""
    connection = Connection([b"x"])
    with pytest.raises(Refused) as refused:
        read(connection, length)
    assert refused.value.answer.status == 413
    assert connection.received == 0


@pytest.mark.parametrize("length", ["-1", "1e3", "ten", "", "+5", "\xb2", "1 0"])
def test_no_size(length: str) -> None:
    """A Content-Length that is no number is refused."""
    with pytest.raises(Refused) as refused:
        read(Connection([b"x"]), length)
    assert refused.value.answer.status == 400


@pytest.mark.parametrize("length", [None, "5"])
def test_a_body_that_grows_too_large(length: str | None) -> None:
    """Chunked, or longer than it said: receiving ends with the part that passes the limit."""
    connection = Connection([b"x" * 400] * 10)
    with pytest.raises(Refused) as refused:
        read(connection, length)
    assert refused.value.answer.status == 413
    assert connection.received == 3


def test_a_slow_body() -> None:
    """The time is for the whole body: a byte now and then does not renew it."""
    connection = Connection([b"x"] * 100, delay_s=0.02)
    with pytest.raises(Refused) as refused:
        read(connection, seconds=0.2)
    assert refused.value.answer.status == 408
    assert 1 <= connection.received < 20


def test_a_client_that_goes() -> None:
    """The part of a body is no body."""
    with pytest.raises(Disconnected):
        read(Connection([b"x", None]))
