"""Measure this machine's ceilings: peak operations and bytes per second.

Williams, Waterman and Patterson, "Roofline", CACM 2009. Operations: a large matrix product in
OpenVINO, in each precision that the processor has. Bytes: a copy larger than any cache, all cores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

SIDE = 2048
COPY_BYTES = 1 << 27
REPEATS = 5


def measure(threads: int) -> dict[str, Any]:
    """Return `flop_per_s` by precision and `bytes_per_s`; the best of a few repeats.

    `lacks` lists precisions that the processor lacks: OpenVINO would compute in another one.
    """
    lacks = {} if _has_bf16() else {"bf16": "this processor has no bfloat16"}
    names = [name for name in ("fp32", "bf16", "int8") if name not in lacks]
    return {
        "flop_per_s": {name: _product(name, threads) for name in names},
        "lacks": lacks,
        "bytes_per_s": _copy(threads),
        "raw": {"side": SIDE, "copy_bytes": COPY_BYTES, "repeats": REPEATS},
    }


def _has_bf16() -> bool:
    return "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino() -> Any:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it would phone home
    import openvino

    return openvino


def _product(precision: str, threads: int) -> float:
    ov = _openvino()
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    left = ops.parameter([SIDE, SIDE], np.float32)
    right = ops.constant(random.normal(size=(SIDE, SIDE)).astype(np.float32))
    operands: list[Any] = [left, right]
    if precision == "int8":
        limits = [np.float32(v) for v in (-1.28, 1.27, -1.28, 1.27)]
        operands = [ops.fake_quantize(operand, *limits, 256) for operand in operands]
    model = ov.Model([ops.matmul(*operands, False, False)], [left])
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    request.set_input_tensor(ov.Tensor(random.normal(size=(SIDE, SIDE)).astype(np.float32)))
    return 2 * SIDE**3 / _best(request.infer)


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
