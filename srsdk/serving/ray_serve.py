"""HTTP service with Ray Serve: `serve run srsdk.serve:app model=gan_x4`.

The requests are those of `srsdk.serving.app`. Pictures that arrive at the same time begin together
(dynamic batching). Ray exports these metrics to Prometheus, next to Serve's own: `srsdk_pictures`,
`srsdk_failures`, `srsdk_picture_ms` and `srsdk_batch_size`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from typing import Any

import srsdk
from srsdk.errors import BackendError
from srsdk.serving import app as application
from srsdk.serving.answers import TIMEOUT_S, Work
from srsdk.serving.asgi import Answer, Message
from srsdk.serving.limits import MAX_ONGOING

# read when ray is imported: otherwise it reports usage statistics to its vendor
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
try:
    from ray import serve
    from ray.util import metrics
    from starlette.responses import Response
except ImportError as failure:
    raise BackendError(f"serving needs Ray Serve ({failure}): pip install 'srsdk[serve]'") from None

MAX_BATCH = 8
BATCH_WAIT_S = 0.005
"""How long a picture waits for others to join its batch: less than the smallest one takes."""
MAX_QUEUED = 128
"""Requests queued in total; Serve rejects more with 503."""
MS_BOUNDARIES = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0]
_batched: Any = serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)


class Service:
    """One replica: an Upscaler behind HTTP.

    Args:
        model: as for `Upscaler`.
        hosts: see `srsdk.serving.app.make_app`.
        origins: see there.
        options: passed to `Upscaler`.

    Raises:
        SrsdkError: as for `Upscaler`; the replica does not start.
    """

    def __init__(
        self,
        model: str = "gan_x4",
        *,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        **options: Any,
    ) -> None:
        up = srsdk.Upscaler(model, **application.open_options(options))
        self._app = application.application(up, hosts=hosts, origins=origins, submit=self._submit)
        self._service = self._app.service
        self._pictures = metrics.Counter("srsdk_pictures", "pictures upscaled")
        self._failures = metrics.Counter("srsdk_failures", "pictures rejected or failed")
        self._ms = metrics.Histogram("srsdk_picture_ms", "time per request in ms", MS_BOUNDARIES)
        self._sizes = metrics.Histogram("srsdk_batch_size", "pictures per batch", [1, 2, 4, 8])

    async def __call__(self, request: Any) -> Any:
        """Answer one Starlette request."""
        began_s, sent = time.perf_counter(), _Sent()
        await self._app(request.scope, request.receive, sent)
        if request.method == "POST":
            self._count(sent.status, (time.perf_counter() - began_s) * 1000)
        headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in sent.headers}
        return Response(bytes(sent.body), sent.status, headers)

    def _count(self, status: int, ms: float) -> None:
        if status != 200:
            self._failures.inc()
            return
        self._pictures.inc()
        self._ms.observe(ms)

    async def _submit(self, work: Work) -> Answer:
        begun = await self.together(work)
        answer: Answer = await begun
        return answer

    @_batched  # type: ignore[untyped-decorator]
    async def together(self, works: list[Work]) -> list[Any]:
        """Begin one batch; each picture ends alone, so that a slow one delays no other answer."""
        self._sizes.observe(len(works))
        return [asyncio.ensure_future(self._service.work(work)) for work in works]

    def check_health(self) -> None:
        """Upscale a small picture; Serve replaces a replica whose check raises.

        Raises:
            SrsdkError: upscaling failed.
        """
        self._service.check_health()


class _Sent:
    """Collects what the application sends."""

    def __init__(self) -> None:
        self.status, self.body = 500, bytearray()
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.headers = message.get("headers", self.headers)
        self.body += message.get("body", b"")


def app(arguments: Mapping[str, Any]) -> Any:
    """Build the application for `serve run srsdk.serve:app NAME=VALUE...` or `serve.run(app({}))`.

    Args:
        arguments: `replicas` (1), and for each replica `cpus` (1, also the backend's threads) and
            `gpus` (0); `hosts` and `origins`, a list or separated by commas, see `make_app`; all
            others go to `Upscaler`: `model`, `device`, `backend`, ...
    """
    options = dict(arguments)
    replicas, cpus, gpus = (options.pop(name, default) for name, default in _RESOURCES)
    threads = max(1, int(float(cpus)))
    for name in {"hosts", "origins"} & options.keys():
        if isinstance(options[name], str):
            options[name] = [each.strip() for each in options[name].split(",")]
    deployment = serve.deployment(
        name="srsdk",
        num_replicas=int(replicas),
        max_ongoing_requests=MAX_ONGOING,
        max_queued_requests=MAX_QUEUED,
        health_check_period_s=10,
        health_check_timeout_s=TIMEOUT_S,
        ray_actor_options={"num_cpus": float(cpus), "num_gpus": float(gpus)},
    )
    return deployment(Service).bind(**{"threads": threads, **options})


_RESOURCES = (("replicas", 1), ("cpus", 1), ("gpus", 0))
