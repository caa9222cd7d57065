"""Time the layers of a model in OpenVINO."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks.peers.bare_openvino import core as open_core
from benchmarks.peers.bare_openvino import tensor
from benchmarks.workloads import WORKLOADS
from srsdk.engines.compiled.openvino_tail import without_shuffle

WARM_UP_RUNS = 3


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Run a model as srsdk does, compiled for the size of the workload's pictures.

    Args:
        config: `path`, `precision`, `workload`, `threads` and `runs`.

    Returns:
        `layers`: type, kernel, shortest milliseconds and operations of each; `ms`: their sum and
        what is between them.
    """
    workload = WORKLOADS[config["workload"]]
    height, width = workload.height, workload.width
    core = open_core()
    model = core.read_model(config["path"])
    shapes = {0: [1, height, width, model.inputs[0].get_partial_shape()[3].get_length()]}
    model.reshape(shapes)
    model = without_shuffle(model)
    operations = {node.get_friendly_name(): _flop(node) for node in model.get_ops()}
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if config["precision"] == "bf16" else "f32",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": config["threads"],
            "PERF_COUNT": True,
        },
    )
    request = compiled.create_infer_request()
    pixels = np.random.default_rng(0).integers(0, 256, shapes[0], np.uint8)
    request.set_input_tensor(0, tensor(pixels))
    return _timed(request, operations, _sources(compiled), config["runs"])


def _timed(
    request: Any, operations: dict[str, tuple[str, float]], sources: dict[str, list[str]], runs: int
) -> dict[str, Any]:
    """Return the shortest time of each layer, and of what is between them, and their sum.

    In no run are all layers undisturbed by other processes, but each layer is in some.
    """
    times: dict[str, float] = defaultdict(lambda: math.inf)
    nodes, rest_ms = [], math.inf
    for _ in range(WARM_UP_RUNS + runs):
        request.infer()
        nodes = [node for node in request.profiling_info if node.real_time.total_seconds()]
        for node in nodes:
            ms = 1000 * node.real_time.total_seconds()
            times[node.node_name] = min(times[node.node_name], ms)
        taken_ms = sum(1000 * node.real_time.total_seconds() for node in nodes)
        rest_ms = min(rest_ms, max(0.0, request.latency - taken_ms))
    layers = []
    for node in nodes:
        parts = [operations[name] for name in sources[node.node_name] if name in operations]
        kind, flop = max(parts, key=lambda part: part[1], default=("", 0.0))
        layer = {"name": node.node_name, "type": kind if flop else node.node_type}
        found = {"kernel": node.exec_type, "ms": times[node.node_name], "flop": flop}
        layers.append({**layer, **found})
    return {"layers": layers, "ms": rest_ms + sum(times[node.node_name] for node in nodes)}


def _flop(node: Any) -> tuple[str, float]:
    """Return the type of a layer and its operations; only convolutions count."""
    if node.get_type_name() != "Convolution":
        return node.get_type_name(), 0.0
    out, into, *kernel = node.get_input_shape(1)
    pixels = np.prod(node.get_output_shape(0)[2:])
    size = "x".join(map(str, kernel))
    return f"{size} convolution", float(2 * out * into * np.prod(kernel) * pixels)


def _sources(compiled: Any) -> dict[str, list[str]]:
    """Return the layers of the file that each layer of the compiled model was made of."""
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        names = str(node.get_rt_info()["originalLayersNames"].value)
        found[node.get_friendly_name()] = names.split(",")
    return found
