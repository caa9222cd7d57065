"""HTTP service with Ray Serve: `serve run srsdk.serve:app model=gan_x4`.

    POST /            upscale the picture file in the body; the result is a PNG or the first
                      supported format of `Accept`: image/png, image/jpeg, image/webp
    GET  /healthz     200 if a test picture can be upscaled, otherwise 503
    GET  /info        metadata of the model

Pictures that arrive at the same time are processed together (dynamic batching). Ray exports these
metrics to Prometheus, next to Serve's own: `srsdk_pictures`, `srsdk_failures`, `srsdk_picture_ms`
and `srsdk_batch_size`.
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

# read when ray is imported: otherwise it reports usage statistics to its vendor
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
try:
    from ray import serve
    from ray.util import metrics
    from starlette.responses import JSONResponse, Response
except ImportError as failure:
    raise BackendError(f"serving needs Ray Serve ({failure}): pip install 'srsdk[serve]'") from None

MAX_BYTES = 64 * 1024 * 1024
"""Largest request body."""
TIMEOUT_S = 60.0
"""Time limit for one picture."""
MAX_BATCH = 8
BATCH_WAIT_S = 0.005
"""How long a picture waits for others to join its batch: less than the smallest one takes."""
MAX_ONGOING, MAX_QUEUED = 32, 128
"""Requests running per replica, and requests queued in total; Serve rejects more with 503."""
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
MS_BOUNDARIES = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0]


_batched: Any = serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)


class Service:
    """One replica: an Upscaler behind HTTP.

    Args:
        model: as for `Upscaler`.
        options: passed to `Upscaler`.

    Raises:
        SrsdkError: as for `Upscaler`; the replica does not start.
    """

    def __init__(self, model: str = "gan_x4", **options: Any) -> None:
        self._up = srsdk.Upscaler(model, **{"optimize": "throughput", **options})
        self._pictures = metrics.Counter("srsdk_pictures", "pictures upscaled")
        self._failures = metrics.Counter("srsdk_failures", "pictures rejected or failed")
        self._ms = metrics.Histogram("srsdk_picture_ms", "time per request in ms", MS_BOUNDARIES)
        self._sizes = metrics.Histogram("srsdk_batch_size", "pictures per batch", [1, 2, 4, 8])
        self.check_health()

    async def __call__(self, request: Any) -> Any:
        """Answer one Starlette request."""
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
            return JSONResponse({"error": f"the body exceeds {MAX_BYTES:,} bytes"}, 413)
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
        """Upscale one batch of requests; a bad picture fails alone."""
        self._sizes.observe(len(requests))
        work = (asyncio.to_thread(self._answer, body, kind) for body, kind in requests)
        return list(await asyncio.gather(*work))

    def _answer(self, body: bytes, kind: str) -> bytes | SrsdkError:
        with tempfile.TemporaryDirectory(prefix="srsdk-", ignore_cleanup_errors=True) as folder:
            # Pillow detects the format from the content, not from the name
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
        """Upscale a small picture; Serve replaces a replica whose check raises.

        Raises:
            SrsdkError: upscaling failed.
        """
        self._up(np.full((16, 16, 3), 128, np.uint8), timeout=TIMEOUT_S)


def app(arguments: Mapping[str, Any]) -> Any:
    """Build the application for `serve run srsdk.serve:app NAME=VALUE...` or `serve.run(app({}))`.

    Args:
        arguments: `replicas` (1), and for each replica `cpus` (1, also the backend's threads) and
            `gpus` (0); all others go to `Upscaler`: `model`, `device`, `backend`, ...
    """
    options = dict(arguments)
    replicas, cpus, gpus = (options.pop(name, default) for name, default in _RESOURCES)
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


_RESOURCES = (("replicas", 1), ("cpus", 1), ("gpus", 0))


async def _body(request: Any) -> bytes | None:
    """Return the body, or None if it is too large; reading stops at the limit."""
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
