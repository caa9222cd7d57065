"""`srsdk serve` as users run it: a process, uvicorn, sockets, signals."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import main
from tests.conftest import make_picture
from tests.srsdk.serving.clients import bomb, encoded, form
from tests.srsdk.serving.running import Running, running

PHOTO = encoded(Image.fromarray(make_picture(20, 24)))
SLOW = ("--model", "gan_x4", "--tile", "32", "--threads", "1")
"""Options of a server that takes seconds for `LARGE`."""
LARGE = encoded(Image.fromarray(make_picture(480, 480)))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Run one server."""
    with running("--model", "gan_x2", "--max-body", "1MiB", "--queue", "8") as found:
        yield found


def wait(true: Callable[[], bool]) -> None:
    """Wait until the server has done something."""
    until_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_pictures(server: Running) -> None:
    """Raw or in a form, the result equals the Upscaler's."""
    body, (name, kind) = form(("image", PHOTO, "photo.png"))
    raw, in_form = server.ask("/", PHOTO), server.ask("/", body, headers={name: kind})
    assert raw[:2] == in_form[:2]
    assert (raw[0], raw[2]["content-type"]) == (200, "image/png")
    with srsdk.Upscaler("gan_x2") as up, Image.open(io.BytesIO(raw[1])) as image:
        np.testing.assert_array_equal(np.asarray(image), up(make_picture(20, 24)))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_documentation(server: Running, tmp_path: Path) -> None:
    """Those of docs/server.md work, with the port of this server."""
    (tmp_path / "photo.jpg").write_bytes(encoded(Image.fromarray(make_picture(20, 24)), "JPEG"))
    text = (Path(__file__).parents[3] / "docs" / "server.md").read_text(encoding="utf-8")
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ curl ")]
    assert len(commands) >= 4
    for command in commands:
        line = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "error" not in done.stdout
    for path in tmp_path.glob("large*"):
        with Image.open(path) as image:
            image.load()


def test_errors_are_json(server: Running) -> None:
    """Whatever is wrong with a request."""
    # a client that expects "100 Continue" sends no body before it
    large = {"Expect": "100-continue", "Content-Length": str((1 << 20) + 1)}
    cases = [
        (404, server.error("/nothing")),
        (405, server.error("/", method="DELETE")),
        (413, server.error("/", method="POST", headers=large)),
        (415, server.error("/", b"{}", headers={"Content-Type": "application/json"})),
        (421, server.error("/", headers={"Host": "evil.example"})),
        (403, server.error("/", PHOTO, headers={"Origin": "http://evil.example"})),
        (422, server.error("/?quality=0", PHOTO)),
        (422, server.error("/", bomb(30_000, 30_000))),
        (422, server.error("/", PHOTO[:200])),
    ]
    for status, (found, sentence) in cases:
        assert (found, bool(sentence)) == (status, True)


def test_refusals_arrive(server: Running) -> None:
    """A client that sends a large body at once gets the sentence, not a broken connection."""
    large = bytes(30 << 20)
    for headers, path, status in (
        ({}, "/", 413),
        ({"Origin": "http://evil.example"}, "/", 403),
        ({}, "/?quality=0", 422),
        ({}, "/nothing", 404),
    ):
        assert server.error(path, large, headers=headers)[0] == status


def test_what_people_and_programs_ask_for(server: Running) -> None:
    """Health, readiness, metadata, metrics and the description of the interface."""
    assert server.ask("/healthz")[0] == server.ask("/readyz")[0] == 200
    assert json.loads(server.ask("/info")[1])["name"] == "gan_x2"
    description = json.loads(server.ask("/openapi.json")[1])
    post = description["paths"]["/"]["post"]
    assert {each["name"] for each in post["parameters"]} == {
        *("format", "quality", "scale", "width", "height", "fit"),
    }
    assert {"multipart/form-data", "image/*"} <= post["requestBody"]["content"].keys()
    assert {"200", "413", "415", "422", "503", "504"} <= post["responses"].keys()
    assert {"/healthz", "/readyz", "/info", "/metrics"} <= description["paths"].keys()


def test_the_access_log(server: Running) -> None:
    """A line for each request, without what would control a terminal; none for good probes."""
    server.ask("/%1b%5b31mred%0aline")
    server.ask("/healthz")
    server.ask("/?scale=1.5", PHOTO)
    server.ask("/last")
    wait(lambda: "/last" in server.text)
    assert r"127.0.0.1 GET /\x1b[31mred\nline 404 0 -> " in server.text
    assert f"127.0.0.1 POST / 200 {len(PHOTO):,} -> " in server.text
    assert "healthz" not in server.text
    assert "scale" not in server.text


def test_broken_requests(server: Running) -> None:
    """Truncated, too long, unfinished or senseless ones end, and the next picture is served."""
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    for text, ending in (
        (f"{head}Content-Length: {len(PHOTO) + 9}\r\n\r\n", b""),
        (f"{head}Content-Length: {10**15}\r\n\r\n", b"HTTP/1.1 413 "),
        (f"{head}Content-Length: -1\r\n\r\n", b"HTTP/1.1 400 "),
        (f"{head}Content-Length: 9\r\nContent-Length: 8\r\n\r\n", b"HTTP/1.1 400 "),
        (f"{head}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n", b""),
        (f"{head}X: {'x' * 1_000_000}\r\n\r\n", b"HTTP/1.1 4"),
        ("\x00\x01\r\n\r\n", b"HTTP/1.1 400 "),
    ):
        with server.connect() as connection:
            connection.sendall(text.encode() + (PHOTO if not ending else b""))
            if not ending:
                connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100).startswith(ending)
    wait(lambda: server.metric("srsdk_in_flight") == 0)
    assert server.ask("/", PHOTO)[0] == 200


def test_more_clients_than_places(server: Running) -> None:
    """Some are told when to come again, all others served; a moment later everybody is."""
    body = encoded(Image.fromarray(make_picture(300, 300)))
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: server.ask("/", body), range(64)))
    refused = [headers for status, _, headers in answers if status == 503]
    assert {status for status, _, _ in answers} == {200, 503}
    assert all(headers["retry-after"] == "1" for headers in refused)
    assert len({body for status, body, _ in answers if status == 200}) == 1
    wait(lambda: server.ask("/readyz")[0] == 200)
    assert server.ask("/", PHOTO)[0] == 200


def test_a_graceful_stop() -> None:
    """SIGTERM refuses new connections, finishes what is in work and exits with 0."""
    with running(*SLOW) as server, ThreadPoolExecutor(2) as pool:
        some = [pool.submit(server.ask, "/", LARGE) for _ in range(2)]
        wait(lambda: server.metric("srsdk_in_flight") == 2)
        server.process.send_signal(signal.SIGTERM)
        wait(lambda: not answers(server.port))
        assert [each.result()[0] for each in some] == [200, 200]
        assert server.wait() == 0
        assert server.lines[-1] == "srsdk: stopped\n"


def answers(port: int) -> bool:
    """Whether somebody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("second", [None, signal.SIGINT])
def test_a_stop_that_takes_too_long(second: int | None) -> None:
    """After --grace, or a second Ctrl-C, the work is cut off, which the exit code says."""
    grace = ("--grace", "0.2" if second is None else "600")
    with running(*SLOW, *grace) as server:
        body = encoded(Image.fromarray(make_picture(2000, 2000)))
        cut: list[Exception] = []

        def ask() -> None:
            try:
                server.ask("/", body)
            except OSError as error:
                cut.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        wait(lambda: server.metric("srsdk_in_flight") == 1)
        server.process.send_signal(signal.SIGINT)
        if second is not None:
            wait(lambda: not answers(server.port))
            server.process.send_signal(second)
        assert server.wait() == 1
        thread.join()
        assert "cut off" in server.lines[-1]
        assert "Traceback" not in server.text


def test_a_port_that_is_taken(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """It is known before a model is opened."""
    assert main(["serve", "--port", str(server.port), "--model", "gan_x2"]) == 1
    assert f"cannot listen on 127.0.0.1 port {server.port}" in capsys.readouterr().err
    assert main(["serve", "--host", "256.1.1.1"]) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        *(("--max-body", "0"), ("--max-body", "much"), ("--timeout", "0"), ("--timeout", "nan")),
        *(("--queue", "0"), ("--port", "65536"), ("--port", "-1"), ("--grace", "x")),
    ],
)
def test_wrong_flags(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """They are usage errors that name the flag and the value."""
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *wrong])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert wrong[0] in message
    assert wrong[1] in message


def test_other_interfaces() -> None:
    """On another address than the loopback the names are this machine's and those allowed."""
    with running("--model", "gan_x2", "--host", "0.0.0.0", "--allow-host", "up.example") as server:
        for host, status in (("up.example:9", 200), ("localhost", 200), ("evil.example", 421)):
            assert server.ask("/info", headers={"Host": host})[0] == status
        assert server.ask("/healthz", headers={"Host": "10.1.2.3:8000"})[0] == 200


def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve"]) == 1
    assert "pip install 'srsdk[http]'" in capsys.readouterr().err


def test_the_command_line_needs_no_server(repository: Path) -> None:
    """Without the extra, all other commands work: nothing of it is imported."""
    code = "import sys, srsdk.cli.main as m; m.make_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "uvicorn", "starlette", "pydantic"} & set(done.stdout.split())
