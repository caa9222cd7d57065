"""Stop runs with signals at random moments: `python -m tests.faults all --hits 200` (Linux).

Each cycle starts a run, sends it SIGINT, SIGTERM or SIGKILL at a random moment, checks what it
left, and runs the same command to its end. A run that ended before its signal is checked as well
but does not count as a hit. Exit code 1: a cycle failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.runs import Run, make_runs

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
NAMES = ("folder", "video", "training", "export")
AT_WORK = 0.75
"""Share of signals sent after a run has started to write; loading the libraries takes longer."""
MISSES = 5
"""Cycles per requested hit after which to give up."""
END_S = 120
"""How long a process may continue after a signal."""
SHARED = Path("/dev/shm")


class FaultTest:
    """Repeated interruptions of one run.

    Args:
        run: the run to stop.
        folder: an empty folder to work in.
        choice: random source of signals and moments.
    """

    def __init__(self, run: Run, folder: Path, choice: random.Random) -> None:
        self._run, self._folder, self._choice = run, folder, choice
        self.exits: Counter[str] = Counter()
        self.cycles = 0
        self.hits = 0
        """Runs ended by a signal."""
        self.at_work = 0
        """Hits after the run had started to write."""
        self.while_importing = 0
        self.leftovers: Counter[str] = Counter()
        self.problems: list[str] = []
        self._finish(folder / "first", [])
        self._seconds, self._idle_share = self._timed(folder / "second")
        self._expected = run.digests(folder / "second")
        assert self._expected, "the uninterrupted run wrote nothing"
        assert self._expected == run.digests(folder / "first"), "the run is not deterministic"

    def run_until(self, hits: int) -> None:
        """Run cycles with alternating signals until `hits` runs were ended by one."""
        for number in itertools.cycle(SIGNALS):
            if self.hits >= hits:
                return
            if self.cycles >= MISSES * hits:
                self.problems.append(f"{self.hits} hits in {self.cycles} cycles, expected {hits}")
                return
            self.cycle(number)

    def cycle(self, number: signal.Signals) -> None:
        """Stop one run, check its files, run it to its end and check again."""
        workdir = self._folder / "cycle"
        shutil.rmtree(workdir, ignore_errors=True)
        self.cycles += 1
        idle = self._idle_share if self._choice.random() < AT_WORK else 0.0
        after_s = self._choice.uniform(idle, 1) * self._seconds
        what = f"{number.name} after {after_s:.2f} s"
        before = _shared()
        code, error = self._stopped(workdir, number, after_s)
        self.exits[f"{number.name} {code}"] += 1
        if code:
            self.hits += 1
            self.at_work += bool(_files(workdir))
        if "Traceback" in error and ", in main\n" not in error:
            self.while_importing += 1  # before our code could print a message
        elif "Traceback" in error:
            self.problems.append(f"{what}: a traceback, {error.strip().splitlines()[-1]}")
        self._check_files(workdir, f"{what}, exit code {code}", before)
        # a video that was finished before the signal has nothing to resume
        if not (self._run.resume and (workdir / self._run.output).is_file()):
            self._finish(workdir, self._run.resume)
        if self._run.digests(workdir) != self._expected:
            self.problems.append(f"{what}: the resumed run gave another result")
        self.leftovers[number.name] += len(_hidden(workdir))

    def _timed(self, workdir: Path) -> tuple[float, float]:
        """Return the duration of an uninterrupted run and its share before the first file."""
        workdir.mkdir(parents=True)
        began_s = time.monotonic()
        first_s = 0.0
        with subprocess.Popen(
            self._command(workdir, []),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        ) as process:
            while process.poll() is None:
                if not first_s and _files(workdir):
                    first_s = time.monotonic() - began_s
                time.sleep(0.005)
        assert process.returncode == 0, "the uninterrupted run failed"
        seconds = time.monotonic() - began_s
        return seconds, first_s / seconds

    def _stopped(self, workdir: Path, number: signal.Signals, after_s: float) -> tuple[int, str]:
        workdir.mkdir(parents=True)
        with subprocess.Popen(
            self._command(workdir, []),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=_environment(),
        ) as process:
            began_s = time.monotonic()
            try:
                process.wait(after_s)
                # adapt to the current speed, so that the next signals come in time
                self._seconds = time.monotonic() - began_s
            except subprocess.TimeoutExpired:
                process.send_signal(number)
            try:
                _, error = process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                self.problems.append(f"{number.name} after {after_s:.2f} s: it did not end")
                process.kill()
                _, error = process.communicate()
        orphans = _session(process.pid)
        if orphans:
            self.problems.append(f"{number.name} after {after_s:.2f} s: orphans {orphans}")
        return process.returncode, error

    def _check_files(self, workdir: Path, what: str, before: set[str]) -> None:
        try:
            left = self._run.digests(workdir)
        except Exception as error:  # libraries raise many types for a damaged file
            self.problems.append(f"{what}: a damaged file under a final name: {error!r}")
            return
        if not left.items() <= self._expected.items():
            self.problems.append(f"{what}: {sorted(left)} is not what an uninterrupted run writes")
        leaked = _shared() - before
        if leaked:
            time.sleep(1)  # a semaphore of another process is named only briefly
            leaked &= _shared()
        if leaked:
            self.problems.append(f"{what}: shared memory {sorted(leaked)}")

    def _finish(self, workdir: Path, more: list[str]) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        command = self._command(workdir, more)
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            self.problems.append(f"the second run failed: {done.returncode} {last}")

    def _command(self, workdir: Path, more: list[str]) -> list[str]:
        return [*self._run.command, str(workdir / self._run.output), *more]


def main() -> int:
    """Test each run and print one JSON line for it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("runs", nargs="+", choices=("all", *NAMES), metavar="RUN")
    parser.add_argument(
        "--hits", type=int, default=200, help="interruptions per run (default: 200)"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="srsdk-faults-") as folder:
        runs = make_runs(Path(folder) / "inputs")
        names = NAMES if "all" in arguments.runs else arguments.runs
        for name in names:
            began_s = time.monotonic()
            test = FaultTest(runs[name], Path(folder) / name, random.Random(arguments.seed))
            test.run_until(arguments.hits)
            report = {
                "run": name,
                "hits": test.hits,
                "hits_at_work": test.at_work,
                "cycles": test.cycles,
                "seconds": round(time.monotonic() - began_s),
                "exits": dict(sorted(test.exits.items())),
                "tracebacks_while_importing": test.while_importing,
                "temporary_files_left": dict(+test.leftovers),
                "problems": test.problems,
            }
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()
            failed += len(test.problems)
    return 1 if failed else 0


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _hidden(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if path.name.startswith(".")]


def _session(leader: int) -> list[int]:
    """Return the process ids of a session that are still running."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # the process has just ended
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _shared() -> set[str]:
    """Return the files in shared memory that no process has open."""
    files = {str(path) for path in SHARED.iterdir() if path.is_file()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text(errors="replace")
        except OSError:
            continue
        files -= {name for name in files if name in text}
    return files


if __name__ == "__main__":
    # shells make background jobs ignore Ctrl-C, and child processes inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
