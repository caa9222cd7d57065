"""What stands before Gradio: sizes, numbers, disk, and which files are read. Needs no Gradio."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from srsdk.serving.bodies import MAX_BYTES
from srsdk.serving.uploads import FORM_BYTES, JSON_BYTES, MAX_UPLOADS, POSTS, Folder, Uploads
from tests.srsdk.serving.clients import LOCAL, Connection, ask, scope_of

UPLOAD, JOIN = POSTS[0], POSTS[1]


class Gradio:
    """Stands in for Gradio: stores what is uploaded, and answers 200."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Receive a body into a loose file, then move it."""
        loose = self._folder / f"tmp{len(list(self._folder.iterdir()))}"
        with loose.open("wb") as file:
            more = scope["method"] == "POST"
            while more:
                message = await receive()
                file.write(message.get("body", b""))
                more = message.get("more_body", False)
        self.bodies.append(loose.read_bytes())
        (self._folder / "complete").mkdir(exist_ok=True)
        loose.rename(self._folder / "complete" / loose.name)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one upload, beside a file that is none."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "kept"
    (folder / "hash").mkdir(parents=True)
    (folder / "hash" / "photo 1.png").write_bytes(b"upload")
    return folder


def page(folder: Path) -> tuple[Uploads, Gradio]:
    """Return the middleware around a stand-in."""
    gradio = Gradio(folder)
    return Uploads(gradio, Folder(folder)), gradio


def post(app: Uploads, path: str, value: Any) -> int:
    """Return the status of a JSON request."""
    return ask(app, scope_of(path), Connection([json.dumps(value).encode()])).status


def test_an_upload(folder: Path) -> None:
    """It passes, in parts."""
    app, gradio = page(folder)
    assert ask(app, scope_of(UPLOAD), Connection([b"a", b"b"])).status == 200
    assert gradio.bodies == [b"ab"]


def test_a_large_upload(folder: Path) -> None:
    """By its Content-Length: nothing is read; without: it ends at the limit, and leaves no file."""
    app, gradio = page(folder)
    connection = Connection([b"x"])
    length = ("Content-Length", str(MAX_BYTES + FORM_BYTES + 1))
    assert ask(app, scope_of(UPLOAD, [LOCAL, length]), connection).status == 413
    assert connection.received == 0
    connection = Connection([bytes(MAX_BYTES // 2)] * 9)
    assert ask(app, scope_of(UPLOAD), connection).status == 413
    assert connection.received == 3
    assert [path.name for path in folder.iterdir()] == ["hash"]
    assert gradio.bodies == []


def test_an_upload_that_breaks_off(folder: Path) -> None:
    """Its part is deleted, no answer is sent and nothing is raised."""
    app, _ = page(folder)
    assert ask(app, scope_of(UPLOAD), Connection([b"x" * 5000, None])).sent == []
    assert [path.name for path in folder.iterdir()] == ["hash"]


def test_many_uploads(folder: Path) -> None:
    """More than some at a time are refused, and later ones are served."""
    app, _ = page(folder)

    async def run() -> list[int]:
        some = [Connection([b"x", b"x"], delay_s=0.1) for _ in range(MAX_UPLOADS + 1)]
        await asyncio.gather(*(app(scope_of(UPLOAD), each.receive, each.send) for each in some))
        return [each.status for each in some]

    assert asyncio.run(run()) == [200] * MAX_UPLOADS + [503]
    assert ask(app, scope_of(UPLOAD), Connection([b"x"])).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/login",
        "/gradio_api/run/predict",
        "/gradio_api/call/upscale",
        "/gradio_api/process_recording",
        "/gradio_api/component_server",
        "/gradio_api/vibe-edit",
        "/gradio_api/upload/../process_recording",
        "//gradio_api/upload",
        "/gradio_api/Upload",
    ],
)
def test_other_posts(folder: Path, path: str) -> None:
    """What the page does not need is refused, before anything is read."""
    app, gradio = page(folder)
    connection = Connection([b"x"])
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(app, scope_of(path, method=method), connection).status == 403
    assert connection.received == 0
    assert gradio.bodies == []


READ: list[tuple[Callable[[Path], str], int]] = [
    (lambda folder: f"{folder}/hash/photo 1.png", 200),
    (lambda folder: f"{folder}/hash/../hash/photo 1.png", 200),
    (lambda folder: f"{folder}", 403),
    (lambda folder: f"{folder}/none.png", 403),
    (lambda folder: f"{folder}/../secret.png", 403),
    (lambda folder: f"{folder}/hash/../../secret.png", 403),
    (lambda folder: f"{folder}/link.png", 403),
    (lambda folder: quote(f"{folder}/../secret.png", safe=""), 403),
    (lambda folder: "/etc/passwd", 403),
    (lambda folder: "../" * 20 + "etc/passwd", 403),
    (lambda folder: "/proc/self/environ", 403),
    (lambda folder: "http://127.0.0.1:1/", 403),
    (lambda folder: f"file://{folder}/hash/photo 1.png", 403),
    (lambda folder: f"{folder}/hash/photo 1.png\0", 403),
    (lambda folder: f"{folder}/hash/photo 1.png\n", 403),
    (lambda folder: "x" * 5000, 403),
    (lambda folder: "", 403),
]


@pytest.mark.parametrize(("name", "status"), READ)
@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/file/"])
def test_files(folder: Path, route: str, name: Callable[[Path], str], status: int) -> None:
    """Only those in the folder are handed out, links followed, however the name is written."""
    if os.name == "posix":
        (folder / "link.png").symlink_to(folder.parent / "secret.png")
    app, _ = page(folder)
    assert ask(app, scope_of(f"{route}{name(folder)}", method="GET")).status == status
    if not route.endswith("/"):
        return
    value = {"data": [{"path": name(folder), "meta": {"_type": "gradio.FileData"}}]}
    assert post(app, JOIN, value) == status


def test_nothing_is_fetched(folder: Path) -> None:
    """Gradio would read addresses for a visitor."""
    app, _ = page(folder)
    for path in ("/gradio_api/proxy=http://127.0.0.1:1/", "/proxy=x"):
        assert ask(app, scope_of(path, method="GET")).status == 403
    assert ask(app, scope_of("/gradio_api/queue/data", method="GET")).status == 200


@pytest.mark.parametrize("value", [None, 1, {"path": None}, {"path": ["x"]}, {"path": {}}])
def test_paths_of_other_kinds(folder: Path, value: Any) -> None:
    """What stands under `path` is a name or is refused; without any, the body passes unchanged."""
    app, gradio = page(folder)
    status = post(app, JOIN, {"data": [[value]]})
    assert status == (403 if isinstance(value, dict) else 200)
    assert gradio.bodies == ([] if status == 403 else [json.dumps({"data": [[value]]}).encode()])


def test_bodies_that_are_no_json(folder: Path) -> None:
    """Or nested too deeply, or too large: a sentence."""
    app, _ = page(folder)
    for body, status in [(b"{", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b"", 200)]:
        assert ask(app, scope_of(JOIN), Connection([body])).status == status
    large = Connection([bytes(JSON_BYTES), b"x"])
    assert ask(app, scope_of(JOIN), large).status == 413


def test_websockets(folder: Path) -> None:
    """The page needs none."""
    app, _ = page(folder)
    answer = ask(app, scope_of(kind="websocket"))
    assert answer.sent == [{"type": "websocket.close", "code": 1008}]


def test_the_disk(folder: Path) -> None:
    """The oldest files are deleted until the others fit; their empty folders, too."""
    for index in range(10):
        path = folder / f"hash{index}" / "file.png"
        path.parent.mkdir()
        path.write_bytes(bytes(100_000))
        os.utime(path, (index, index))
    kept = Folder(folder, 350_000)
    kept.make_room()
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["hash", "hash7", "hash8", "hash9"]
    kept.make_room()
    assert sorted(path.name for path in folder.iterdir()) == left
    assert (folder.parent / "secret.png").exists()


def test_many_small_files(folder: Path) -> None:
    """Each counts as a block of the disk."""
    for index in range(50):
        (folder / "hash" / f"{index}").write_bytes(b"")
    Folder(folder, 10 * 4096).make_room()
    assert len(list((folder / "hash").iterdir())) == 10
    Folder(folder, 0).make_room()
    assert list(folder.iterdir()) == []
