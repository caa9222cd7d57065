"""Plan which files to upscale into which targets, before any work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from srsdk.errors import OutputError, UsageError
from srsdk.system.paths import folded, ignores_case, is_same_file


@dataclass(frozen=True)
class Job:
    """A source file to upscale and its target file."""

    source: Path
    target: Path


@dataclass
class Plan:
    """All jobs of one call, and a message for each source that cannot be used."""

    jobs: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    into_folder: bool = True
    """Whether the output is a folder; existing files in it are skipped."""


def plan(sources: Sequence[Path], output: Path, *, recursive: bool = False) -> Plan:
    """Match every source with a target; a folder contributes all pictures directly in it.

    Args:
        sources: files and folders.
        output: a picture file, for a single source, or a folder, which is created.
        recursive: include subfolders and keep the folder structure.

    Raises:
        UsageError: several sources but `output` names one file; two sources with one target; a
            target that is its own source.
        OutputError: the output folder cannot be created.
    """
    result = Plan()
    if is_picture_name(output) and not output.is_dir():
        if len(sources) > 1 or sources[0].is_dir():
            raise UsageError(
                f"{output} is one file, but several pictures were given; name a folder"
            )
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
    """Return whether the suffix names a picture format that Pillow can write."""
    Image.init()
    return Image.EXTENSION.get(path.suffix.lower()) in Image.SAVE


def make_folder_of(job: Job) -> None:
    """Create the folder of a job's target.

    Raises:
        OutputError: the folder cannot be created.
    """
    _make_folder(job.target.parent)


def _jobs(source: Path, output: Path, recursive: bool, problems: list[str]) -> Iterator[Job]:
    if not source.is_dir():
        yield Job(source, output / source.name)
        return
    count = 0
    for file in _walk(source, output) if recursive else sorted(source.iterdir()):
        # hidden files belong to other programs or are leftovers of a killed run
        if is_picture_name(file) and not file.name.startswith(".") and file.is_file():
            count += 1
            yield Job(file, output / file.relative_to(source))
    if not count:
        hint = "" if recursive else " (-r includes subfolders)"
        problems.append(f"{source}: no pictures in this folder{hint}")


def _walk(source: Path, output: Path) -> Iterator[Path]:
    """Yield all files below a folder except the results of an earlier run."""
    for folder, folders, files in os.walk(source):
        parent = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not is_same_file(parent / name, output)
        )
        for name in sorted(files):
            yield parent / name


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created: {error.strerror}") from error


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
            raise UsageError(
                f"{both} would both be written to {job.target}: the file system ignores case"
            )
        if is_same_file(job.target, job.source):
            raise UsageError(f"{job.source} would be replaced by its own result; choose another -o")
        sources[job.target] = job.source
