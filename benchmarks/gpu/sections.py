"""Sections of `gpu-check` that need PyTorch: slots, graphs, sweep, peers, bounds."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack

from benchmarks.gpu import measure
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import Runner, manifest_for, median_ms, picture, profiled
from benchmarks.gpu.torch_engine import Bytes, Nearest, load, open_torch
from srsdk import models
from srsdk.engines.cuda.device import Device
from srsdk.manifest import read_manifest

TILE_PX = 256
MODEL = "gan_x4"
MAX_LOST_BYTES = 1 << 20
EDGE_SIZES = ((1, 1), (1, 400), (400, 1), (57, 58), (58, 64), (63, 65), (64, 64), (128, 129))
"""Around the tile of 64 px with an overlap of 3 px, and pictures of a single row or column."""


def slots(job: Job) -> None:
    """Check that nearest-neighbor is bit-exact for many sizes, slots, graphs and batches."""
    random = np.random.default_rng(0)
    drawn = [(int(h), int(w)) for h, w in random.integers(1, 400, (12, 2))]
    wrong: list[str] = []
    count = 0
    for streams, number, graph, batch in ((1, 1, False, 1), (1, 3, True, 1), (2, 8, True, 3)):
        engine = open_torch(Nearest(), compute_streams=streams, graphs=graph)
        run = Runner(engine, manifest_for("n", 2, 3), tile=64, slots=number, batch=batch)
        try:
            for height, width in (*EDGE_SIZES, *drawn):
                rgb = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                where = f"{height}x{width}, {number} slots, graphs {graph}, batch {batch}"
                wrong += [f"{where}, {way}" for way in _wrong_ways(run, rgb)]
                count += 2
        finally:
            run.close()
        job.keep(pictures=count, wrong=wrong)
    job.check("every picture is exact, from the host and on the device", not wrong, wrong[:5])


def _wrong_ways(run: Runner, rgb: measure.Picture) -> list[str]:
    expected = rgb.repeat(2, axis=0).repeat(2, axis=1)
    there = torch.utils.dlpack.from_dlpack(run.on_device(torch.from_numpy(rgb).cuda()))
    results = {"from the host": run(rgb), "on the device": there.cpu().numpy()}
    return [way for way, result in results.items() if not np.array_equal(result, expected)]


def release(job: Job) -> None:
    """Check that open-use-close cycles lose no device memory."""
    found = check_memory_release(job.device())
    job.keep(**found)
    job.check("100 cycles lose less than 1 MiB", found["lost"] <= MAX_LOST_BYTES, found["lost"])


def check_memory_release(device: Device) -> dict[str, Any]:
    """Measure the device memory lost in 100 open-use-close cycles."""
    rgb = picture(200, 300)

    def once() -> None:
        run = Runner(open_torch(Nearest()), manifest_for("n", 2, 3), tile=64)
        run(rgb)
        run.close()

    return measure.cycles(device, once)


def graphs(job: Job) -> None:
    """Time the same work as a CUDA graph and kernel by kernel; check that a graph is captured."""
    rgb = picture()
    results = {}
    for name, graph in (("graph", True), ("no_graph", False)):
        run = _runner(load(MODEL, torch.float16), graphs=graph)
        try:
            slot = run.engine.slot((1, TILE_PX, TILE_PX, 3))
            has_graph = slot.has_graph
            slot.close()
            call, hidden = profiled(run, rgb)
            results[name] = run(rgb)
        finally:
            run.close()
        times = dataclasses.asdict(call)
        job.keep(**{name: {"has_graph": has_graph, "copies_hidden": hidden, **times}})
        job.check(f"{name}: has_graph is {graph}", has_graph is graph, has_graph)
        job.check(f"{name}: copies are hidden", hidden >= measure.MIN_HIDDEN, hidden)
    same = np.array_equal(results["graph"], results["no_graph"])
    job.check("a graph gives the same picture as its kernels", same)


def sweep(job: Job) -> None:
    """Time tile sizes, batches, slots and compute streams, numpy to numpy."""
    rgb = picture()
    rows: list[dict[str, Any]] = []
    net = load(MODEL, torch.float16)
    sizes = itertools.product((128, 256, 512), (1, 4), (1, 2, 3, 4), (1,))
    for tile, batch, number, streams in (*sizes, (TILE_PX, 1, 4, 2)):
        run = _runner(net, tile=tile, slots=number, batch=batch, compute_streams=streams)
        try:
            ms = median_ms(lambda run=run: run(rgb), 5)  # type: ignore[misc]
        finally:
            run.close()
        row = {"tile": tile, "batch": batch, "slots": number, "compute_streams": streams, "ms": ms}
        rows.append(row)
        job.keep(rows=rows)


def end_to_end(job: Job) -> None:
    """Time numpy to numpy, and device to device into the caller's buffer; compare results."""
    rgb = picture()
    run = _runner(load(MODEL, torch.float16))
    try:
        tensor = torch.from_numpy(rgb).cuda()
        out = torch.empty((rgb.shape[0] * 4, rgb.shape[1] * 4, 3), dtype=torch.uint8, device="cuda")

        def there() -> None:
            run.on_device(tensor, out)
            torch.cuda.synchronize()

        job.keep(numpy_ms=median_ms(lambda: run(rgb)), device_ms=median_ms(there))
        same = np.array_equal(out.cpu().numpy(), run(rgb))
        job.check("device to device gives the same picture as numpy to numpy", same)
    finally:
        run.close()


def peers(job: Job) -> None:
    """Time PyTorch alone on the whole picture: eager, channels_last FP16, compiled."""
    tensor = torch.from_numpy(picture()).cuda()[None]
    kinds: list[tuple[str, Callable[[], Any]]] = [
        ("eager_fp32", lambda: load(MODEL, torch.float32)),
        ("channels_last_fp16", lambda: load(MODEL, torch.float16)),
        ("compiled_fp16", lambda: torch.compile(load(MODEL, torch.float16))),
    ]
    for name, make in kinds:
        try:
            net = make()
            job.keep(**{f"{name}_ms": _torch_ms(net, tensor)})
        except Exception as error:  # a peer that fails is a result, too
            job.keep(**{f"{name}_ms": f"failed: {str(error).splitlines()[0][:200]}"})
        torch.cuda.empty_cache()


def bounds(job: Job) -> None:
    """Record lower bounds of the time: FLOP over measured peak, bytes over measured bandwidth."""
    side = 8192
    a = torch.randn(side, side, device="cuda", dtype=torch.float16)
    ms = _torch_ms(lambda x: x @ x, a)
    peak = 2 * side**3 / (ms / 1000)
    net = load(MODEL, torch.float32)
    flop = 2 * _macs_per_pixel(net) * measure.HEIGHT * measure.WIDTH
    rates = measure.bandwidth(job.device())
    bytes_in = measure.HEIGHT * measure.WIDTH * 3
    copies_ms = bytes_in / rates["in_pinned"] / 1e6 + 16 * bytes_in / rates["out_pinned"] / 1e6
    job.keep(
        peak_fp16_tflops=peak / 1e12,
        model_gflop=flop / 1e9,
        compute_floor_ms=1000 * flop / peak,
        copy_floor_ms=copies_ms,
    )


def sanitized(job: Job) -> None:
    """Do a little of everything, for a tool that makes each kernel many times slower."""
    rgb = picture(90, 70)
    for graph in (False, True):
        engine = open_torch(Nearest(), graphs=graph)
        run = Runner(engine, manifest_for("n", 2, 3), tile=64, slots=2)
        try:
            wrong = _wrong_ways(run, rgb)
        finally:
            run.close()
        job.check(f"graphs {graph}: exact under the tool", not wrong, wrong)


def result_of(dtype: torch.dtype, rgb: Any) -> Any:
    """Upscale with the shipped model: PyTorch in srsdk's slots."""
    run = _runner(load(MODEL, dtype))
    try:
        return run(rgb)
    finally:
        run.close()


def _runner(
    net: Bytes, *, tile: int = TILE_PX, slots: int | None = None, batch: int | None = None,
    compute_streams: int = 1, graphs: bool = True,
) -> Runner:  # fmt: skip
    shipped = read_manifest(models.find(MODEL))
    assert shipped is not None
    manifest = manifest_for(MODEL, shipped.scale, shipped.radius_px)
    engine = open_torch(net, compute_streams=compute_streams, graphs=graphs)
    return Runner(engine, manifest, tile=tile, slots=slots, batch=batch)


def _torch_ms(net: Callable[[Any], Any], tensor: Any) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    times = []
    with torch.inference_mode():
        for _ in range(9):
            start.record()
            net(tensor)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
    return float(np.median(times[2:]))


def _macs_per_pixel(net: Bytes) -> float:
    """Return the multiply-adds per source pixel; all convolutions run at source resolution."""
    convs = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    return float(sum(m.weight.numel() for m in convs))
