"""One candidate in one process: times it and prints a JSON line."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import srsdk
from srsdk.models import find

WARM_UP_RUNS = 3

Picture = npt.NDArray[np.uint8]
Upscale = Callable[[Picture], Picture]


def srsdk_with(backend: str) -> Callable[[str, Picture], Upscale]:
    """Return the way a user of srsdk goes."""

    def open_it(model: str, _: Picture) -> Upscale:
        return srsdk.Upscaler(model, backend=backend)

    return open_it


def bare_openvino(model: str, picture: Picture) -> Upscale:
    """OpenVINO at its best for one picture: compiled for its very size, nothing copied."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it would phone home
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(find(model))
    graph.reshape([1, *picture.shape])
    # float32, as the file says: by default OpenVINO would take bfloat16 where the processor has it
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(graph, "CPU", config).create_infer_request()

    def upscale(lr: Picture) -> Picture:
        outputs = request.infer({0: lr[None]}, share_inputs=True, share_outputs=True)
        result: Picture = outputs[0][0]
        return result

    return upscale


def bare_onnxruntime(model: str, _: Picture) -> Upscale:
    """ONNX Runtime with its defaults."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(find(model), providers=["CPUExecutionProvider"])

    def upscale(lr: Picture) -> Picture:
        result: Picture = session.run(None, {"image": lr[None]})[0][0]
        return result

    return upscale


WORKERS: dict[str, Callable[[str, Picture], Upscale]] = {
    "srsdk-openvino": srsdk_with("openvino"),
    "bare-openvino": bare_openvino,
    "srsdk-onnxruntime": srsdk_with("onnxruntime"),
    "bare-onnxruntime": bare_onnxruntime,
}


def main() -> None:
    """`NAME MODEL HEIGHT WIDTH RUNS`."""
    name, model, height, width, runs = sys.argv[1:]
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (int(height), int(width), 3), dtype=np.uint8)
    upscale = WORKERS[name](model, picture)
    for _ in range(WARM_UP_RUNS):
        upscale(picture)
    milliseconds = []
    for _ in range(int(runs)):
        began = time.perf_counter()
        upscale(picture)
        milliseconds.append(1000 * (time.perf_counter() - began))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"ms": milliseconds, "peak_bytes": peak_bytes}) + "\n")


if __name__ == "__main__":
    main()
