"""examples/server.py has the limits that a server needs."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import srsdk
from tests.conftest import make_picture
from tests.loopback import serving
from tests.srsdk.serving.clients import encoded, frames


@pytest.fixture
def port(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve the example."""
    spec = importlib.util.spec_from_file_location("server", repository / "examples" / "server.py")
    assert spec is not None
    assert spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.RECEIVE_S = example.Handler.timeout = 0.5
    example.Handler.log_message = lambda *_: None
    with (
        srsdk.Upscaler("gan_x2", budget=example.BUDGET) as example.Handler.up,
        serving(example.Handler) as number,
    ):
        yield number


def status(port: int, body: bytes, size: object = None, host: str = "", more: str = "") -> int:
    """Return the status of one request."""
    size = len(body) if size is None else size
    head = f"POST / HTTP/1.1\r\nHost: {host or f'localhost:{port}'}\r\nContent-Length: {size}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"{head}{more}\r\n".encode() + body)
        return int(connection.recv(1000).split()[1])


def test_the_limits(port: int) -> None:
    """Names, origins, sizes, time and frames; a picture between them is served."""
    picture = encoded(Image.fromarray(make_picture(8, 8)))
    assert status(port, picture) == 200
    assert status(port, picture, host=f"evil.example:{port}") == 403
    assert status(port, picture, more="Origin: http://evil.example\r\n") == 403
    assert status(port, picture, more=f"Origin: http://localhost:{port}\r\n") == 200
    for size in (33 << 20, "x", "-1", "", "9" * 5000):
        assert status(port, b"", size) == 413
    assert status(port, b"x", 9) == 408
    assert status(port, frames(2)) == 400
    assert status(port, picture) == 200
