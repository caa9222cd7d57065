"""The pictures of one Upscaler: who may send, how many at a time, and for how long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from srsdk.errors import SrsdkError
from srsdk.serving.answers import GONE, Pictures, Work, format_of
from srsdk.serving.asgi import (
    Answer,
    Disconnected,
    Receive,
    Refused,
    Scope,
    json_answer,
    refusal,
    values,
)
from srsdk.serving.bodies import Incoming
from srsdk.serving.http.forms import read_upload
from srsdk.serving.http.queries import Query
from srsdk.serving.limits import Limits
from srsdk.system.threads import started_pool

FRESH_S = 5.0
"""How long a picture that was upscaled proves that the next one can be."""
CHECK_S = 10.0
"""Longest time for the picture of a health check."""
MARGIN_S = 0.5
"""How much later than its own deadline a picture is given up: its own sentence says more."""


class Service:
    """Upscales the pictures of requests with one Upscaler.

    Args:
        up: the Upscaler; `close` closes it.
        limits: of each request and of all together.
        submit: how a picture gets its answer; None: in a thread of a pool.

    Raises:
        SrsdkError: the first picture cannot be upscaled, or no thread can be started.
    """

    def __init__(
        self,
        up: Any,
        *,
        limits: Limits | None = None,
        submit: Callable[[Work], Awaitable[Answer]] | None = None,
    ) -> None:
        self.up, self.limits = up, limits or Limits()
        self._pictures = Pictures(up)
        self._submit = submit or self.work
        self._lock = threading.Lock()
        self._checking: asyncio.Future[None] | None = None
        self._worked_s = -FRESH_S
        self.ongoing = 0
        """Pictures that are accepted and not yet answered."""
        self.waiting = 0
        """Of those, the ones that wait for a thread."""
        self.check_health()
        # all threads at once, so that none waits for a thread beyond its deadline
        self._pool = started_pool(up.ahead, "srsdk-serving")

    def close(self) -> None:
        """Finish the pictures in work and close the Upscaler."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.up.close()

    @property
    def is_full(self) -> bool:
        """Whether the next picture will be refused."""
        return self.ongoing >= self.limits.queue

    def refuse(self) -> Answer:
        """Return the answer to a picture for which there is no room."""
        sentence = f"{self.ongoing} pictures are in work; try again later"
        return refusal(503, sentence, retry_after="1", connection="close")

    async def respond(self, scope: Scope, receive: Receive, query: Query) -> Answer:
        """Receive one picture and return its answer; the caller counts `ongoing`."""
        try:
            incoming = Incoming(scope, receive, self.limits.body_bytes, self.limits.receive_s)
            upload = await read_upload(scope, incoming)
            accept = next(iter(values(scope, b"accept")), "")
            options = query.with_fields(upload.fields).options(format_of(accept))
        except Refused as refused:
            return refused.answer
        except Disconnected:
            return GONE
        return await self._answer(Work(upload.picture, options, self.limits.seconds), incoming)

    async def _answer(self, work: Work, receive: Receive) -> Answer:
        """Return the answer to one picture, or give it up when its client goes."""
        answer = asyncio.ensure_future(self._submit(work))
        watch = asyncio.ensure_future(_disconnected(receive))
        try:
            wait_s = work.left_s + MARGIN_S
            await asyncio.wait({answer, watch}, timeout=wait_s, return_when="FIRST_COMPLETED")
            if answer.done():
                return answer.result()
            return GONE if watch.done() else work.late
        finally:
            # a picture that waits is taken out of the queue; one in work stops at its next tile
            work.gone.set()
            answer.cancel()
            watch.cancel()

    async def work(self, work: Work) -> Answer:
        """Answer in a thread of the pool."""
        self._count(1)
        found: Future[Answer] = self._pool.submit(self._begun, work)
        try:
            return await asyncio.wrap_future(found)
        finally:
            if found.cancelled():
                self._count(-1)

    def _begun(self, work: Work) -> Answer:
        self._count(-1)
        answer = self._pictures.answer(work)
        if answer.status == 200:
            self._worked_s = time.monotonic()
        return answer

    def _count(self, change: int) -> None:
        with self._lock:
            self.waiting += change

    async def health(self) -> Answer:
        """Say whether pictures can be upscaled; many questions at once cost one picture."""
        if time.monotonic() - self._worked_s > FRESH_S:
            if self._checking is None or self._checking.done():
                self._checking = asyncio.ensure_future(asyncio.to_thread(self.check_health))
            try:
                await asyncio.shield(self._checking)
            except SrsdkError as error:
                return refusal(503, str(error))
        return json_answer({"status": "ok", "model": self.up.manifest.name})

    def readiness(self) -> Answer:
        """Say whether the next picture would be accepted."""
        return self.refuse() if self.is_full else json_answer({"status": "ok"})

    def check_health(self) -> None:
        """Upscale a small picture.

        Raises:
            SrsdkError: upscaling failed.
        """
        self.up(np.full((16, 16, 3), 128, np.uint8), timeout=CHECK_S)
        self._worked_s = time.monotonic()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
