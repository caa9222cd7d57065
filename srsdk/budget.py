"""`Budget`: limits on pictures that all calls sharing it keep together."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from srsdk.errors import PictureError, UsageError
from srsdk.system import memory_limits

CHECK_S = 0.05
"""Interval at which a waiting call checks for cancellation and its deadline."""
INTERRUPTIBLE = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP")
"""Usual formats whose decoders let other threads run, for servers: deadlines hold.

Those of HEIF and JXL do so too, but have been read by strangers' files for fewer years: a server
that wants them says so, as in `formats=(*INTERRUPTIBLE, "HEIF")`."""
PAGES = 10_000
"""Frames or pages of one file, unless a budget says otherwise."""
FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "JPEG2000", "HEIF", "PPM", "TGA"),
    *("ICO", "PSD", "QOI", "DDS", "PCX", "SGI", "JXL"),
)
"""Formats that are decoded, by Pillow's names; HEIF needs `srsdk[heif]`, JXL `srsdk[jxl]`. Never
those that run a program (EPS starts Ghostscript) or ask the system (WMF)."""


class Budget:
    """Limits on pictures from strangers; calls that share a budget share its memory.

    A picture that could never fit is refused with `PictureError` before it is decoded. One that
    fits alone, but not beside those in work, waits for its turn, in order of arrival. Give the same
    budget to every `Upscaler` of a process: `Upscaler("gan_x4", budget=budget)`.

    Args:
        memory_bytes: memory for all pictures in work; None: four fifths of what is available.
        pixels: largest picture or frame of a file, before upscaling. Pillow's own limit
            (twice `PIL.Image.MAX_IMAGE_PIXELS`) stays; None: only that.
        seconds: longest call, with decoding, waiting and encoding; None: the call's `timeout` only.
        pages: frames or pages of one file.
        formats: formats to decode, of `srsdk.budget.FORMATS`. Leave JPEG2000 out where calls have
            deadlines: its decoder stops all threads of the process, about 0.5 s per megapixel.

    Raises:
        UsageError: a limit that is not above 0, or an unknown format.
    """

    def __init__(
        self,
        *,
        memory_bytes: int | None = None,
        pixels: int | None = None,
        seconds: float | None = None,
        pages: int = PAGES,
        formats: Sequence[str] = FORMATS,
    ) -> None:
        for name, value in (("memory_bytes", memory_bytes), ("pixels", pixels), ("pages", pages)):
            _check_limit(name, value, int)
        _check_limit("seconds", seconds, (int, float))
        listed = () if isinstance(formats, str) or not isinstance(formats, Sequence) else formats
        if not listed or any(name not in FORMATS for name in listed):
            raise UsageError(f"formats is {formats!r}, expected some of {', '.join(FORMATS)}")
        self.formats = tuple(formats)
        self.memory_bytes, self.pixels, self.seconds, self.pages = (
            memory_bytes, pixels, seconds, pages,
        )  # fmt: skip
        # entered by itself, not through the condition, whose `with` Ctrl-C can leave locked
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[object] = deque()
        self._held: dict[object, int] = {}
        self._idle_bytes = 0
        self._holding = threading.local()

    @property
    def reserved_bytes(self) -> int:
        """Memory set aside for the pictures in work now."""
        return sum(list(self._held.values()))

    def check_size(self, height: int, width: int) -> None:
        """Refuse a picture with too many pixels.

        Raises:
            PictureError: names its pixels and the limit.
        """
        if self.pixels is not None and height * width > self.pixels:
            raise PictureError(
                f"the picture has {height * width:,} pixels ({width}x{height}), at most "
                f"{self.pixels:,} are allowed"
            )

    def check_pages(self, count: int) -> None:
        """Refuse a file with too many frames or pages.

        Raises:
            PictureError: names their number and the limit.
        """
        if count > self.pages:
            raise PictureError(f"the file has {count:,} frames, at most {self.pages:,} are allowed")

    def allowance(self, limit_bytes: int | None) -> int:
        """Return the bytes that a picture may take while no other is in work."""
        own = [limit for limit in (limit_bytes, self.memory_bytes) if limit is not None]
        free = memory_limits.allowance(None)
        # what the others were promised is theirs only for now
        return min([*own, max(free, min(self._idle_bytes, free + self.reserved_bytes))])

    def check_memory(self, need_bytes: int, limit_bytes: int | None, advice: str = "") -> None:
        """Refuse a picture that does not fit even alone.

        Args:
            need_bytes: memory it needs, with `memory_limits.FIXED_BYTES` where it counts them.
            limit_bytes: limit of this picture; None: only that of the budget.
            advice: what would help, for the message.

        Raises:
            PictureError: names the bytes needed and the bytes available.
        """
        own = [limit for limit in (limit_bytes, self.memory_bytes) if limit is not None]
        if not own and need_bytes <= memory_limits.ALWAYS_FINE_BYTES:
            return
        allowed = self.allowance(limit_bytes)
        if need_bytes > allowed:
            given = "are allowed" if own and min(own) <= allowed else "are available"
            raise PictureError(
                f"the picture needs {need_bytes:,} bytes of memory, {allowed:,} {given}"
                + (f": {advice}" if advice else "")
            )

    @contextmanager
    def reserve(
        self,
        need_bytes: int,
        check: Callable[[], None] = lambda: None,
        abandoned: list[Future[Any]] | None = None,
    ) -> Iterator[None]:
        """Set memory aside for one picture, waiting for those before it.

        Args:
            need_bytes: memory that the picture needs besides `memory_limits.FIXED_BYTES`.
            check: called while waiting; an exception from it ends the wait.
            abandoned: work that a deadline left behind; its memory is free when it ends.

        Raises:
            PictureError: too little memory, and no other picture that could give any back; or this
                thread holds memory already and would wait for itself.
        """
        ticket = object()
        self._depth += 1
        try:
            self._take(ticket, need_bytes, check)
            yield
        finally:
            self._depth -= 1
            pending = [each for each in abandoned or () if not each.done()]
            if pending:
                # one thread at a time is abandoned: the last ends last
                pending[-1].add_done_callback(lambda _: self._give_back(ticket))
            else:
                self._give_back(ticket)

    def _take(self, ticket: object, need_bytes: int, check: Callable[[], None]) -> None:
        with self._lock:
            if not self._waiting and self._fits(need_bytes):
                self._held[ticket] = need_bytes
                return
            try:
                self._waiting.append(ticket)
                while self._waiting[0] is not ticket or not self._fits(need_bytes):
                    self._check_wait(ticket, need_bytes)
                    check()
                    self._changed.wait(CHECK_S)
                self._held[ticket] = need_bytes
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _check_wait(self, ticket: object, need_bytes: int) -> None:
        """Raise if waiting would never end."""
        if not self._held and self._waiting[0] is ticket:
            self.check_memory(need_bytes + memory_limits.FIXED_BYTES, None)
        if self._depth > 1:
            raise PictureError(
                f"the picture needs {need_bytes:,} bytes of memory, which another call of this "
                "thread holds: do not start it from a progress callback"
            )

    def _fits(self, need_bytes: int) -> bool:
        total = self.reserved_bytes + need_bytes
        if self.memory_bytes is None and total <= memory_limits.ALWAYS_FINE_BYTES:
            return True
        free = memory_limits.allowance(None)
        if not self._held:
            self._idle_bytes = free
        limit = self._idle_bytes if self.memory_bytes is None else self.memory_bytes
        fixed = memory_limits.FIXED_BYTES
        return total + fixed <= max(limit, 0) and need_bytes + fixed <= free

    def _give_back(self, ticket: object) -> None:
        with self._lock:
            self._held.pop(ticket, None)
            self._changed.notify_all()

    @property
    def _depth(self) -> int:
        return getattr(self._holding, "depth", 0)

    @_depth.setter
    def _depth(self, value: int) -> None:
        self._holding.depth = value

    def __repr__(self) -> str:
        return (
            f"Budget(memory_bytes={self.memory_bytes}, pixels={self.pixels}, "
            f"seconds={self.seconds}, pages={self.pages}, formats={self.formats})"
        )


def _check_limit(name: str, value: Any, kind: Any) -> None:
    if value is None and name != "pages":
        return
    if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UsageError(f"{name} is {value!r}, expected a number above 0")


DEFAULT = Budget()
"""The budget of all calls that were given none: they share the memory of the process."""
