"""Measurements of `gpu-check` that need no PyTorch; each returns plain values."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import srsdk
from benchmarks.gpu.job import Job
from benchmarks.machine import ROOT, commit, folder_sha256
from srsdk.engines.cuda.device import Device, Owned, view
from srsdk.engines.cuda.engine import CudaEngine
from srsdk.inference.pipeline import Pipeline
from srsdk.inference.planner import Planner
from srsdk.inference.profiling import CallTimings
from srsdk.manifest import Manifest
from srsdk.scheduling.context import Call

Picture = npt.NDArray[np.uint8]
COPY_BYTES = 64 << 20
HEIGHT, WIDTH = 1080, 1920
LIBRARIES = ("cuda-bindings", "torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx",
             "tensorrt-lean-cu13", "cupy-cuda13x", "numba", "numba-cuda", "jax", "pycuda",
             "numpy")  # fmt: skip
MIN_HIDDEN = 0.2
"""Share of copy time that must be hidden for copies to count as overlapped; the rest is noise."""
MAX_ENQUEUE = 0.5
"""Share of a pinned copy's time that enqueueing it may take; a pageable one takes all of it."""


def versions(job: Job) -> None:
    """Record GPU, driver, system, code and library versions."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    job.keep(
        gpu=vars(job.device().properties),
        cores=os.cpu_count(),
        platform=platform.platform(),
        python=platform.python_version(),
        srsdk=srsdk.__version__,
        commit=commit(),
        code_sha256=folder_sha256(ROOT / "srsdk"),
        libraries=found,
    )


def memory_layer(job: Job) -> None:
    """Check pinned copies, and measure how fast they are and how far they overlap."""
    device = job.device()
    same = pinned_content(device)
    job.check("pinned memory returns the bytes that were sent", same)
    host_ms, copy_ms = enqueue_ms(device)
    job.keep(enqueue_pinned_ms=host_ms, copy_pinned_ms=copy_ms)
    job.check(
        "enqueueing a pinned copy returns before the copy ends",
        host_ms <= MAX_ENQUEUE * copy_ms,
        host_ms / copy_ms,
    )
    rates = bandwidth(device)
    job.keep(bandwidth_gb_s=rates)
    ratios = {way: rates[f"{way}_pinned"] / rates[f"{way}_pageable"] for way in ("in", "out")}
    job.keep(pinned_to_pageable=ratios)
    hidden = overlap(device)
    job.keep(overlap=hidden)
    job.check("copies in and out overlap", hidden["hidden"] >= MIN_HIDDEN, hidden["hidden"])


def picture(height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """Return noise over a ramp, so that no step has an easy input."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 200, width)[None, :, None]
    noise = random.integers(0, 55, (height, width, 3))
    return (ramp + noise).astype(np.uint8)


def bandwidth(device: Device) -> dict[str, float]:
    """Return GB/s of pinned, write-combined and pageable copies, and of copies in the device."""
    with device.active():
        stream, memory = device.stream(), device.allocate(COPY_BYTES)
        twin = device.allocate(COPY_BYTES)
        pinned, combined = device.pinned(COPY_BYTES), device.pinned(COPY_BYTES, write_combined=True)
        pageable = np.zeros(COPY_BYTES, np.uint8)
        host = pageable.ctypes.data
        s, d = stream.handle, memory.handle

        def rate(copy: Callable[[], None]) -> float:
            return COPY_BYTES / 1e6 / timed_ms(device, s, copy)

        try:
            return {
                "in_pinned": rate(lambda: device.copy_in(d, pinned.handle, COPY_BYTES, s)),
                "in_write_combined": rate(
                    lambda: device.copy_in(d, combined.handle, COPY_BYTES, s)
                ),
                "in_pageable": rate(lambda: device.copy_in(d, host, COPY_BYTES, s)),
                "out_pinned": rate(lambda: device.copy_out(pinned.handle, d, COPY_BYTES, s)),
                "out_pageable": rate(lambda: device.copy_out(host, d, COPY_BYTES, s)),
                # each byte is read and written
                "device": 2
                * rate(
                    lambda: device.copy_rows(
                        (twin.handle, 1 << 20), (d, 1 << 20), 1 << 20, COPY_BYTES >> 20, s
                    )
                ),
            }
        finally:
            for one in (pinned, combined, memory, twin, stream):
                one.close()


def timed_ms(device: Device, stream: int, work: Callable[[], None], rounds: int = 7) -> float:
    """Return the median time of enqueued work in ms, measured with CUDA events."""
    start, end = device.event(timed=True), device.event(timed=True)
    times = []
    try:
        for _ in range(rounds + 1):
            device.record(start.handle, stream)
            work()
            device.record(end.handle, stream)
            device.wait(end.handle)
            times.append(device.elapsed_ms(start.handle, end.handle))
    finally:
        start.close()
        end.close()
    return median(times[1:])


def cycles(device: Device, open_use_close: Callable[[], None], count: int = 100) -> dict[str, Any]:
    """Return the device's free bytes before and after `count` open-use-close cycles."""
    open_use_close()
    with device.active():
        before, _ = device.memory()
    for _ in range(count):
        open_use_close()
    with device.active():
        after, _ = device.memory()
    return {"cycles": count, "free_before": before, "free_after": after, "lost": before - after}


def enqueue_ms(device: Device, rounds: int = 7) -> tuple[float, float]:
    """Return the median ms that enqueueing a pinned copy takes, and that the copy takes."""
    with device.active():
        owned = [device.pinned(COPY_BYTES), device.allocate(COPY_BYTES), device.stream()]
        host, memory, stream = (one.handle for one in owned)
        enqueued, copied = [], []
        try:
            for _ in range(rounds + 1):
                began_s = time.perf_counter()
                device.copy_in(memory, host, COPY_BYTES, stream)
                enqueued.append(1000 * (time.perf_counter() - began_s))
                device.drain(stream)
                copied.append(1000 * (time.perf_counter() - began_s))
        finally:
            _close(owned)
    return median(enqueued[1:]), median(copied[1:])


def overlap(device: Device) -> dict[str, float]:
    """Return the ms of a copy in and a copy out, one after the other and on two streams.

    `hidden` is the share of the shorter copy that ran during the other.
    """
    with device.active():
        owned = [device.pinned(COPY_BYTES), device.pinned(COPY_BYTES), device.allocate(COPY_BYTES),
                 device.allocate(COPY_BYTES), device.stream(), device.stream()]  # fmt: skip
        host_in, host_out, target, source, first, second = (one.handle for one in owned)

        def both(out_stream: int) -> float:
            began_s = time.perf_counter()
            device.copy_in(target, host_in, COPY_BYTES, first)
            device.copy_out(host_out, source, COPY_BYTES, out_stream)
            device.drain(first)
            device.drain(out_stream)
            return 1000 * (time.perf_counter() - began_s)

        try:
            serial_ms = median(both(first) for _ in range(7))
            parallel_ms = median(both(second) for _ in range(7))
        finally:
            _close(owned)
    hidden = 2 * (serial_ms - parallel_ms) / serial_ms
    return {"serial_ms": serial_ms, "parallel_ms": parallel_ms, "hidden": hidden}


def _close(owned: list[Owned]) -> None:
    for one in reversed(owned):
        one.close()


def pinned_content(device: Device) -> bool:
    """Return whether bytes survive the copy to the device and back."""
    with device.active():
        host, back = device.pinned(1000, write_combined=True), device.pinned(1000)
        memory, stream = device.allocate(1000), device.stream()
        source, target = view(host, (1000,), "uint8"), view(back, (1000,), "uint8")
        content = np.arange(1000, dtype=np.uint8)
        source[...] = content
        device.copy_in(memory.handle, host.handle, 1000, stream.handle)
        device.copy_out(back.handle, memory.handle, 1000, stream.handle)
        device.drain(stream.handle)
        same = bool(np.array_equal(target, content))
        for one in (memory, stream, host, back):
            one.close()
        return same


class Runner:
    """An engine and its pipeline with a given tile size, slots and batch."""

    def __init__(
        self, engine: CudaEngine, manifest: Manifest, *, tile: int, slots: int | None = None,
        batch: int | None = None,
    ) -> None:  # fmt: skip
        self.engine = engine
        planner = Planner(engine, manifest, (tile, tile), batch)
        self.pipeline = Pipeline(engine, manifest, planner, slots)

    def __call__(self, rgb: Picture) -> Picture:
        """Upscale a picture."""
        return self.pipeline.upscale(rgb, Call())

    def on_device(self, array: Any, out: Any = None) -> Any:
        """Upscale an array on the device."""
        return self.pipeline.upscale_on_gpu(array, out, None, Call())

    def close(self) -> None:
        """Release all resources."""
        self.pipeline.close()
        self.engine.close()


def median_ms(work: Callable[[], Any], rounds: int = 9) -> float:
    """Return the median wall time of a call in ms, after two warm-up calls."""
    times = []
    for _ in range(rounds + 2):
        began_s = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began_s))
    return median(times[2:])


def profiled(run: Runner, rgb: Picture) -> tuple[CallTimings, float]:
    """Return the timings of the median call, and the share of copy time hidden by other work."""
    run(rgb)
    with run.pipeline.profiler.profile() as calls:
        for _ in range(7):
            run(rgb)
    call = sorted(calls, key=lambda c: c.total_ms)[len(calls) // 2]
    copies_ms = call.h2d_ms + call.d2h_ms
    exposed_ms = max(0.0, call.total_ms - call.execute_ms - call.stage_ms - call.paste_ms)
    return call, max(0.0, 1 - exposed_ms / copies_ms) if copies_ms else 0.0


def manifest_for(name: str, scale: int, radius_px: int) -> Manifest:
    """Return the manifest of a network without a file."""
    return Manifest(name=name, scale=scale, channels=3, radius_px=radius_px, precision="unknown")


def upscale_files(options: dict[str, Any], rgb: Picture, model: str) -> tuple[Picture, float]:
    """Return a model's result with the given options, and its median time in ms."""
    with srsdk.Upscaler(model, **options) as up:
        return up(rgb), median_ms(lambda: up(rgb))
