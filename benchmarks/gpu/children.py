"""Run sections of `gpu-check` as processes with a time limit; a crash or a hang loses only one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu.catalog import Section
from benchmarks.gpu.job import ROOT, Setup
from benchmarks.gpu.record import DONE, FAILED, MISSING, STOPPED

LOG = "gpu-check.log"
PROBE_S = 60.0
KILL_S = 10.0
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # else JAX takes three quarters of the memory
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}


def environment() -> dict[str, str]:
    """Return the environment of sections: that of this process, and what libraries need."""
    found = {**os.environ, **ENVIRONMENT}
    # ONNX Runtime looks for NVIDIA's wheels beside itself, and may be installed elsewhere; what the
    # caller has set comes first
    folders = [os.environ.get("LD_LIBRARY_PATH", ""), *_nvidia_folders()]
    path = os.pathsep.join(folder for folder in folders if folder)
    return {**found, "LD_LIBRARY_PATH": path} if path else found


def _nvidia_folders() -> list[str]:
    roots = [Path(entry) / "nvidia" for entry in sys.path if entry]
    return [str(lib) for root in roots if root.is_dir() for lib in sorted(root.glob("*/lib"))]


def no_gpu() -> str | None:
    """Return why no GPU can be used; None: there is one.

    Asks in another process: this one must stay free of the driver, which may hang.
    """
    code = "from benchmarks.gpu.needs import gpu; print(gpu() or '', end='')"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the driver did not answer in {PROBE_S:.0f} s: check nvidia-smi"
    if done.returncode:
        return f"asking the driver failed: {_last_line(done.stderr)}"
    return done.stdout.strip() or None


def run(section: Section, setup: Setup, budget_s: float) -> dict[str, Any]:
    """Run a section and return its entry of the record.

    Args:
        section: what to run.
        setup: the arguments of the command.
        budget_s: seconds after which the process and all that it started are killed.
    """
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        result = Path(folder) / "result.json"
        call = [sys.executable, "-m", "benchmarks.gpu.child", section.work,
                ",".join(section.needs), str(budget_s), setup.to_json(), str(result)]  # fmt: skip
        with (setup.out / LOG).open("a", encoding="utf-8") as log:
            log.write(f"\n== {section.name}\n")
            log.flush()
            start = log.tell()
            code = _supervised(call, budget_s, log)
        record = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    status, reason = _judged(record, code, budget_s, _tail(setup.out / LOG, start))
    return {
        "status": status,
        "reason": reason,
        "seconds": round(time.monotonic() - began_s, 1),
        "budget_s": round(budget_s, 1),
        "checks": record.get("checks", []),
        "found": record.get("found", {}),
    }


def _supervised(call: list[str], budget_s: float, log: IO[str]) -> int | None:
    """Return the exit code; None: the time was over and the process was killed."""
    # a group of its own, so that what the section starts ends with it
    process = subprocess.Popen(
        call, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        process_group=0,
    )  # fmt: skip
    try:
        return process.wait(budget_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # the whole group has ended
    try:
        process.wait(KILL_S)
    except subprocess.TimeoutExpired:
        # it hangs in the driver and cannot be ended; the next sections may still work
        sys.stderr.write(f"gpu-check: process {process.pid} cannot be killed\n")


def _judged(
    record: dict[str, Any], code: int | None, budget_s: float, tail: str
) -> tuple[str, str | None]:
    """Return status and reason."""
    broken = [check["what"] for check in record.get("checks", []) if not check["holds"]]
    if broken:
        return FAILED, "does not hold: " + "; ".join(broken)
    if "missing" in record:
        return MISSING, record["missing"]
    if "error" in record:
        return FAILED, record["error"]
    if record.get("finished") and code == 0:
        return DONE, None
    if code is None:
        return STOPPED, f"not finished in {budget_s:.0f} s"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return FAILED, f"the process died: {how}; last line: {_last_line(tail)}"


def _tail(path: Path, start: int) -> str:
    with path.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "nothing"
