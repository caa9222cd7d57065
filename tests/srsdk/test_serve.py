"""Pictures over HTTP: equal to the Upscaler's, batched, healthy, counted."""

from __future__ import annotations

import gc
import io
import json
import re
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
from srsdk import cluster
from tests.conftest import make_picture

# what Ray leaves open and deprecates of itself is Ray's
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ADDRESS = "http://127.0.0.1:18791"


@pytest.fixture(scope="module")
def service() -> Iterator[Any]:
    """One replica on a Ray of this machine's loopback."""
    pytest.importorskip("ray.serve", reason="needs srsdk[serve]: pip install 'srsdk[serve]'")
    from ray import serve

    from srsdk.serve import app

    ray = cluster.import_ray()
    cluster.begin_local(ray, num_cpus=2, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": 18791})
    serve.run(app({"model": "gan_x2"}))
    yield ray
    serve.shutdown()
    ray.shutdown()
    gc.collect()


def call(path: str, body: bytes | None = None, accept: str = "image/png") -> tuple[int, bytes]:
    """Return status and body of one request."""
    request = urllib.request.Request(f"{ADDRESS}{path}", body, {"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def png(picture: Any) -> bytes:
    """Encode."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_at_the_same_time(service: Any) -> None:
    """Each of many gets its own, to the bit, and a bad one between them a sentence of its own."""
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
    assert json.loads(body)["error"] == "picture is not a picture that Pillow can read"


def test_formats_and_methods(service: Any) -> None:
    """The format is the one that is asked for; a GET is told what to do."""
    status, body = call("/", png(make_picture(8, 8)), "text/html, image/jpeg;q=0.9")
    assert status == 200
    assert body[:3] == b"\xff\xd8\xff"
    assert call("/")[0] == 405


def test_health_and_info(service: Any) -> None:
    """Health is a picture upscaled; info is the manifest."""
    status, body = call("/healthz")
    assert (status, json.loads(body)["model"]) == (200, "gan_x2")
    assert json.loads(call("/info")[1])["scale"] == 2


def test_metrics(service: Any) -> None:
    """Prometheus finds counts of pictures and failures, and that some were batched."""
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
