"""A real `srsdk serve` in a process of its own."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

# without the extra, tests that use this file are skipped (tests/optional.py)
importlib.import_module("fastapi_offline")
START_S = 120
END_S = 120


class Running:
    """The server's process, its port and what it has written."""

    def __init__(self, *arguments: str, before: Sequence[str] = (), **environment: str) -> None:
        command = [*before, sys.executable, "-m", "srsdk", "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._ready.wait(START_S) or not (found := self._address()):
            self.end(signal.SIGTERM)
            raise AssertionError(f"the server did not start: {''.join(self.lines)}")
        self.port = int(found[1])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if self._address():
                self._ready.set()
        self._ready.set()

    def _address(self) -> re.Match[str] | None:
        return re.search(r"ready at http://[^/]*:(\d+)/", "".join(self.lines))

    @property
    def text(self) -> str:
        """What it has written."""
        return "".join(self.lines)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code."""
        code = self.process.wait(END_S)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def ask(
        self,
        path: str = "/",
        body: bytes | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, Any]:
        """Return status, body and headers of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            method = method or ("GET" if body is None else "POST")
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def error(self, *request: Any, **others: Any) -> tuple[int, str]:
        """Return status and sentence of a request that is refused."""
        status, body, _ = self.ask(*request, **others)
        return status, str(json.loads(body)["error"])

    def metric(self, name: str) -> float:
        """Return one value of /metrics; 0 where it has not been counted yet."""
        text = self.ask("/metrics")[1].decode()
        found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0].split()[-1]) if found else 0.0

    def connect(self) -> socket.socket:
        """Return a connection to write bytes to."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextmanager
def running(*arguments: str, before: Sequence[str] = (), **environment: str) -> Iterator[Running]:
    """Run a server, and stop it at the end; `before`: what starts the command, and becomes it."""
    server = Running(*arguments, before=before, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()
