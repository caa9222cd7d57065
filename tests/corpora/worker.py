"""One child from outside: started, given a file, ended when it hangs, started again."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tests.corpora.files import File
from tests.corpora.outcomes import counts, record_of

START_S = 120
"""How long a child may take to open its model."""
EXIT_S = 10
"""How long a child may take to exit, besides the time of a call."""
END_S = 3
"""A call that takes this many times its budget is ended."""
LATE = 1.5
"""A call that ends with its deadline may take this many times its budget."""
ATTEMPTS = 3
"""A call holds on to something if it holds one more each time, and not only at first."""
POLL_S = 0.2


class Stopped(Exception):  # noqa: N818 - no error: the user has stopped the run
    """The run was stopped while a call was made."""


class NotStarted(Exception):  # noqa: N818 - ends the run
    """A child that does not open its model: nothing can be tried."""


@dataclass(frozen=True)
class Settings:
    """What the child is told at its start."""

    seconds: float
    memory_bytes: int
    address_bytes: int
    model: str = "gan_x2"
    calls: str = "tests.corpora.calls"


class Worker:
    """A child, its scratch folder, and the judgment of its answers.

    Args:
        settings: limits, and what the child calls.
        folder: scratch, of this worker alone.
        stopped: whether the user has stopped the run.
    """

    def __init__(self, settings: Settings, folder: Path, stopped: Callable[[], bool]) -> None:
        self._settings, self._stopped = settings, stopped
        self._output, self._temporary = folder / "output", folder / "temporary"
        self._current = folder / "current"
        self._log = folder / "log"
        for each in (self._output, self._temporary, self._current):
            each.mkdir(parents=True)
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.missing: list[str] = []
        """Limits that this system does not have."""

    def try_file(self, file: File) -> dict[str, Any]:
        """Make all calls of a file and return its record.

        Raises:
            Stopped: the user has stopped the run.
            NotStarted: the child does not start.
        """
        calls = [self._try_call(file, call) for call in file.calls]
        return record_of(file, calls)

    def finish(self) -> str:
        """Let the child exit like an application; return what went wrong."""
        process = self._process
        if process is None:
            return ""
        assert process.stdin is not None
        with suppress(OSError):  # it has ended: why, says its exit code
            process.stdin.close()
        limit_s = EXIT_S + self._settings.seconds
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.close()
            return f"no exit within {limit_s:.0f} s"
        problem = self._ended() if code else ""
        self.close()
        return problem

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def _try_call(self, file: File, call: str) -> dict[str, Any]:
        found = self._judged(file, call)
        for _ in range(ATTEMPTS - 1):
            if found["outcome"] not in ("done", "refused") or not found["grown"]:
                return found
            found = self._judged(file, call)
        if found["outcome"] in ("done", "refused") and found["grown"]:
            found |= {"outcome": "leaked", "message": counts(found["grown"])}
        return found

    def _judged(self, file: File, call: str) -> dict[str, Any]:
        """Make one call, and hold its answer against the limits and the folders."""
        for folder in (self._output, self._temporary, self._current):
            _empty(folder)
        noise = self._log.stat().st_size if self._log.exists() else 0
        before = _state(file.location)
        found = {"call": call, **self._call(file, call)}
        found["noise_bytes"] = self._log.stat().st_size - noise
        if found["outcome"] not in ("crashed", "slow"):
            found |= self._judgment(file, found, before)
        if found["outcome"] == "slow":
            self.close()  # what still runs would slow the next call
        elif found["outcome"] == "late" and (problem := self.finish()):
            # work that a deadline left behind must not break the exit of an application
            found |= {"outcome": "crashed", "message": f"at exit after a deadline: {problem}"}
        return found

    def _judgment(
        self, file: File, found: dict[str, Any], before: tuple[int, int] | None
    ) -> dict[str, Any]:
        """Return what replaces the child's own answer."""
        outcome, seconds = found["outcome"], found["seconds"]
        if outcome == "foreign":
            return {}
        if seconds > self._settings.seconds * (LATE if outcome == "late" else 1):
            return {"outcome": "slow", "message": f"{outcome} after its budget"}
        left = [] if outcome == "late" and found["grown"] else self._left(found)
        if _state(file.location) != before:
            left.append("the source was changed")
        if left:
            return {"outcome": "left behind", "message": ", ".join(left)[:400]}
        if outcome == "done" and self._is_over_memory(found["call"], found["peak_mb"]):
            return {"outcome": "over memory", "message": f"more than {self._memory_mb:.0f} MB"}
        return {}

    def _is_over_memory(self, call: str, peak_mb: float) -> bool:
        return not call.startswith(("model", "video")) and peak_mb > self._memory_mb

    @property
    def _memory_mb(self) -> float:
        return self._settings.memory_bytes / 1e6

    def _left(self, answer: dict[str, Any]) -> list[str]:
        """Return the files that a call left besides its result."""
        result = answer.get("result")
        allowed = {self._output / result} if result else set()
        folders = (self._output, self._temporary, self._current)
        found = [path for each in folders for path in each.rglob("*") if path not in allowed]
        if answer["call"].startswith("video") and answer["outcome"] == "late":
            # the documented parts of a video that is not finished
            found = [path for path in found if not path.is_relative_to(self._output)]
        return sorted(path.name for path in found)

    def _call(self, file: File, call: str) -> dict[str, Any]:
        process = self._process or self._start()
        request = {"call": call, "path": str(file.location), "folder": str(self._output)}
        began_s = time.monotonic()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = self._answer(self._settings.seconds * END_S)
        except OSError:
            answer = ""
        seconds = round(time.monotonic() - began_s, 3)
        if answer:
            found: dict[str, Any] = json.loads(answer)
            return found
        if answer is None:
            self.close()
            return {
                "outcome": "slow",
                "seconds": seconds,
                "message": f"ended after {seconds:.0f} s",
            }
        return {"outcome": "crashed", "seconds": seconds, "message": self._ended()}

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "tests.corpora.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="ascii",
                cwd=self._current,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is this process's alone
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self._process, self._answers = process, queue.SimpleQueue()
        assert process.stdin is not None
        assert process.stdout is not None
        arguments = (process.stdout, self._answers)
        threading.Thread(target=_pass_on, args=arguments, daemon=True).start()
        try:
            process.stdin.write(json.dumps(asdict(self._settings)) + "\n")
            process.stdin.flush()
            answer = self._answer(START_S)
        except OSError:
            answer = ""
        if not answer:
            text = self._log.read_text(encoding="utf-8", errors="replace")
            self.close()
            raise NotStarted(f"the child did not start: {text[-2000:]}")
        self.missing = json.loads(answer)["missing"]
        return process

    def _answer(self, seconds: float) -> str | None:
        """Return the next line of the child; "" if it has ended, None if it does not answer."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if self._stopped():
                raise Stopped
            try:
                return self._answers.get(timeout=POLL_S)
            except queue.Empty:
                continue
        return None

    def _ended(self) -> str:
        """Say how the child ended, and where as far as it could say that itself."""
        assert self._process is not None
        code = self._process.wait()
        self.close()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
        places = [line.strip() for line in lines if line.startswith("  File ")]
        return f"{name} {places[0] if places else ''}".strip()

    def _environment(self) -> dict[str, str]:
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        temporary = str(self._temporary)
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary),
            "SRSDK_CACHE": str(self._log.parent.parent / "cache"),
        }


def _pass_on(stream: IO[str], answers: queue.SimpleQueue[str]) -> None:
    try:
        for line in stream:
            answers.put(line)
    except ValueError:
        pass  # closed because the child was ended
    answers.put("")


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns
