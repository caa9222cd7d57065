"""Which files to upscale into which, decided before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from srsdk.errors import OutputError, UsageError


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


def plan(sources: Sequence[Path], output: Path) -> Plan:
    """Pair every source with its target; folders give all pictures directly in them.

    Raises:
        UsageError: several sources but `output` names one file; two sources with one target; a
            target that is its own source.
        OutputError: the output folder cannot be made.
    """
    result = Plan()
    if is_picture_name(output) and not output.is_dir():
        if len(sources) > 1 or sources[0].is_dir():
            raise UsageError(f"{output} is one file, but several pictures are to be written")
        result.jobs.append(Job(sources[0], output))
    else:
        found = [file for source in sources for file in _files(source, result.problems)]
        result.jobs += [Job(file, output / file.name) for file in found]
        _make_folder(output)
    _check(result.jobs)
    return result


def is_picture_name(path: Path) -> bool:
    """Say whether the suffix names a picture format that Pillow can write."""
    Image.init()
    return Image.EXTENSION.get(path.suffix.lower()) in Image.SAVE


def _files(source: Path, problems: list[str]) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    found = sorted(p for p in source.iterdir() if p.is_file() and is_picture_name(p))
    if not found:
        problems.append(f"{source}: no pictures in this folder")
    yield from found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error


def _check(jobs: list[Job]) -> None:
    sources: dict[Path, Path] = {}
    for job in jobs:
        if job.target in sources:
            both = f"{sources[job.target]} and {job.source}"
            raise UsageError(f"{both} would both be written to {job.target}")
        if job.target.resolve() == job.source.resolve():
            raise UsageError(f"{job.source} would be replaced by its own result; choose another -o")
        sources[job.target] = job.source
