"""An HTTP server on this machine that answers well, badly, slowly or without end."""

from __future__ import annotations

import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class Server:
    """Serves `content` under any name, and misbehaves where the path says so."""

    def __init__(self, content: bytes) -> None:
        self.requests: list[tuple[str, Message]] = []
        """Path and headers of each request."""
        self.released = threading.Event()
        """Set: servers that stall go on."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers))
                kind = self.path.strip("/").partition("/")[0].partition(".")[0]
                getattr(self, f"_{kind}", self._whole)()

            def log_message(self, *_: Any) -> None:
                """Write nothing."""

            def _head(self, size: int | None, **headers: str) -> None:
                self.send_response(200)
                if size is not None:
                    self.send_header("Content-Length", str(size))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()

            def _whole(self) -> None:
                self._head(len(content), Content_Type="application/octet-stream")
                self.wfile.write(content)

            def _named(self) -> None:
                self._head(len(content), Content_Disposition='attachment; filename="a.onnx"')
                self.wfile.write(content)

            def _page(self) -> None:
                self._head(6, Content_Type="text/html; charset=utf-8")
                self.wfile.write(b"<html>")

            def _short(self) -> None:
                self._head(len(content) + 10)
                self.wfile.write(content)

            def _large(self) -> None:
                self._head(3_000_000_000)

            def _endless(self) -> None:
                self._head(None)
                try:
                    while not outer.released.is_set():
                        self.wfile.write(bytes(1 << 16))
                except OSError:
                    return

            def _stall(self) -> None:
                self._head(len(content))
                self.wfile.write(content[:100])
                self.wfile.flush()
                outer.released.wait(20)

            def _gone(self) -> None:
                self.send_error(404)

            def _to(self) -> None:
                """Redirect: /to/3 leads to /to/2, /to/1, /model.onnx; others as written."""
                rest = self.path.removeprefix("/to/")
                steps = int(rest) if rest.isdigit() else 0
                after = f"/to/{steps - 1}" if steps > 1 else "/model.onnx"
                self.send_response(302)
                self.send_header("Location", after if rest.isdigit() else rest)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the connections and the port."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._thread.join()
