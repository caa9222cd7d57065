"""Turn the body of one request into the upscaled picture, or into a status and a sentence."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srsdk.budget import INTERRUPTIBLE, Budget
from srsdk.errors import DeadlineExceeded, OutputError, PictureError, SrsdkError
from srsdk.serving.asgi import Answer, refusal

TIMEOUT_S = 60.0
"""Longest time for one picture, with waiting, decoding and encoding."""
MAX_PIXELS = 40_000_000
MAX_FRAMES = 1000
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def default_budget() -> Budget:
    """Return the limits on pictures from strangers; memory is that of the process."""
    return Budget(pixels=MAX_PIXELS, seconds=TIMEOUT_S, pages=MAX_FRAMES, formats=INTERRUPTIBLE)


class Pictures:
    """Answers requests with one Upscaler, from any number of threads.

    Args:
        up: the Upscaler; its budget limits the pictures.
    """

    def __init__(self, up: Any) -> None:
        self._up = up

    def answer(
        self, body: bytes, headers: Mapping[str, str], gone: threading.Event | None = None
    ) -> Answer:
        """Return the upscaled picture of a body.

        Args:
            body: a picture file.
            headers: of the request, by names in lower case; `accept` chooses the format.
            gone: set when the client no longer waits; the work then stops soon.
        """
        if headers.get("content-type", "").lower().lstrip().startswith("multipart/"):
            sentence = (
                "expected the picture file as body, got a form: curl --data-binary @photo.jpg"
            )
            return refusal(415, sentence)
        kind = kind_of(headers.get("accept", ""))
        try:
            return Answer(200, self._upscaled(body, SUFFIXES[kind], gone), kind)
        except _Gone:
            return refusal(499, "the client has disconnected")
        except SrsdkError as error:
            return refusal(status_of(error), str(error))

    def _upscaled(self, body: bytes, suffix: str, gone: threading.Event | None) -> bytes:
        def check(_done: int = 0, _total: int = 0) -> None:
            if gone is not None and gone.is_set():
                raise _Gone

        check()
        with tempfile.TemporaryDirectory(prefix="srsdk-", ignore_cleanup_errors=True) as folder:
            # Pillow detects the format from the content, not from the name
            small, large = Path(folder) / "picture", Path(folder) / f"large{suffix}"
            small.write_bytes(body)
            try:
                self._up.upscale_file(small, large, progress=check)
            except SrsdkError as error:
                text = str(error).replace(f"{folder}{os.sep}", "")
                # the cause tells whether the disk or the request is to blame
                raise type(error)(text) from error.__cause__
            return large.read_bytes()


class _Gone(Exception):  # noqa: N818 - no error: it ends the work for a client that has gone
    pass


def kind_of(accept: str) -> str:
    """Return the first supported media type in an Accept header that it does not exclude."""
    for part in accept.split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        if kind in SUFFIXES and not any(_is_zero(each) for each in parameters):
            return kind
    return "image/png"


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.", ".")


def status_of(error: SrsdkError) -> int:
    """Return the HTTP status of an error: 4xx where another request would do."""
    if isinstance(error, DeadlineExceeded):
        return 504
    if isinstance(error, OutputError):
        # such as WebP, which ends at 16,383 pixels; on a full disk there is a cause
        return 500 if isinstance(error.__cause__, OSError) else 422
    return 422 if isinstance(error, PictureError) else 500
