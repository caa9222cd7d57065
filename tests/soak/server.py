"""Load test of `srsdk serve` on the loopback: `python -m tests.soak.server --minutes 10`.

Clients with connections that they keep send pictures of mixed sizes and formats, raw and in forms,
each as soon as its last one is answered. Every answer must equal the one that the same request got
without load. The memory of the server's process is read once a second. Prints one line of JSON and
a table of the memory; exit code 1: an answer differs or fails, or memory grows. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import random
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srsdk.system.processor import processor
from tests.srsdk.serving.clients import form
from tests.srsdk.serving.running import Running, running

SAMPLE = Path(__file__).parents[2] / "samples" / "astronaut.png"
SIDES = ((64, 96), (128, 128), (120, 160), (256, 256), (256, 200), (384, 512))
"""Heights and widths of the pictures."""
INPUTS = ("PNG", "JPEG", "WEBP")
OUTPUTS = ("png", "jpeg", "webp")
MAX_GROWTH_MIB = 32
"""How much more memory the last tenth of the time may need than the third."""
TENTHS = 10


@dataclass(frozen=True)
class Request:
    """What a client sends, and what it must get."""

    path: str
    body: bytes
    headers: dict[str, str]
    pixels: int


@dataclass
class Tally:
    """What all clients saw."""

    ms: list[float] = field(default_factory=list)
    pixels: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def requests() -> list[Request]:
    """Return crops of the sample in all formats, raw and in forms by turns."""
    with Image.open(SAMPLE) as image:
        photo = np.tile(np.asarray(image.convert("RGB")), (2, 2, 1))
    found: list[Request] = []
    for height, width in SIDES:
        for kind in INPUTS:
            buffer = io.BytesIO()
            Image.fromarray(photo[:height, :width]).save(buffer, kind)
            for output in OUTPUTS:
                body, headers = buffer.getvalue(), {"Content-Type": f"image/{kind.lower()}"}
                if len(found) % 2:
                    body, header = form(("image", body, "photo"))
                    headers = dict([header])
                found.append(Request(f"/?format={output}", body, headers, height * width))
    return found


def send(connection: http.client.HTTPConnection, request: Request) -> tuple[int, str]:
    """Send one request; return the status and the digest of the answer."""
    connection.request("POST", request.path, request.body, request.headers)
    answer = connection.getresponse()
    return answer.status, hashlib.sha256(answer.read()).hexdigest()


class Load:
    """Clients of one server.

    Args:
        server: the server.
        seconds: how long they send.
    """

    def __init__(self, server: Running, seconds: float) -> None:
        self._server, self._requests = server, requests()
        self._seconds = seconds
        self.tally = Tally()
        self._lock = threading.Lock()
        connection = self._connect()
        self._expected = [send(connection, request) for request in self._requests]
        connection.close()
        wrong = {status for status, _ in self._expected} - {200}
        assert not wrong, wrong
        self.until_s = time.monotonic() + seconds

    def client(self, seed: int) -> None:
        """Send until the time is over."""
        choice, connection = random.Random(seed), self._connect()
        while time.monotonic() < self.until_s:
            index = choice.randrange(len(self._requests))
            request, began_s = self._requests[index], time.perf_counter()
            try:
                found = send(connection, request)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with self._lock:
                    self.tally.problems.append(repr(error))
                continue
            ms = (time.perf_counter() - began_s) * 1000
            with self._lock:
                self.tally.ms.append(ms)
                self.tally.pixels += request.pixels
                self.tally.statuses[found[0]] += 1
                if found != self._expected[index]:
                    self.tally.problems.append(f"{request.path}: status {found[0]}, or other bytes")
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=300)


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def run(clients: int, seconds: float, *arguments: str) -> dict[str, Any]:
    """Load one server; `arguments` are those of `srsdk serve`."""
    with running("--no-access-log", "--queue", str(2 * clients), *arguments) as server:
        load = Load(server, seconds)
        threads = [threading.Thread(target=load.client, args=(seed,)) for seed in range(clients)]
        for thread in threads:
            thread.start()
        memory = []
        while time.monotonic() < load.until_s:
            memory.append(resident_mib(server.process.pid))
            time.sleep(min(1.0, seconds / 50))
        for thread in threads:
            thread.join()
        code = server.end()
    if code:
        load.tally.problems.append(f"the server ended with {code}: {server.text[-500:]}")
    return report(load.tally, memory, clients, seconds)


def report(tally: Tally, memory: list[float], clients: int, seconds: float) -> dict[str, Any]:
    """Return the figures of one run."""
    cuts = statistics.quantiles(tally.ms, n=100, method="inclusive")
    tenths = [
        statistics.median(memory[len(memory) * n // TENTHS : len(memory) * (n + 1) // TENTHS])
        for n in range(TENTHS)
    ]
    return {
        "clients": clients, "seconds": round(seconds), "requests": len(tally.ms),
        "requests_per_s": round(len(tally.ms) / seconds, 1),
        "megapixels_per_s": round(tally.pixels / seconds / 1e6, 2),
        **{f"p{n}_ms": round(cuts[n - 1]) for n in (50, 90, 99)}, "max_ms": round(max(tally.ms)),
        "statuses": dict(tally.statuses), "problems": tally.problems[:20],
        "memory_mib": [round(each) for each in tenths], "peak_mib": round(max(memory)),
        "growth_mib": round(tenths[-1] - tenths[2], 1), "processor": str(processor()),
    }  # fmt: skip


def main() -> int:
    """Run the load, print the figures and judge them."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.server", description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("arguments", nargs="*", help="after --: options of `srsdk serve`")
    given = parser.parse_args()
    found = run(given.clients, given.minutes * 60, *given.arguments)
    sys.stdout.write(json.dumps(found) + "\n\n| tenth of the time | ")
    sys.stdout.write(" | ".join(str(n + 1) for n in range(TENTHS)) + " |\n")
    sys.stdout.write("|" + "---|" * (TENTHS + 1) + "\n| memory of the server, MiB | ")
    sys.stdout.write(" | ".join(map(str, found["memory_mib"])) + " |\n")
    return int(bool(found["problems"]) or found["growth_mib"] > MAX_GROWTH_MIB)


if __name__ == "__main__":
    raise SystemExit(main())
