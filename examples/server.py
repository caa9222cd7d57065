"""A server that upscales: `python examples/server.py MODEL`, then POST a picture to it.

One Upscaler serves all threads: tiles of all requests share its slots, on a CPU or on a GPU.
curl --data-binary @photo.jpg http://127.0.0.1:8000/ -o large.png

Anybody may send anything: each request has limits, and pages of other sites are refused.
`srsdk serve` is the same for production, with forms, options, metrics and a page of its interface.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import srsdk

MAX_BYTES = 32 << 20
RECEIVE_S = 30
FORMATS = "PNG", "JPEG", "WEBP"
BUDGET = srsdk.Budget(pixels=40_000_000, seconds=60, pages=1, formats=FORMATS)
ONGOING = threading.BoundedSemaphore(8)


class Handler(BaseHTTPRequestHandler):
    """Answers a POST with a PNG, or with the sentence that says what was wrong."""

    up: srsdk.Upscaler
    timeout = RECEIVE_S  # of each read; `receive` limits the sum

    def do_POST(self) -> None:
        """Receive, upscale, answer."""
        if not self.is_ours():
            self.send_error(403, "only pages of this server may send requests to it")
        elif not ONGOING.acquire(blocking=False):
            self.send_error(503, "too many pictures are in work")
        else:
            try:
                self.answer()
            finally:
                ONGOING.release()

    def is_ours(self) -> bool:
        """Return False for requests that web pages of others make the browser send."""
        port = self.connection.getsockname()[1]
        host = self.headers.get("Host", "")
        is_local = host in (f"127.0.0.1:{port}", f"localhost:{port}")
        return is_local and self.headers.get("Origin", f"http://{host}") == f"http://{host}"

    def answer(self) -> None:
        """Answer one request that may pass."""
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit() and len(size) < 12 and int(size) <= MAX_BYTES):
            self.send_error(413, f"expected a Content-Length of at most {MAX_BYTES} bytes")
            return
        try:
            result = self.upscaled(self.receive(int(size)))
        except TimeoutError as error:
            self.send_error(408, str(error).replace("\n", " "))
        except srsdk.SrsdkError as error:
            self.send_error(400, str(error).replace("\n", " "))
        else:
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(result)))
            self.end_headers()
            self.wfile.write(result)

    def receive(self, size: int) -> bytes:
        """Return the body, unless it arrives too slowly."""
        until_s, body = time.monotonic() + RECEIVE_S, bytearray()
        while len(body) < size:
            if time.monotonic() > until_s:
                raise TimeoutError(f"the body did not arrive within {RECEIVE_S} s")
            part = self.rfile.read1(min(1 << 16, size - len(body)))
            if not part:
                raise TimeoutError("the client has gone")
            body += part
        return bytes(body)

    def upscaled(self, body: bytes) -> bytes:
        """Return the PNG file of a picture file."""
        large = io.BytesIO()
        self.up.upscale_file(body, large, options=srsdk.PictureOptions(format="png"))
        return large.getvalue()


def main(model: str, port: str = "8000") -> None:
    """Serve until Ctrl-C; `close()`, by `with`, gives all memory back."""
    with (
        srsdk.Upscaler(model, budget=BUDGET) as up,
        ThreadingHTTPServer(("127.0.0.1", int(port)), Handler) as server,
    ):
        Handler.up = up
        up.plan(1080, 1920)  # too large a picture is known before the first one comes
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
