"""Plan which files to upscale into which targets, before any work."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from srsdk.batch import unread
from srsdk.batch.naming import Naming, format_of, is_readable
from srsdk.batch.walking import Walk
from srsdk.errors import OutputError, UsageError
from srsdk.system import durable
from srsdk.system.paths import folded, ignores_case

DEFAULT_NAMING = Naming()


@dataclass(frozen=True)
class Job:
    """A source file to upscale and the files to write."""

    source: Path
    target: Path
    comparison: Path | None = None
    """Side-by-side picture to write too."""


@dataclass
class Plan:
    """All jobs of one call, and a message for each source that cannot be used."""

    jobs: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A message for each file or folder that counts as failed."""
    notes: list[str] = field(default_factory=list)
    """A message for each link that is not followed; it does not count."""
    unread: Counter[str] = field(default_factory=Counter)
    """Number of files in folders that are not read, by suffix in lower case."""
    into_folder: bool = True
    """Whether there may be several results; existing files are skipped, not an error."""


def plan(
    sources: Sequence[Path],
    output: Path | None,
    *,
    naming: Naming = DEFAULT_NAMING,
    recursive: bool = False,
    compare: bool = False,
    report: Path | None = None,
) -> Plan:
    """Match every source with a target; a folder contributes all pictures directly in it.

    Args:
        sources: files and folders.
        output: a picture file, for a single source, or a folder, which is created; None: beside
            each source.
        naming: how results are named where `output` is not a file.
        recursive: include subfolders and keep the folder structure.
        compare: write a comparison beside each result.
        report: a file that the run appends to, which must be none of the others.

    Raises:
        UsageError: several sources but `output` names one file; two files to write with one path;
            a file to write that is a source.
        OutputError: the output folder cannot be created.
    """
    result = Plan()
    folders: dict[Path, None] = {}
    if output is None:
        result.into_folder = len(sources) > 1 or os.path.isdir(sources[0])
    if output is not None and is_picture_name(output) and not os.path.isdir(output):
        if len(sources) > 1 or os.path.isdir(sources[0]):
            raise UsageError(
                f"{output} is one file, but several pictures were given; name a folder"
            )
        result.into_folder = False
        if error := _unreadable(sources[0]):
            result.problems.append(error)
        else:
            result.jobs.append(Job(sources[0], output))
    else:
        for source in sources:
            found = list(_jobs(source, output, naming, recursive, result))
            result.jobs += found
            if found and (output is not None or os.path.isdir(source)):
                folders[output or naming.beside(source)] = None
    if compare:
        result.jobs = with_comparisons(result.jobs)
    check_collisions(result.jobs, report)
    for folder in folders:
        make_folder(folder)
    return result


def is_picture_name(path: Path) -> bool:
    """Return whether the suffix names a picture format that Pillow can write."""
    return format_of(path) in Image.SAVE


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, so that they survive a power cut.

    Raises:
        OutputError: the folder cannot be created.
    """
    try:
        durable.make_folder(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created: {error.strerror}") from error


def with_comparisons(jobs: Iterable[Job]) -> list[Job]:
    """Name a comparison for each job: `STEM_compare.png` beside the result `STEM.jpg`.

    Results of one folder that share a stem keep their suffix: `a.jpg` gets `a.jpg_compare.png`,
    `a.png` gets `a.png_compare.png`.
    """
    jobs = list(jobs)
    count = Counter(folded(job.target.with_suffix("")) for job in jobs)
    named = []
    for job in jobs:
        shared = count[folded(job.target.with_suffix(""))] > 1
        name = job.target.name if shared else job.target.stem
        named.append(replace(job, comparison=job.target.with_name(f"{name}_compare.png")))
    return named


def _jobs(
    source: Path, output: Path | None, naming: Naming, recursive: bool, result: Plan
) -> Iterator[Job]:
    if not os.path.isdir(source):
        if error := _unreadable(source):
            result.problems.append(error)
        elif output is None:
            yield Job(source, naming.beside(source))
        else:
            yield Job(source, naming.in_folder(output, Path(source.name)))
        return
    folder = output or naming.beside(source)
    walk = Walk(source, lambda name: is_readable(Path(name)), recursive, folder)
    count = 0
    for file, _ in walk:
        count += 1
        yield Job(file, naming.in_folder(folder, file.relative_to(source)))
    result.problems += walk.problems.values()
    result.notes += walk.notes
    result.unread += walk.unwanted
    if not count and not walk.problems:
        hint = "" if recursive else " (-r includes subfolders)"
        result.problems.append(f"{source}: no pictures in this folder{hint}")


def _unreadable(source: Path) -> str:
    """Return why a source cannot be a picture, or not even be looked at, or ""."""
    try:
        source.stat()
    except FileNotFoundError:
        return ""  # decoding says so
    except OSError as error:
        return f"{source} cannot be read: {error.strerror}"
    # Pillow would take the thumbnail of a camera raw file for the picture
    advice = unread.advice(source.suffix)
    return f"{source}: {advice}" if advice else ""


def check_collisions(jobs: Sequence[Job], report: Path | None = None) -> None:
    """Check that no file of a run is written twice, or is a source.

    The same file by two paths counts, through links of folders and where the file system ignores
    case.

    Raises:
        UsageError: names both uses of the file.
    """
    files = _Files()
    for job in jobs:
        files.write(job.target, job, "result")
    for job in jobs:
        if job.comparison is not None:
            files.write(job.comparison, job, "comparison")
    if report is not None:
        files.write(report, None, "report")
    for job in jobs:
        files.read(job)


class _Files:
    """The files that a run writes, by where they lie."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[Path, Job | None, str]] = {}
        self._by_folded: dict[str, str] = {}
        self._folders: dict[Path, str] = {}
        self._ignores_case: dict[Path, bool] = {}

    def write(self, path: Path, job: Job | None, role: str) -> None:
        """Add a file to write; `job` is None for the report.

        Raises:
            UsageError: another use writes it.
        """
        places = {self._place(path)}
        if job is None:
            # a result replaces a link, but a report is appended to the file behind it
            places.add(os.path.realpath(path))
        for place in places:
            if twin := self._find(place, path):
                why = "" if twin == place else ": the file system ignores case"
                raise UsageError(_written_twice(self._written[twin], (path, job, role), why))
        for place in places:
            self._written[place] = path, job, role
            self._by_folded.setdefault(folded(Path(place)), place)

    def read(self, job: Job) -> None:
        """Check that no file to write is the source of a job.

        Raises:
            UsageError: one is.
        """
        source, real = job.source, os.path.realpath(job.source)
        own = real == os.path.realpath(job.target)
        found = self._find(self._place(source), source) or self._find(real, Path(real))
        if not own and found is None:
            return
        path, other, role = (job.target, job, "result") if own else self._written[found or ""]
        if role == "report":
            raise UsageError(f"{path} is both a source and the report; choose another report=")
        what = f"its own {role}" if other is job else f"the {role} of {other and other.source}"
        raise UsageError(f"{source} would be replaced by {what}; choose another output=")

    def _place(self, path: Path) -> str:
        """Return where a file lies, with the links of its folders resolved."""
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], path.name)

    def _find(self, place: str, path: Path) -> str | None:
        """Return the place of a file to write that is the same file."""
        if place in self._written:
            return place
        twin = self._by_folded.get(folded(Path(place)))
        if twin is None:
            return None
        folder = path.parent
        if folder not in self._ignores_case:
            self._ignores_case[folder] = ignores_case(folder)
        return twin if self._ignores_case[folder] else None


def _written_twice(
    old: tuple[Path, Job | None, str], new: tuple[Path, Job | None, str], why: str
) -> str:
    (_, old_job, old_role), (path, job, role) = old, new
    if old_role == role == "result" and old_job and job:
        return f"{old_job.source} and {job.source} would both be written to {path}{why}"
    uses = [
        f"the {role} of {job.source}" if job else f"the {role}"
        for role, job in ((old_role, old_job), (role, job))
    ]
    fix = "choose another report=" if job is None else "rename a source or leave out compare=True"
    return f"{path} would be both {uses[0]} and {uses[1]}{why}; {fix}"
