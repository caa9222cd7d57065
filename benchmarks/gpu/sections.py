"""Sections of `gpu-check` that need PyTorch: slots, graphs, sweeps, peers, lower_bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack

from benchmarks.gpu import measure
from benchmarks.gpu.measure import Runner, manifest_for, median_ms, picture, profiled
from benchmarks.gpu.torch_engine import Bytes, Nearest, load, open_torch
from srsdk import models
from srsdk.engines.cuda.device import Device
from srsdk.manifest import read_manifest

TILE_PX = 256
MODEL = "gan_x4"


def check_slots(device: Device) -> dict[str, Any]:
    """Check that nearest-neighbor is bit-exact for random sizes, slots, graphs and batches."""
    random = np.random.default_rng(0)
    wrong, count = 0, 0
    for compute_streams, slots, graphs, batch in (
        (1, 1, False, 1),
        (1, 3, True, 1),
        (2, 8, True, 3),
    ):
        engine = open_torch(Nearest(), compute_streams=compute_streams, graphs=graphs)
        run = Runner(engine, manifest_for("n", 2, 3), tile=64, slots=slots, batch=batch)
        try:
            for _ in range(20):
                height, width = random.integers(1, 400, 2)
                rgb = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                expected = rgb.repeat(2, axis=0).repeat(2, axis=1)
                tensor = torch.from_numpy(rgb).cuda()
                there = torch.utils.dlpack.from_dlpack(run.on_device(tensor))
                results = (run(rgb), there.cpu().numpy())
                wrong += sum(not np.array_equal(result, expected) for result in results)
                count += 2
        finally:
            run.close()
    return {"pictures": count, "wrong": wrong}


def check_memory_release(device: Device) -> dict[str, Any]:
    """Measure the device memory lost in 100 open-use-close cycles."""
    rgb = picture(200, 300)

    def once() -> None:
        run = Runner(open_torch(Nearest()), manifest_for("n", 2, 3), tile=64)
        run(rgb)
        run.close()

    return measure.cycles(device, once)


def graphs(device: Device) -> dict[str, Any]:
    """Time the same work launched as a CUDA graph and kernel by kernel."""
    rgb = picture()
    found: dict[str, Any] = {}
    for name, graph in (("graph", True), ("no_graph", False)):
        run = _runner(load(MODEL, torch.float16), graphs=graph)
        try:
            call, hidden = profiled(run, rgb)
            found[name] = {**dataclasses.asdict(call), "copies_hidden": hidden}
        finally:
            run.close()
    return found


def sweep(device: Device) -> list[dict[str, Any]]:
    """Time tile sizes, batches, slots and compute streams, numpy to numpy."""
    rgb, rows = picture(), []
    net = load(MODEL, torch.float16)
    for tile in (128, 256, 512):
        for batch in (1, 4):
            for slots in (1, 2, 3, 4):
                run = _runner(net, tile=tile, slots=slots, batch=batch)
                try:
                    ms = median_ms(lambda run=run: run(rgb), 5)  # type: ignore[misc]
                finally:
                    run.close()
                rows.append(
                    {"tile": tile, "batch": batch, "slots": slots, "compute_streams": 1, "ms": ms}
                )
    run = _runner(net, compute_streams=2, slots=4)
    try:
        ms = median_ms(lambda: run(rgb), 5)
    finally:
        run.close()
    rows.append({"tile": TILE_PX, "batch": 1, "slots": 4, "compute_streams": 2, "ms": ms})
    return rows


def end_to_end(device: Device) -> dict[str, Any]:
    """Time numpy to numpy, and device to device into the caller's buffer; compare results."""
    rgb = picture()
    run = _runner(load(MODEL, torch.float16))
    try:
        tensor = torch.from_numpy(rgb).cuda()
        out = torch.empty((rgb.shape[0] * 4, rgb.shape[1] * 4, 3), dtype=torch.uint8, device="cuda")

        def there() -> None:
            run.on_device(tensor, out)
            torch.cuda.synchronize()

        found = {"numpy_ms": median_ms(lambda: run(rgb)), "device_ms": median_ms(there)}
        found["same"] = bool(np.array_equal(out.cpu().numpy(), run(rgb)))
        return found
    finally:
        run.close()


def peers(device: Device) -> dict[str, Any]:
    """Time PyTorch alone on the whole picture: eager, channels_last FP16, compiled."""
    rgb = picture()
    tensor = torch.from_numpy(rgb).cuda()[None]
    found: dict[str, Any] = {}
    kinds: list[tuple[str, Callable[[], Any]]] = [
        ("eager_fp32", lambda: load(MODEL, torch.float32)),
        ("channels_last_fp16", lambda: load(MODEL, torch.float16)),
        ("compiled_fp16", lambda: torch.compile(load(MODEL, torch.float16))),
    ]
    for name, make in kinds:
        try:
            net = make()
            found[f"{name}_ms"] = _torch_ms(net, tensor)
        except Exception as error:  # record a failing peer and continue
            found[f"{name}_ms"] = f"failed: {str(error).splitlines()[0][:200]}"
        torch.cuda.empty_cache()
    return found


def lower_bounds(device: Device) -> dict[str, Any]:
    """Return lower bounds of the time: FLOP over measured peak, bytes over measured bandwidth."""
    side = 8192
    a = torch.randn(side, side, device="cuda", dtype=torch.float16)
    ms = _torch_ms(lambda x: x @ x, a)
    peak = 2 * side**3 / (ms / 1000)
    net = load(MODEL, torch.float32)
    flop = 2 * _macs_per_pixel(net) * measure.HEIGHT * measure.WIDTH
    rates = measure.bandwidth(device)
    bytes_in = measure.HEIGHT * measure.WIDTH * 3
    copies_ms = bytes_in / rates["in_pinned"] / 1e6 + 16 * bytes_in / rates["out_pinned"] / 1e6
    return {
        "peak_fp16_tflops": peak / 1e12,
        "model_gflop": flop / 1e9,
        "compute_floor_ms": 1000 * flop / peak,
        "copy_floor_ms": copies_ms,
    }


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
