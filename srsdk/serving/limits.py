"""What one request to the server may take, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass

from srsdk.serving.answers import MAX_PIXELS, TIMEOUT_S
from srsdk.serving.bodies import MAX_BYTES, RECEIVE_S

MAX_ONGOING = 32
"""Pictures that one process accepts at a time, which bounds the memory for bodies."""


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    body_bytes: int = MAX_BYTES
    """Of a request body."""
    receive_s: float = RECEIVE_S
    """To receive a body."""
    pixels: int = MAX_PIXELS
    """Of a picture, before upscaling."""
    seconds: float = TIMEOUT_S
    """From the whole body to the encoded result, with waiting."""
    queue: int = MAX_ONGOING
    """Pictures that are received, wait, are in work or are sent at a time."""
