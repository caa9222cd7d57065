"""Turn one uploaded picture into the upscaled one, or into a status and a sentence."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from srsdk.budget import INTERRUPTIBLE, Budget
from srsdk.errors import DeadlineExceeded, OutputError, PictureError, SrsdkError, UsageError
from srsdk.image import decode
from srsdk.image.resize import goal
from srsdk.image.streams import source_of
from srsdk.options import PictureOptions
from srsdk.scheduling.abandon import within
from srsdk.scheduling.context import Call
from srsdk.serving.asgi import Answer, refusal

TIMEOUT_S = 60.0
"""Longest time for one picture, with waiting, decoding and encoding."""
MAX_PIXELS = 40_000_000
MAX_FRAMES = 1000
MIN_S = 1e-6
"""A timeout for a picture whose time is already over."""
KINDS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
"""Formats of results, and their media types."""
GONE = refusal(499, "the client has disconnected")


def default_budget(pixels: int = MAX_PIXELS, seconds: float = TIMEOUT_S) -> Budget:
    """Return the limits on pictures from strangers; memory is that of the process."""
    return Budget(pixels=pixels, seconds=seconds, pages=MAX_FRAMES, formats=INTERRUPTIBLE)


@dataclass(frozen=True)
class Work:
    """One picture to answer."""

    picture: bytes
    """A picture file."""
    options: PictureOptions
    """With the format of the result."""
    seconds: float
    """From `began_s` to the encoded result."""
    began_s: float = field(default_factory=time.monotonic)
    """In `time.monotonic()`."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when the client no longer waits; the work then stops soon."""

    @property
    def left_s(self) -> float:
        """Time that is left."""
        return self.seconds - (time.monotonic() - self.began_s)

    @property
    def late(self) -> Answer:
        """The answer when its time is over."""
        advice = "try a smaller picture or the server's --timeout"
        return refusal(504, f"the picture was not finished within {self.seconds:g} s; {advice}")


class Pictures:
    """Answers requests with one Upscaler, from any number of threads.

    Args:
        up: the Upscaler; its budget limits the pictures.
    """

    def __init__(self, up: Any) -> None:
        self._up = up

    def answer(self, work: Work) -> Answer:
        """Return the upscaled picture, or the sentence that says why there is none."""
        try:
            return self._upscaled(work)
        except _Gone:
            return GONE
        except DeadlineExceeded:
            return work.late
        except SrsdkError as error:
            return refusal(status_of(error), str(error))

    def _upscaled(self, work: Work) -> Answer:
        def check(_done: int = 0, _total: int = 0) -> None:
            if work.gone.is_set():
                raise _Gone

        check()
        pixels, large = self._checked_size(work), io.BytesIO()
        limits = {"progress": check, "timeout": max(MIN_S, work.left_s)}
        self._up.upscale_file(work.picture, large, options=work.options, **limits)
        return Answer(200, large.getvalue(), KINDS[str(work.options.format)], pixels=pixels)

    def _checked_size(self, work: Work) -> tuple[int, int]:
        """Return the pixels of picture and result, which a requested size must not make too many.

        Without one, the result has no more than the limit on pictures allows.
        """
        budget, scale = self._up.budget, self._up.scale
        call = Call(timeout=max(MIN_S, work.left_s), budget=budget)
        header = within(call, lambda: decode.probe(source_of(work.picture), budget=budget))
        height, width = goal(work.options, header.height, header.width, scale).size
        source_px, result_px = header.height * header.width, height * width
        limit_px = (budget.pixels or source_px) * scale**2
        if result_px > limit_px:
            raise PictureError(
                f"the result would have {result_px:,} pixels ({width}x{height}), at most "
                f"{limit_px:,} are allowed"
            )
        return source_px * header.frames, result_px * header.frames


class _Gone(Exception):  # noqa: N818 - no error: it ends the work for a client that has gone
    pass


def format_of(accept: str) -> str:
    """Return the first supported format in an Accept header that it does not exclude."""
    formats = {kind: name for name, kind in KINDS.items()}
    for part in accept.split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        if kind in formats and not any(_is_zero(each) for each in parameters):
            return formats[kind]
    return "png"


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.", ".")


def status_of(error: SrsdkError) -> int:
    """Return the HTTP status of an error: 4xx where another request would do."""
    if isinstance(error, OutputError):
        # such as WebP, which ends at 16,383 pixels; on a full disk there is a cause
        return 500 if isinstance(error.__cause__, OSError) else 422
    # a wrong use of the API by this service would show in its tests; requests choose the options
    return 422 if isinstance(error, (PictureError, UsageError)) else 500
