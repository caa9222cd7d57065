"""Keep several pictures in flight, in srsdk and in bare OpenVINO."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import srsdk
from benchmarks.peers import bare_openvino
from benchmarks.workloads import WORKLOADS, pictures

BARE = "openvino"
"""Name of the bare engine among the candidates; the others are `srsdk` and its `optimize`."""
PICTURES = 4
WARM_UP_S = 0.5


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Keep pictures in flight for some seconds; called in its own process.

    Returns:
        `pictures`, `seconds` and `cpu_seconds` of the whole process.
    """
    workload = WORKLOADS[config["workload"]]
    made = pictures(workload, PICTURES)
    begin = _bare if config["candidate"] == BARE else _ours
    return _fly(*begin(config, made), config["flights"], config["seconds"])


def _fly(
    submit: Callable[[int], Any], wait: Callable[[Any], None], flights: int, seconds: float
) -> dict[str, Any]:
    """Keep `flights` pictures in flight; count those that end after the warm-up, for `seconds`."""
    flying: deque[Any] = deque()
    begun = 0

    def one() -> None:
        nonlocal begun
        while len(flying) < flights:
            flying.append(submit(begun))
            begun += 1
        wait(flying.popleft())

    warm = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < warm or begun < 2 * flights:
        one()
    began, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < began + seconds or count < flights:
        one()
        count += 1
    found = {
        "pictures": count,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    while flying:
        wait(flying.popleft())
    return found


def _ours(
    config: dict[str, Any], made: list[Any]
) -> tuple[Callable[[int], Any], Callable[[Any], None]]:
    optimize = config["candidate"].removeprefix("srsdk ")
    # the path names the file that runs; a model's name would choose a precision
    up = srsdk.Upscaler(Path(config["path"]), optimize=optimize, threads=config["threads"])
    for picture in made:
        up(picture)

    def submit(index: int) -> Any:
        return up.submit(made[index % len(made)])

    def wait(future: Any) -> None:
        future.result()

    return submit, wait


def _bare(
    config: dict[str, Any], made: list[Any]
) -> tuple[Callable[[int], Any], Callable[[Any], None]]:
    flights = config["flights"]
    requests = bare_openvino.requests(
        Path(config["path"]), made[0].shape, config["threads"], flights
    )
    tensors = [bare_openvino.tensor(picture[None]) for picture in made]

    def submit(index: int) -> Any:
        request = requests[index % flights]
        request.set_input_tensor(0, tensors[index % len(tensors)])
        request.start_async()
        return request

    def wait(request: Any) -> None:
        request.wait()

    return submit, wait
