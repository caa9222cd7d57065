"""Cut the power at many points of one recorded run and check what is left."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.runs import Digests, Run
from tests.powercut.disk import Loss, Tree, after_cut
from tests.powercut.promises import complete, hidden, promises
from tests.powercut.recording import record, write_tree

CACHE = ".cache"
"""The run's cache folder, on the same disk."""
_RANDOM = re.compile(r"[0-9a-f]{16}|tmp\w{8}|\d{3,7}(?=\.tmp)")
_TEMPORARY = re.compile(r"(.*/)?(\..*\.tmp.*|.*\.(tmp|part|short))")


@dataclass(frozen=True)
class Case:
    """One run, and what else is known of it."""

    run: Run
    reports: bool = False
    """Whether it takes `--report FILE`."""
    checkpoint: str = ""
    """File that is replaced again and again."""
    journal: str = ""
    """File that grows."""
    repository: str = ""
    """Folder of `--triton`."""


def cases_of(runs: Mapping[str, Run]) -> dict[str, Case]:
    """Return the cases by name."""
    journal = "run/log.jsonl"
    training = dataclasses.replace(runs["training"], digests=_with(runs["training"], journal))
    return {
        "folder": Case(runs["folder"], reports=True),
        "video": Case(runs["video"]),
        "training": Case(training, checkpoint="run/last.safetensors", journal=journal),
        "export": Case(_all_kinds(runs["export"], runs["folder"]), repository="repository"),
    }


def _all_kinds(export: Run, upscale: Run) -> Run:
    """Return an export of several files and a repository, made of the pictures of a folder run."""
    *words, output = export.command
    pictures = next(word for word in upscale.command if word.endswith("pictures"))
    words += ["--precision", "fp32,fp16", "--data", pictures, "--tile", "32x40", output]
    return dataclasses.replace(export, command=words, output="toy", digests=_files)


def _files(folder: Path) -> Digests:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not hidden(name)
    }


class PowerCuts:
    """Many cuts of one recorded run.

    Args:
        case: the run.
        folder: a new folder to work in.
        choice: random source of cuts and losses.
    """

    def __init__(self, case: Case, folder: Path, choice: random.Random) -> None:
        self._case, self._choice = case, choice
        self._disk = folder.resolve() / "disk"
        self._disk.mkdir(parents=True)
        streams = {"stdout": folder / "stdout", "stderr": folder / "stderr"}
        words = self._command([])
        if case.reports:
            streams["report"] = folder / "report.jsonl"
            words += ["--report", str(streams["report"])]
        recording = record(words, self._disk, streams, self._environment())
        assert recording.code == 0, streams["stderr"].read_text()
        self._expected = case.run.digests(self._disk)
        assert self._expected, "the undisturbed run wrote nothing"
        self._events = recording.events
        self._promises = promises(
            self._events, self._disk, checkpoint=case.checkpoint, journal=case.journal
        )
        versions = complete(self._events).items()
        self._versions = {path: {content for _, content in found} for path, found in versions}
        self._results: dict[str, str] = {}
        """Problem of each state that was run again, or ""."""
        self.count: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self, cuts: int, reruns: int) -> None:
        """Cut at every point in turn, in random order, with random losses."""
        points: list[int] = []
        for _ in range(cuts):
            if not points:
                points = list(range(len(self._events) + 1))
                self._choice.shuffle(points)
            self.cut(points.pop(), Loss.draw(self._choice), reruns)

    def cut(self, point: int, loss: Loss, reruns: int) -> None:
        """Check one state."""
        tree = after_cut(self._events, point, loss)
        self.count["cuts"] += 1
        what = f"cut after {point} of {len(self._events)} events, {loss}"
        due = [promise for promise in self._promises if promise.index < point]
        self.count["promises"] += len(due)
        if lost := {promise.path for promise in due if not promise.is_kept(tree)}:
            self._note("lost", f"{what}: reported as done, but lost: {sorted(lost)}")
        if damaged := self._damaged(tree):
            self._note("damaged", f"{what}: damaged: {damaged}")
        state = _digest(tree)
        if state not in self._results and len(self._results) < reruns:
            self._results[state] = self._run_again(tree)
            if self._results[state]:
                self._note("failed reruns", f"{what}: {self._results[state]}")
        self.count["cuts checked by rerun"] += state in self._results

    def report(self) -> dict[str, object]:
        """Return what was found."""
        names = ("cuts", "cuts checked by rerun", "promises", "lost", "damaged", "failed reruns")
        counts = {name.replace(" ", "_"): self.count[name] for name in names}
        return {
            "events": len(self._events),
            **counts,
            "reruns": len(self._results),
            "problems": self.problems[:10],
        }

    def _note(self, kind: str, problem: str) -> None:
        self.count[kind] += 1
        self.problems.append(problem)

    def _damaged(self, tree: Tree) -> list[str]:
        """Return the files with final names that are not complete."""
        return [
            path
            for path, content in tree.items()
            if content is not None and not hidden(path) and path != self._case.journal
            if content not in self._versions.get(path, ())
        ]

    def _run_again(self, tree: Tree) -> str:
        """Run the same command on a state; return what is wrong."""
        shutil.rmtree(self._disk)
        write_tree(tree, self._disk)
        run = self._case.run
        # a video that was finished before the cut has nothing to resume
        if not (run.resume and (self._disk / run.output).is_file()):
            words = self._command(run.resume)
            done = subprocess.run(words, capture_output=True, text=True, env=self._environment())
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:]
                return f"the second run failed: {done.returncode} {last}"
        try:
            found = run.digests(self._disk)
        except Exception as error:  # libraries raise many types for a damaged file
            return f"the second run left a damaged file: {error!r}"
        if found == self._expected:
            return ""
        names = {*found, *self._expected}
        wrong = sorted(name for name in names if found.get(name) != self._expected.get(name))
        return f"the second run gave another result: {wrong}"

    def _command(self, more: list[str]) -> list[str]:
        words = [*self._case.run.command, str(self._disk / self._case.run.output), *more]
        if self._case.repository:
            words += ["--triton", str(self._disk / self._case.repository)]
        return words

    def _environment(self) -> dict[str, str]:
        root = str(Path(__file__).parents[2])
        cache = str(self._disk / CACHE)
        return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "SRSDK_CACHE": cache}


def _with(run: Run, journal: str) -> Callable[[Path], Digests]:
    """Return the digests of a run and of its journal."""

    def digests(folder: Path) -> Digests:
        text = (folder / journal).read_bytes() if (folder / journal).is_file() else b""
        return {**run.digests(folder), journal: hashlib.sha256(text).hexdigest()}

    return digests


def _digest(tree: Tree) -> str:
    """Return the same digest for states between which a run cannot tell.

    The names of temporary files are random, and nothing reads them.
    """
    found = hashlib.sha256()
    for path, content in sorted(tree.items()):
        if _TEMPORARY.fullmatch(path):
            found.update(_RANDOM.sub("x", path).encode())
        else:
            found.update(path.encode() + b"\0" + hashlib.sha256(content or b"").digest())
    return found.hexdigest()
