"""Run the service with uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from srsdk.errors import BackendError, OutputError, UsageError
from srsdk.serving.asgi import App, Message, Receive, Scope, Send, refusal, send_answer, values

LOOPBACK = "127.0.0.1"
GRACE_S = 30.0
"""How long a server that was told to stop finishes what is in work."""
DRAIN_S = 2.0
"""How long the rest of a body that is refused is read, and forgotten."""
BACKLOG = 128
"""Connections that the system holds until they are accepted."""
EXTRA = "the server needs {}: pip install 'srsdk[http]'"


def listen(host: str = LOOPBACK, port: int = 8000) -> socket.socket:
    """Return a socket that is bound and does not listen yet: 0 chooses a free port.

    Raises:
        UsageError: no such address on this machine.
        OutputError: the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"{host!r} is no address of this machine: {error}") from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would share the port with another server
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OutputError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return bound


def address_of(bound: socket.socket) -> str:
    """Return the address to open in a browser on this machine."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = LOOPBACK
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def check_installed() -> None:
    """Check that uvicorn and the libraries of the application are installed.

    Raises:
        BackendError: names the extra that installs them.
    """
    for name in ("uvicorn", "fastapi", "fastapi_offline", "python_multipart", "prometheus_client"):
        if importlib.util.find_spec(name) is None:
            raise BackendError(EXTRA.format(name))


def run(
    app: App,
    bound: socket.socket,
    *,
    grace_s: float = GRACE_S,
    ready: Callable[[], None] = lambda: None,
) -> bool:
    """Serve until SIGTERM or Ctrl-C, then refuse new requests and finish those in work.

    Args:
        app: the ASGI application.
        bound: from `listen`; it is closed.
        grace_s: time to finish what is in work.
        ready: called once requests are accepted.

    Returns:
        Whether everything in work was finished: False where time was over, or Ctrl-C came twice.
    """
    import uvicorn

    from srsdk.serving.http.protocol import Protocol

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    watched = Watched(app)
    config = uvicorn.Config(
        watched,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        # whole seconds in its type, any number in fact
        timeout_graceful_shutdown=grace_s,  # type: ignore[arg-type]
    )
    with bound, _signals_kept():
        Server(config).run([bound])
    return not watched.cut_off


class Watched:
    """An application as uvicorn needs it: answers arrive, and are sent when `send` returns.

    Requests are cancelled only when the server gives them up.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.cut_off = False
        """Whether the server has given up a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""
        if scope["type"] != "http":
            with contextlib.suppress(asyncio.CancelledError):
                await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            self.cut_off = True
            if not exchange.started:
                await send_answer(send, refusal(503, "the server stops", connection="close"))


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        # whoever asks before the body does not send it after a refusal
        self._unread = scope["method"] == "POST" and not values(scope, b"expect")
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = self._unread and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if not self.started and self._unread:
            await self._drain()
        self.started = True
        if message.get("body") and not message.get("more_body"):
            # uvicorn waits for the client before it takes a part, not after it
            await self._send({**message, "more_body": True})
            message = {**message, "body": b""}
        await self._send(message)

    async def _drain(self) -> None:
        """Read on for a moment: a client that is cut off while it sends sees no answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self._unread:
                    await self.receive()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Let no signal end the process that the server has handled: it sends each again at its end."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_requests(stream: Any) -> None:
    """Write a line for each request, and uvicorn's warnings, to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("srsdk.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
