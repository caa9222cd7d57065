"""The demo over HTTP, without a browser: limits, files, and several visitors. Needs Gradio."""

from __future__ import annotations

import gc
import json
import os
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.serving.bodies import MAX_BYTES
from tests.conftest import make_picture
from tests.srsdk.serving.clients import bomb, encoded, frames

# gradio leaves resources open and calls deprecated functions
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
API = "gradio_api/"
EVIL = {"Origin": "http://evil.example"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the page."""
    pytest.importorskip("gradio", reason="needs srsdk[demo]: pip install 'srsdk[demo]'")
    from srsdk.serving import demo

    with demo.serve("gan_x2") as found:
        yield found
    gc.collect()


def kept() -> Path:
    """Return the demo's folder."""
    return Path(os.environ["GRADIO_TEMP_DIR"])


def files() -> set[Path]:
    """Return what it keeps."""
    return {path for path in kept().rglob("*") if path.is_file()}


def call(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Return status and body of one request."""
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def form(data: bytes, name: str) -> tuple[bytes, str]:
    """Return a form with one file, and its media type."""
    head = f'--B\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"


def upload(address: str, data: bytes, name: str = "photo.png", **headers: str) -> Any:
    """Return the path of the upload, or the status that refused it."""
    body, kind = form(data, name)
    status, text = call(f"{address}{API}upload", body, **{"Content-Type": kind, **headers})
    return json.loads(text)[0] if status == 200 else status


def upscale(address: str, path: str) -> dict[str, Any]:
    """Upscale an upload as the page does, and return the last event."""
    session = secrets.token_hex(6)
    data = ["gan_x2", 2, {"path": path, "meta": {"_type": "gradio.FileData"}}]
    event = {"data": data, "fn_index": 0, "session_hash": session}
    status, text = call(
        f"{address}{API}queue/join",
        json.dumps(event).encode(),
        **{"Content-Type": "application/json"},
    )
    if status != 200:
        return {"status": status, "text": text.decode()}
    with urllib.request.urlopen(f"{address}{API}queue/data?session_hash={session}") as answer:
        for line in answer:
            message: dict[str, Any] = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("no end")


def shown(end: dict[str, Any]) -> Any:
    """Return what slider, download, message and state become."""
    return end["output"]["data"]


PATHS = [
    "", "config", "theme.css", "assets/none.js", "favicon.ico", f"{API}info", f"{API}upload",
    f"{API}queue/join", f"{API}queue/data?session_hash=x", f"{API}upload_progress?upload_id=x",
    f"{API}heartbeat/x", f"{API}file=/etc/passwd", f"{API}startup-events", "none",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_foreign_headers(address: str, path: str) -> None:
    """Each route, read or posted to, is refused to others."""
    for body in (None, b"x" * 1000):
        assert call(address + path, body, **EVIL)[0] == 403
        assert call(address + path, body, Host="evil.example")[0] == 421
        assert call(address + path, body, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert files() == set()


def test_preflight(address: str) -> None:
    """Gradio itself answers what browsers ask before some requests: without a permission."""
    request = urllib.request.Request(f"{address}{API}upload", method="OPTIONS")
    for name, text in {**EVIL, "Access-Control-Request-Method": "PUT"}.items():
        request.add_header(name, text)
    try:
        with urllib.request.urlopen(request) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
    except urllib.error.HTTPError as error:
        error.close()


def test_large_and_broken_uploads(address: str) -> None:
    """Nothing of them stays on the disk, whether announced, chunked or broken off."""
    place, before = urlsplit(address), files()
    body, kind = form(b"x" * (1 << 20), "a.png")
    head = f"POST /{API}upload HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {kind}\r\n"

    def begin(more: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", place.port or 80), timeout=60)
        connection.sendall(f"{head}{more}\r\n\r\n".encode())
        return connection

    with begin(f"Content-Length: {300 << 20}") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    with begin(f"Content-Length: {MAX_BYTES}") as connection:
        connection.sendall(body)
        wait(lambda: bool(files() - before))
    wait(lambda: files() == before)
    with begin("Transfer-Encoding: chunked") as connection, suppress(OSError):
        for part in [body[:-9], *[b"x" * (1 << 20)] * 300]:
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        raise AssertionError("300 MiB were received")
    wait(lambda: files() == before)


def wait(true: Any) -> None:
    """Wait until the server has done something."""
    until_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_files(address: str, tmp_path: Path) -> None:
    """Uploads are handed out, and nothing else; nothing else is upscaled."""
    path = upload(address, encoded(Image.new("RGB", (9, 9))))
    assert call(f"{address}{API}file={quote(path)}")[0] == 200
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(Image.new("RGB", (9, 9))))
    climb = f"{Path(path).parent}/../../{'../' * 20}{str(secret)[1:]}"
    for name in (str(secret), climb, f"{kept()}/..", "http://127.0.0.1:1/a.png"):
        for route in (f"{API}file=", f"{API}file/", "file=", f"{API}proxy="):
            assert call(f"{address}{route}{quote(name)}")[0] in (403, 404)
            assert call(f"{address}{route}{quote(quote(name, safe=''))}")[0] in (403, 404)
        assert upscale(address, name)["status"] == 403
    for route in ("process_recording", "run/upscale", "call/upscale", "vibe-edit"):
        assert call(f"{address}{API}{route}", b"{}")[0] == 403


@pytest.mark.parametrize(
    "name", ["../../up.png", "/etc/up.png", "..%2f..%2fup.png", "a" * 5000 + ".png", "\u202e.png"]
)
def test_names_of_uploads(address: str, name: str) -> None:
    """Whatever a file is called, it lies in the folder."""
    path = upload(address, b"x", name)
    assert isinstance(path, int) or Path(path).resolve().is_relative_to(kept().resolve())
    assert not (kept().parent / "up.png").exists()


def test_visitors_at_the_same_time(address: str) -> None:
    """Pictures of one name do not mix; bad ones among them fail alone, with a sentence."""
    pictures = [make_picture(30 + seed, 40, seed) for seed in range(6)]
    bad = {b"no picture": "not a picture", bomb(30_000, 30_000): "too large"}
    bad |= {bomb(9_000, 9_000): "81,000,000 pixels", frames(2000): "2,000 frames"}
    bad |= {b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n": "not a picture"}
    uploads = [upload(address, encoded(Image.fromarray(each))) for each in pictures]
    uploads += [upload(address, each) for each in bad]
    with ThreadPoolExecutor(len(uploads)) as pool:
        ends = list(pool.map(lambda path: upscale(address, path), uploads))
    with srsdk.Upscaler("gan_x2") as up:
        for picture, end in zip(pictures, ends, strict=False):
            path = shown(end)[1]["value"]["path"]
            assert Path(path).name == "photo_x2.png"
            with Image.open(path) as result:
                np.testing.assert_array_equal(np.asarray(result), up(picture))
    for sentence, end in zip(bad.values(), ends[len(pictures) :], strict=True):
        slider, _, message, _ = shown(end)
        assert slider is None
        assert sentence in message
        assert str(kept()) not in message
    assert not [path for path in kept().glob("result-*") if not list(path.iterdir())]


def test_a_bounded_queue(address: str) -> None:
    """More visitors than places get a sentence at once; the others get their picture."""
    path = upload(address, encoded(Image.fromarray(make_picture(500, 500))))
    with ThreadPoolExecutor(40) as pool:
        ends = list(pool.map(lambda _: upscale(address, path), range(40)))
    refused = [end for end in ends if end.get("status") == 503]
    assert 0 < len(refused) < 40
    assert all("full" in end["text"].lower() for end in refused)
    assert all(end["success"] for end in ends if "success" in end)


def test_the_disk(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old uploads and results are deleted for new ones."""
    first = upload(address, b"first")
    for path in files():
        os.utime(path, (1, 1))
    monkeypatch.setattr(Path, "lstat", _Large.lstat)
    upload(address, b"second")
    assert not Path(first).exists()


class _Large(Path):
    """Files that are larger than they are: a gigabyte on the disk takes a test too long."""

    def lstat(self) -> Any:
        """Return the size of a large file."""
        found = list(os.lstat(self))
        found[6] += 1 << 30
        return os.stat_result(found)


def test_a_large_result_is_shown_smaller(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is whole; what lies under the slider is reduced."""
    from srsdk.serving import page

    monkeypatch.setattr(page, "PREVIEW_PX", 5_000)
    end = upscale(address, upload(address, encoded(Image.fromarray(make_picture(100, 50)))))
    slider, button, text, _ = shown(end)
    file = button["value"]
    assert "50×100 to 100×200" in text
    sizes = []
    for path in (*(each["path"] for each in slider), file["path"]):
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes == [(50, 100), (50, 100), (100, 200)]
