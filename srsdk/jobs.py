"""Which files to upscale into which, decided before any work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from srsdk.errors import OutputError, UsageError
from srsdk.system import folded, ignores_case, is_same_file


@dataclass(frozen=True)
class Job:
    """One picture file to upscale into another."""

    source: Path
    target: Path


@dataclass
class Plan:
    """All jobs of one call, and a sentence for each source that is none."""

    jobs: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    into_folder: bool = True
    """Whether the output is a folder, in which what is there already is skipped."""


def plan(sources: Sequence[Path], output: Path, *, recursive: bool = False) -> Plan:
    """Pair every source with its target; folders give all pictures directly in them.

    Args:
        sources: files and folders.
        output: a picture file, for one source, or a folder, which is made.
        recursive: take the pictures in folders of folders too, and keep the tree.

    Raises:
        UsageError: several sources but `output` names one file; two sources with one target; a
            target that is its own source.
        OutputError: the output folder cannot be made.
    """
    result = Plan()
    if is_picture_name(output) and not output.is_dir():
        if len(sources) > 1 or sources[0].is_dir():
            raise UsageError(f"{output} is one file, but several pictures are to be written")
        result.into_folder = False
        result.jobs.append(Job(sources[0], output))
    else:
        for source in sources:
            result.jobs += _jobs(source, output, recursive, result.problems)
    _check(result.jobs)
    if result.into_folder and result.jobs:
        _make_folder(output)
    return result


def is_picture_name(path: Path) -> bool:
    """Say whether the suffix names a picture format that Pillow can write."""
    Image.init()
    return Image.EXTENSION.get(path.suffix.lower()) in Image.SAVE


def make_folder_of(job: Job) -> None:
    """Make the folder of a job's target.

    Raises:
        OutputError: it cannot be made.
    """
    _make_folder(job.target.parent)


def _jobs(source: Path, output: Path, recursive: bool, problems: list[str]) -> Iterator[Job]:
    if not source.is_dir():
        yield Job(source, output / source.name)
        return
    count = 0
    for file in _walk(source, output) if recursive else sorted(source.iterdir()):
        # hidden ones are other programs' own, or what a killed run of ours has left
        if is_picture_name(file) and not file.name.startswith(".") and file.is_file():
            count += 1
            yield Job(file, output / file.relative_to(source))
    if not count:
        hint = "" if recursive else " (-r looks into its folders too)"
        problems.append(f"{source}: no pictures in this folder{hint}")


def _walk(source: Path, output: Path) -> Iterator[Path]:
    """Yield all files below a folder, but not the results of an earlier run."""
    for folder, folders, files in os.walk(source):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not is_same_file(here / name, output)
        )
        for name in sorted(files):
            yield here / name


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error


def _check(jobs: list[Job]) -> None:
    sources: dict[Path, Path] = {}
    twins: dict[str, Job] = {}
    for job in jobs:
        twin = twins.setdefault(folded(job.target), job)
        if job.target in sources:
            both = f"{sources[job.target]} and {job.source}"
            raise UsageError(f"{both} would both be written to {job.target}")
        if twin is not job and ignores_case(job.target.parent):
            both = f"{twin.source} and {job.source}"
            raise UsageError(f"{both} would both be written to {job.target}: case does not count")
        if is_same_file(job.target, job.source):
            raise UsageError(f"{job.source} would be replaced by its own result; choose another -o")
        sources[job.target] = job.source
