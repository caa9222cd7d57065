"""Upscale planned pictures on a Ray cluster and yield their outcomes."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from srsdk.batch import storage
from srsdk.errors import BackendError, UsageError
from srsdk.ray.callables import Upscale, sha256_of
from srsdk.ray.planning import Plan

IN_FLIGHT = 2
"""Batches per actor: one running, one waiting."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Settings of the actor pool."""

    address: str | None = None
    """Address of a Ray cluster; None: start one for this run, on this machine's loopback only."""
    count: int | None = None
    """Number of actors; None: as many as the CPUs (and GPUs, if `gpus` is set) allow."""
    cpus: float = 1
    """CPUs per actor; also the number of threads of its backend."""
    gpus: float = 0
    """GPUs per actor; 0.5: two actors share one."""
    batch: int = 16
    """Pictures per batch; a worker that dies repeats at most this many."""

    def __post_init__(self) -> None:
        for label, value in (("workers", self.count), ("batch", self.batch)):
            if value is not None and value < 1:
                raise UsageError(f"{label} is {value}, expected 1 or more")
        if self.cpus < 0 or self.gpus < 0 or not self.cpus + self.gpus:
            raise UsageError(
                f"a worker needs CPUs or GPUs, got cpus={self.cpus:g}, gpus={self.gpus:g}"
            )


def run(
    work: Plan,
    output: str | os.PathLike[str],
    *,
    model: str,
    workers: Workers,
    worker: type[Upscale] = Upscale,
    **options: Any,
) -> Generator[dict[str, Any], None, None]:
    """Upscale and yield one row per finished picture: source, target, status, seconds, error.

    Args:
        work: the result of `planning.plan`.
        output: address of the output folder.
        model: a shipped name, or a path that every machine can read.
        workers: the actor pool.
        worker: class that each actor runs.
        options: passed to `Upscaler`.

    Raises:
        BackendError: Ray is not installed, cannot be reached or has failed.
    """
    yield from work.outcomes
    if not work.rows:
        return
    ray = import_ray()
    started = not ray.is_initialized()
    try:
        _connect(ray, workers)
        count = min(workers.count or _max_workers(ray, workers), _batches(work, workers))
        arguments = {
            "output": storage.absolute(output),
            "model": model,
            "model_sha256": sha256_of(model),
            "threads": max(1, math.floor(workers.cpus)),
            **options,
        }
        yield from _stream(work, workers, count, worker, arguments)
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        raise BackendError(f"Ray: {_last_line(error)}") from error
    finally:
        if started:
            ray.shutdown()


def _stream(
    work: Plan,
    workers: Workers,
    count: int,
    worker: type[Upscale],
    arguments: dict[str, Any],
) -> Generator[dict[str, Any], None, None]:
    import ray.data as data

    with warnings.catch_warnings():
        # Ray warns about itself, and only the first time
        warnings.simplefilter("ignore", DeprecationWarning)
        context = data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # one batch per block: Ray repeats a whole block when its actor dies
    rows = data.from_items(work.rows, override_num_blocks=_batches(work, workers))
    strategy = data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=IN_FLIGHT)
    done = rows.map_batches(
        worker,
        fn_constructor_kwargs=arguments,
        batch_size=workers.batch,
        compute=strategy,
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
    )  # Ray Data restarts actors and repeats their tasks without limit; `Upscale` sets one
    yield from done.iter_rows()


def import_ray() -> Any:
    """Import Ray with its usage statistics off.

    Raises:
        BackendError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise BackendError("Ray is not installed: pip install 'srsdk[ray]'")
    # read when ray is imported, and by the processes that it starts
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    return ray


def _connect(ray: Any, workers: Workers) -> None:
    if ray.is_initialized():
        return
    if workers.address is not None:
        ray.init(address=workers.address, log_to_driver=False, logging_level="WARNING")
        return
    begin_local(ray)


def begin_local(ray: Any, **options: Any) -> None:
    """Start a local Ray cluster that listens on the loopback interface only.

    By default its node listens on the machine's external address. This constant keeps it on
    127.0.0.1, as on Windows and macOS; there is no public option for it.
    """
    import ray._private.ray_constants as constants

    # hide its warning that token authentication is on, as intended
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    constants.ENABLE_RAY_CLUSTER = False
    settings = {"log_to_driver": False, "logging_level": "WARNING", **options}
    ray.init(address="local", include_dashboard=False, **settings)


def _max_workers(ray: Any, workers: Workers) -> int:
    have: dict[str, float] = ray.cluster_resources()
    fits = [
        math.floor(have.get(kind, 0) / need)
        for kind, need in (("CPU", workers.cpus), ("GPU", workers.gpus))
        if need
    ]
    if min(fits) < 1:
        raise BackendError(
            f"a worker needs {workers.cpus:g} CPUs and {workers.gpus:g} GPUs, the cluster has "
            f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}"
        )
    return min(fits)


def _batches(work: Plan, workers: Workers) -> int:
    return math.ceil(len(work.rows) / workers.batch)


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
