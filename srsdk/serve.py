"""Pictures over HTTP by Ray Serve: `serve run srsdk.serve:app model=gan_x4`.

    POST /            a picture file in the body; the large one comes back, as PNG or in the first
                      format of the `Accept` header: image/png, image/jpeg, image/webp
    GET  /healthz     200 while a picture can be upscaled, 503 when it cannot
    GET  /info        what the model file says of itself

Pictures that are there at the same time go through the engine together (dynamic batching). Metrics
go the way of all of Ray's, to Prometheus, beside Serve's own: `srsdk_pictures`, `srsdk_failures`,
`srsdk_picture_ms` and `srsdk_batch_size`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import srsdk
from srsdk.errors import BackendError, DeadlineExceeded, PictureError, SrsdkError

# read when ray is imported: it reports its use to its vendor unless it is told not to
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
try:
    from ray import serve
    from ray.util import metrics
    from starlette.responses import JSONResponse, Response
except ImportError as failure:
    raise BackendError(f"serving needs Ray Serve ({failure}): pip install 'srsdk[serve]'") from None

MAX_BYTES = 64 * 1024 * 1024
"""Largest body of a request."""
TIMEOUT_S = 60.0
"""For one picture."""
MAX_BATCH = 8
BATCH_WAIT_S = 0.005
"""How long a picture waits for company: less than the smallest one takes."""
MAX_ONGOING, MAX_QUEUED = 32, 128
"""Requests in a replica, and before all of them; Serve answers 503 to what comes on top."""
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
MS_BOUNDARIES = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0]


_batched: Any = serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)


class Service:
    """One replica: an Upscaler behind HTTP.

    Args:
        model: as for `Upscaler`.
        options: of `Upscaler`.

    Raises:
        SrsdkError: as `Upscaler` does; the replica does not start.
    """

    def __init__(self, model: str = "gan_x4", **options: Any) -> None:
        self._up = srsdk.Upscaler(model, **{"optimize": "throughput", **options})
        self._pictures = metrics.Counter("srsdk_pictures", "pictures upscaled")
        self._failures = metrics.Counter("srsdk_failures", "pictures refused or failed")
        self._ms = metrics.Histogram("srsdk_picture_ms", "request to result", MS_BOUNDARIES)
        self._sizes = metrics.Histogram("srsdk_batch_size", "at the same time", [1, 2, 4, 8])
        self.check_health()

    async def __call__(self, request: Any) -> Any:
        """Answer one request of Starlette."""
        path = request.url.path.rstrip("/")
        if path.endswith("/healthz"):
            return await self._health()
        if path.endswith("/info"):
            return JSONResponse(self._up.manifest.to_dict())
        if request.method != "POST":
            return JSONResponse({"error": "POST a picture file"}, 405, {"Allow": "POST"})
        began_s = time.perf_counter()
        body = await _body(request)
        if body is None:
            self._failures.inc()
            return JSONResponse({"error": f"more than {MAX_BYTES:,} bytes"}, 413)
        kind = _kind(request.headers)
        result = await self.together((body, kind))
        if isinstance(result, SrsdkError):
            self._failures.inc()
            return JSONResponse({"error": str(result)}, _status(result))
        self._pictures.inc()
        self._ms.observe((time.perf_counter() - began_s) * 1000)
        return Response(result, media_type=kind)

    @_batched  # type: ignore[untyped-decorator]
    async def together(self, requests: list[tuple[bytes, str]]) -> list[bytes | SrsdkError]:
        """Upscale what is there at the same time; a bad picture fails alone."""
        self._sizes.observe(len(requests))
        work = (asyncio.to_thread(self._answer, body, kind) for body, kind in requests)
        return list(await asyncio.gather(*work))

    def _answer(self, body: bytes, kind: str) -> bytes | SrsdkError:
        with tempfile.TemporaryDirectory(prefix="srsdk-", ignore_cleanup_errors=True) as folder:
            # Pillow looks into a file and not at its name
            small, large = Path(folder) / "picture", Path(folder) / f"large{SUFFIXES[kind]}"
            small.write_bytes(body)
            try:
                self._up.upscale_file(small, large, timeout=TIMEOUT_S)
            except SrsdkError as error:
                return type(error)(str(error).replace(f"{folder}{os.sep}", ""))
            return large.read_bytes()

    async def _health(self) -> Any:
        try:
            await asyncio.to_thread(self.check_health)
        except SrsdkError as error:
            return JSONResponse({"error": str(error)}, 503)
        return JSONResponse({"model": self._up.manifest.name, "backend": self._up.backend})

    def check_health(self) -> None:
        """Upscale a small picture; Serve calls it, and replaces a replica whose check raises.

        Raises:
            SrsdkError: it cannot.
        """
        self._up(np.full((16, 16, 3), 128, np.uint8), timeout=TIMEOUT_S)


def app(arguments: Mapping[str, Any]) -> Any:
    """Return the application for `serve run srsdk.serve:app NAME=VALUE...` or `serve.run(app({}))`.

    Args:
        arguments: `replicas` (1), `cpus` (1, also the threads of the backend) and `gpus` (0) of
            each; the others go to `Upscaler`: `model`, `device`, `backend`, ...
    """
    options = dict(arguments)
    replicas, cpus, gpus = (options.pop(name, default) for name, default in _PLACES)
    threads = max(1, int(float(cpus)))
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


_PLACES = (("replicas", 1), ("cpus", 1), ("gpus", 0))


async def _body(request: Any) -> bytes | None:
    """Return the body, or None where it is too large, which is not read to its end."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            return None
    return b"".join(parts)


def _kind(headers: Mapping[str, str]) -> str:
    wanted = (part.partition(";")[0].strip() for part in headers.get("accept", "").split(","))
    return next((kind for kind in wanted if kind in SUFFIXES), "image/png")


def _status(error: SrsdkError) -> int:
    if isinstance(error, DeadlineExceeded):
        return 504
    return 422 if isinstance(error, PictureError) else 500
