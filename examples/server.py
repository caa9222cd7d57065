"""A server that upscales: `python examples/server.py MODEL`, then POST a picture to it.

One Upscaler serves all threads: tiles of all requests share its slots, on a CPU or on a GPU.
curl --data-binary @photo.jpg http://127.0.0.1:8000/ -o large.png
"""

from __future__ import annotations

import io
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

import srsdk

MAX_BYTES = 32 << 20
TIMEOUT_S = 60


class Handler(BaseHTTPRequestHandler):
    """Answers a POST with a PNG, or with the sentence that says what was wrong."""

    up: srsdk.Upscaler

    def do_POST(self) -> None:
        """Decode, upscale, encode."""
        size = int(self.headers.get("Content-Length", 0))
        if not 0 < size <= MAX_BYTES:
            self.send_error(413, f"expected 1 to {MAX_BYTES} bytes")
            return
        try:
            picture = Image.open(io.BytesIO(self.rfile.read(size)))
            answer = io.BytesIO()
            self.up(picture, timeout=TIMEOUT_S).save(answer, "PNG")
        except (OSError, srsdk.SrsdkError) as error:
            self.send_error(400, str(error).replace("\n", " "))
            return
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        self.wfile.write(answer.getvalue())


def main(model: str, port: int = 8000) -> None:
    """Serve until Ctrl-C; `close()`, by `with`, gives all memory back."""
    with srsdk.Upscaler(model) as up, ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        Handler.up = up
        up.plan(1080, 1920)  # too large a picture is known before the first one comes
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
