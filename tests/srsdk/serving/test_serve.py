"""Test the HTTP service: results equal the Upscaler's; batching, health and metrics work."""

from __future__ import annotations

import gc
import io
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.ray import cluster
from srsdk.serving.bodies import MAX_BYTES
from tests.conftest import make_picture
from tests.srsdk.serving.clients import form

# Ray itself leaves resources open and calls deprecated functions
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ADDRESS = "http://127.0.0.1:18791"


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    """Start one replica on a local Ray cluster on the loopback interface."""
    pytest.importorskip("ray.serve", reason="needs srsdk[serve]: pip install 'srsdk[serve]'")
    from ray import serve

    from srsdk.serving.ray_serve import app

    ray = cluster.import_ray()
    cluster.begin_local(ray, num_cpus=2, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": 18791})
    serve.run(app({"model": "gan_x2", "hosts": "127.0.0.1, localhost"}))
    yield ray
    serve.shutdown()
    ray.shutdown()
    gc.collect()


def call(
    path: str, body: bytes | None = None, accept: str = "image/png", **headers: str
) -> tuple[int, bytes]:
    """Return status and body of one request."""
    request = urllib.request.Request(f"{ADDRESS}{path}", body, {"Accept": accept, **headers})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def png(picture: Any) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_at_the_same_time(service: Any) -> None:
    """Each request gets its own exact result, and a bad picture among them its own error."""
    some = [make_picture(20 + seed, 24, seed) for seed in range(12)]
    bodies = [*map(png, some), b"no picture"]
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: call("/", body), bodies))
    with srsdk.Upscaler("gan_x2") as up:
        for picture, (status, body) in zip(some, answers, strict=False):
            assert status == 200
            with Image.open(io.BytesIO(body)) as image:
                np.testing.assert_array_equal(np.asarray(image), up(picture))
    status, body = answers[-1]
    assert status == 422
    assert json.loads(body)["error"].startswith("the picture is not a picture that Pillow can")


def test_formats_and_methods(service: Any) -> None:
    """The Accept header or an option sets the format; a form is taken, another method is not."""
    status, body = call("/", png(make_picture(8, 8)), "text/html, image/jpeg;q=0.9")
    assert status == 200
    assert body[:3] == b"\xff\xd8\xff"
    body, (name, kind) = form(("format", b"webp"), ("image", png(make_picture(8, 8)), "a.png"))
    status, body = call("/", body, **{name: kind})
    assert (status, body[8:12]) == (200, b"WEBP")
    assert call("/?format=bmp", png(make_picture(8, 8)))[0] == 422
    assert call("/info", b"x")[0] == 405
    assert call("/none")[0] == call("/metrics")[0] == 404
    assert b"swagger" in call("/docs")[1]


def test_pages_of_others_are_refused(service: Any) -> None:
    """The deployment checks Origin, and Host where it names hosts (of this one: two)."""
    picture = png(make_picture(8, 8))
    assert call("/", picture, Origin=ADDRESS)[0] == 200
    status, body = call("/", picture, Origin="http://evil.example")
    assert status == 403
    assert "only pages of this server" in json.loads(body)["error"]
    assert call("/", picture, Host="localhost")[0] == 200
    assert call("/", picture, Host="evil.example")[0] == 421


def test_a_large_body(service: Any) -> None:
    """It is refused as soon as its Content-Length is known; the next request is served."""
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MAX_BYTES + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", 18791), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")
    assert call("/", png(make_picture(8, 8)))[0] == 200


def test_a_slow_picture_delays_no_other(service: Any) -> None:
    """Pictures of one batch end alone; one whose client has gone stops."""
    large = png(make_picture(1500, 1500))
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(large)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", 18791), timeout=60) as connection:
        connection.sendall(head.encode() + large)
        connection.settimeout(0)
        assert call("/", png(make_picture(8, 8)))[0] == 200
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_health_and_info(service: Any) -> None:
    """/healthz upscales a picture; /info returns the manifest."""
    status, body = call("/healthz")
    assert (status, json.loads(body)["model"]) == (200, "gan_x2")
    assert json.loads(call("/info")[1])["scale"] == 2


def test_metrics(service: Any) -> None:
    """Prometheus can read the counts of pictures and failures and the batch sizes."""
    call("/", png(make_picture(8, 8)))
    port = service.nodes()[0]["MetricsExportPort"]
    for _ in range(60):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        if "srsdk_pictures" in text and "srsdk_batch_size" in text:
            break
        time.sleep(1)
    (count,) = re.findall(r"^ray_srsdk_pictures(?:_total)?\{.*\} ([0-9.]+)$", text, re.MULTILINE)[
        :1
    ]
    assert float(count) >= 1
    assert "ray_srsdk_failures" in text
    batches = re.search(r"^ray_srsdk_batch_size_count\{.*\} ([0-9.]+)$", text, re.MULTILINE)
    assert batches is not None
