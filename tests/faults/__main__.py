"""`python -m tests.faults all --hits 200`: signals at random moments (Linux).

Each cycle begins a run, sends it SIGINT, SIGTERM or SIGKILL at a random moment, looks at what is
left, and runs the same command to its end. A run that ended before its signal is looked at as well
and does not count. Exit code 1: a cycle went wrong.
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
"""Share of the signals that come after a run has begun to write; libraries load for longer."""
MISSES = 5
"""So many cycles for each signal that is to hit, or it is given up."""
END_S = 120
"""How long a process may go on after a signal."""
SHARED = Path("/dev/shm")


class Storm:
    """Cycles of one run.

    Args:
        run: what is stopped.
        folder: an empty folder to work in.
        choice: decides signals and moments.
    """

    def __init__(self, run: Run, folder: Path, choice: random.Random) -> None:
        self._run, self._folder, self._choice = run, folder, choice
        self.exits: Counter[str] = Counter()
        self.cycles = 0
        self.hits = 0
        """Runs that a signal ended, ..."""
        self.at_work = 0
        """... and of these the ones that had begun to write."""
        self.while_importing = 0
        self.leftovers: Counter[str] = Counter()
        self.problems: list[str] = []
        self._finish(folder / "first", [])
        self._seconds, self._idle_share = self._timed(folder / "second")
        self._expected = run.digests(folder / "second")
        assert self._expected, "the undisturbed run wrote nothing"
        assert self._expected == run.digests(folder / "first"), "it does not repeat itself"

    def rage(self, hits: int) -> None:
        """Go on, one kind of signal after the other, until so many runs have been ended."""
        for number in itertools.cycle(SIGNALS):
            if self.hits >= hits:
                return
            if self.cycles >= MISSES * hits:
                self.problems.append(f"{self.hits} hits in {self.cycles} cycles, wanted {hits}")
                return
            self.cycle(number)

    def cycle(self, number: signal.Signals) -> None:
        """Stop one run, look, go on to its end, look again."""
        place = self._folder / "cycle"
        shutil.rmtree(place, ignore_errors=True)
        self.cycles += 1
        idle = self._idle_share if self._choice.random() < AT_WORK else 0.0
        after_s = self._choice.uniform(idle, 1) * self._seconds
        what = f"{number.name} after {after_s:.2f} s"
        before = _shared()
        code, error = self._stopped(place, number, after_s)
        self.exits[f"{number.name} {code}"] += 1
        if code:
            self.hits += 1
            self.at_work += bool(_files(place))
        if "Traceback" in error and ", in main\n" not in error:
            self.while_importing += 1  # before any of our code could say a sentence
        elif "Traceback" in error:
            self.problems.append(f"{what}: a traceback, {error.strip().splitlines()[-1]}")
        self._look(place, f"{what}, exit code {code}", before)
        # a video that was finished before the signal has nothing to resume
        if not (self._run.resume and (place / self._run.output).is_file()):
            self._finish(place, self._run.resume)
        if self._run.digests(place) != self._expected:
            self.problems.append(f"{what}: the run that went on ends differently")
        self.leftovers[number.name] += len(_hidden(place))

    def _timed(self, place: Path) -> tuple[float, float]:
        """Return how long an undisturbed run takes, and the share of it before the first file."""
        place.mkdir(parents=True)
        began_s = time.monotonic()
        first_s = 0.0
        with subprocess.Popen(
            self._command(place, []),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        ) as process:
            while process.poll() is None:
                if not first_s and _files(place):
                    first_s = time.monotonic() - began_s
                time.sleep(0.005)
        assert process.returncode == 0, "the undisturbed run failed"
        seconds = time.monotonic() - began_s
        return seconds, first_s / seconds

    def _stopped(self, place: Path, number: signal.Signals, after_s: float) -> tuple[int, str]:
        place.mkdir(parents=True)
        with subprocess.Popen(
            self._command(place, []),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=_environment(),
        ) as process:
            began_s = time.monotonic()
            try:
                process.wait(after_s)
                # as fast as it is today, so that the next signals come in time
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

    def _look(self, place: Path, what: str, before: set[str]) -> None:
        try:
            left = self._run.digests(place)
        except Exception as error:  # whatever a library says of a damaged file
            self.problems.append(f"{what}: a damaged file under a final name: {error!r}")
            return
        if not left.items() <= self._expected.items():
            self.problems.append(f"{what}: {sorted(left)} is not what an undisturbed run writes")
        leaked = _shared() - before
        if leaked:
            time.sleep(1)  # a semaphore of somebody else has no name for long
            leaked &= _shared()
        if leaked:
            self.problems.append(f"{what}: shared memory {sorted(leaked)}")

    def _finish(self, place: Path, more: list[str]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        command = self._command(place, more)
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            self.problems.append(f"the second run failed: {done.returncode} {last}")

    def _command(self, place: Path, more: list[str]) -> list[str]:
        return [*self._run.command, str(place / self._run.output), *more]


def main() -> int:
    """Run the storms; a JSON line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("runs", nargs="+", choices=("all", *NAMES), metavar="RUN")
    parser.add_argument("--hits", type=int, default=200, help="runs of each that are ended (200)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="srsdk-faults-") as folder:
        runs = make_runs(Path(folder) / "inputs")
        names = NAMES if "all" in arguments.runs else arguments.runs
        for name in names:
            began_s = time.monotonic()
            storm = Storm(runs[name], Path(folder) / name, random.Random(arguments.seed))
            storm.rage(arguments.hits)
            report = {
                "run": name,
                "hits": storm.hits,
                "hits_at_work": storm.at_work,
                "cycles": storm.cycles,
                "seconds": round(time.monotonic() - began_s),
                "exits": dict(sorted(storm.exits.items())),
                "tracebacks_while_importing": storm.while_importing,
                "temporary_files_left": dict(+storm.leftovers),
                "problems": storm.problems,
            }
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()
            failed += len(storm.problems)
    return 1 if failed else 0


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _hidden(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if path.name.startswith(".")]


def _session(leader: int) -> list[int]:
    """Return the processes of a session that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(words[3]) == leader and words[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _shared() -> set[str]:
    """Return what lies in shared memory and no process has open."""
    there = {str(path) for path in SHARED.iterdir() if path.is_file()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text(errors="replace")
        except OSError:
            continue
        there -= {name for name in there if name in text}
    return there


if __name__ == "__main__":
    # a shell lets what it starts in the background ignore Ctrl-C, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
