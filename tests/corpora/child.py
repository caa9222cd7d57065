"""The process that makes the calls: one JSON request per line in, one JSON answer per line out."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from tests.corpora import limits

MESSAGE_CHARACTERS = 400
PROCESSOR_FACTOR = 8
"""Seconds of processor time per second of the deadline after which the system ends the child."""


class Child:
    """Make calls and measure them.

    Args:
        settings: see `tests.corpora.calls.Calls`; `calls` names the module that has it.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.missing = limits.limit(int(settings["address_bytes"]))
        self._calls: Any = importlib.import_module(settings["calls"]).Calls(settings)
        self._processor_s = PROCESSOR_FACTOR * float(settings["seconds"])
        self._held = limits.held()

    def answer(self, request: dict[str, str]) -> dict[str, Any]:
        """Make one call and describe what came of it."""
        call, path, folder = request["call"], Path(request["path"]), Path(request["folder"])
        limits.limit_processor(self._processor_s)
        peak = limits.Peak()
        began_s, processor_s = time.perf_counter(), time.process_time()
        target, error = None, None
        try:
            target = self._calls.run(call, path, folder)
        except Exception as caught:  # whatever it is, it is the finding
            error = caught
        found: dict[str, Any] = {
            "seconds": round(time.perf_counter() - began_s, 3),
            "processor_seconds": round(time.process_time() - processor_s, 3),
            "peak_mb": round(peak.grown_bytes() / 1e6, 1),
        }
        if error is None:
            found |= self._checked(call, path, target)
        else:
            found |= self._described(error)
        error = None
        # after a deadline at once: the parent ends this process while abandoned work goes on
        settle_s = 0.0 if found["outcome"] == "late" else limits.SETTLE_S
        found["grown"] = limits.grown(self._held, settle_s)
        self._held = limits.held()
        return found

    def _checked(self, call: str, path: Path, target: Path | None) -> dict[str, Any]:
        name = None if target is None else target.name
        try:
            self._calls.check(call, path, target)
        except Exception as error:  # a result that cannot be read again
            return {"outcome": "unreadable", "result": name, **_error(error)}
        return {"outcome": "done", "result": name}

    def _described(self, error: Exception) -> dict[str, Any]:
        outcome = "foreign"
        if isinstance(error, self._calls.late):
            outcome = "late"
        elif isinstance(error, self._calls.refusals):
            outcome = "refused"
        found = {"outcome": outcome, **_error(error)}
        if outcome == "foreign":
            found["where"] = _where(error)
        return found


def _error(error: Exception) -> dict[str, str]:
    return {"type": type(error).__name__, "message": str(error)[:MESSAGE_CHARACTERS]}


def _where(error: Exception) -> str:
    """Return the last line of a traceback, and the last one of srsdk."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "srsdk" in Path(frame.filename).parts] or frames
    names = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in (frames[-1], ours[-1])]
    return " < ".join(dict.fromkeys(names))


def main() -> None:
    """Answer requests until the input ends."""
    answers = _private_output()
    settings = json.loads(sys.stdin.readline())
    child = Child(settings)
    _send(answers, {"ready": True, "missing": child.missing})
    for line in sys.stdin:
        _send(answers, child.answer(json.loads(line)))


def _private_output() -> TextIO:
    """Keep the output for answers; what libraries print goes where errors go."""
    kept = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return kept


def _send(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
