"""Measure this machine's ceilings: peak operations and bytes per second.

Williams, Waterman and Patterson, "Roofline", CACM 2009. Operations: 3x3 convolutions that fit in
the caches, in OpenVINO, in each precision that the processor has. On an AMD Zen 4 they reach 96 to
99 % of what its multiply-add instructions alone do in a loop (INT8: `vpdpbusd`); a large matrix
product reaches 82 to 88 %. Bytes: a copy larger than any cache, all cores.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

CONVOLUTIONS = ((64, 64), (128, 64), (256, 32))
"""(channels, side in px): which is fastest depends on the precision and the caches."""
LAYERS = 4
COPY_BYTES = 1 << 27
REPEATS = 8


def measure(threads: int) -> dict[str, Any]:
    """Return `flop_per_s` by precision and `bytes_per_s`; the best of a few repeats.

    `lacks` lists precisions that the processor lacks: OpenVINO would compute in another one.
    """
    lacks = missing()
    names = [name for name in ("fp32", "bf16", "int8") if name not in lacks]
    return {
        "flop_per_s": {name: flop_per_s(name, threads) for name in names},
        "lacks": lacks,
        "bytes_per_s": _copy(threads),
        "raw": {"convolutions": CONVOLUTIONS, "copy_bytes": COPY_BYTES, "repeats": REPEATS},
    }


def missing() -> dict[str, str]:
    """Return the precisions that the processor lacks, each with the reason."""
    return {} if _has_bf16() else {"bf16": "this processor has no bfloat16"}


def flop_per_s(precision: str, threads: int) -> float:
    """Return the operations per second of the fastest convolution; a multiply-add counts as two.

    Args:
        precision: `fp32`, `bf16` or `int8`.
        threads: CPU threads.
    """
    return max(_convolution(precision, threads, *size) for size in CONVOLUTIONS)


def instruction_set() -> str:
    """Return the instruction set that the user limits oneDNN to; empty: the processor's own."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "")


def _has_bf16() -> bool:
    # OpenVINO also lists it if oneDNN is limited to a set without it
    if instruction_set() not in ("", "ALL", "AVX512_CORE_BF16"):
        return False
    return "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino() -> Any:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it would phone home
    import openvino

    return openvino


def _convolution(precision: str, threads: int, channels: int, side: int) -> float:
    """Run a few convolutions, one picture for each thread, and return the fastest one's rate."""
    ov = _openvino()
    shape = [threads, channels, side, side]
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    model = _convolutions(shape, in_int8=precision == "int8")
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    request.set_input_tensor(ov.Tensor(values))
    seconds = []
    for _ in range(REPEATS):
        request.infer()
        nodes = [node for node in request.profiling_info if node.node_type == "Convolution"]
        seconds += [node.real_time.total_seconds() for node in nodes]
    fastest: float = min(seconds)
    return 2 * 9 * channels**2 * side**2 * threads / fastest


def _convolutions(shape: list[int], *, in_int8: bool) -> Any:
    from openvino import Model
    from openvino import opset13 as ops

    channels = shape[1]
    values = np.random.default_rng(0).normal(size=(channels, channels, 3, 3)).astype(np.float32)
    image, weight = ops.parameter(shape, np.float32), ops.constant(values)
    codes = [np.float32(v) for v in (0, 2.55, 0, 2.55)]
    signed = [np.float32(v) for v in (-1.28, 1.27, -1.28, 1.27)]
    result = ops.fake_quantize(image, *codes, 256) if in_int8 else image
    weight = ops.fake_quantize(weight, *signed, 255) if in_int8 else weight
    for _ in range(LAYERS):
        result = ops.relu(ops.convolution(result, weight, [1, 1], [1, 1], [1, 1], [1, 1]))
        result = ops.fake_quantize(result, *codes, 256) if in_int8 else result
    return Model([result], [image])


def _copy(threads: int) -> float:
    sources = [np.ones(COPY_BYTES // threads, np.uint8) for _ in range(threads)]
    targets = [np.zeros_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(np.copyto, targets, sources)))
    # each byte is read once and written once
    return 2 * sum(source.nbytes for source in sources) / seconds


def _best(work: Callable[[], Any]) -> float:
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
