"""The example applications, run as a user runs them."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import srsdk
from tests.conftest import Picture, make_picture


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run the example server in its own process; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parents[3] / "examples" / "server.py"
    call = f"import runpy; runpy.run_path({str(script)!r})['main']('gan_x2', {port})"
    with subprocess.Popen([sys.executable, "-c", call], stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            assert process.poll() is None
            with socket.socket() as caller:
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
        process.terminate()


def post(address: str, body: bytes) -> bytes:
    """Send a picture; return the body of the response."""
    with urllib.request.urlopen(urllib.request.Request(address, body), timeout=120) as answer:
        content: bytes = answer.read()
    return content


def test_the_server_serves_several_at_once(server: str) -> None:
    """Each client gets the same result as from the library."""
    sent = [make_picture(30 + index, 50, seed=index) for index in range(6)]

    def ask(picture: Picture) -> Picture:
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, "PNG")
        return np.asarray(Image.open(io.BytesIO(post(server, encoded.getvalue()))))

    with ThreadPoolExecutor(6) as callers:
        got = list(callers.map(ask, sent))
    with srsdk.Upscaler("gan_x2") as up:
        for picture, result in zip(sent, got, strict=True):
            np.testing.assert_array_equal(result, up(picture))


def test_the_server_reports_errors(server: str) -> None:
    """An invalid picture and an empty body give 400 and a message; the server keeps running."""
    for body in (b"no picture", b""):
        with pytest.raises(urllib.error.HTTPError, match=r"is not a picture|is empty") as bad:
            post(server, body)
        assert bad.value.code == 400
        bad.value.close()
