"""Run one export: build, measure, check, describe, write to temporary names, then rename."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

import srsdk
from export.errors import ExportError, UsageError
from export.hashing import file_sha256
from export.options import Artifact, Options, plan
from export.protocol import Source
from export.quantization.qat import check_offered
from export.quantization.validation_split import validation
from export.record import Made, Report
from export.sources.checkpoint import open_mixture
from export.sources.module import TorchSource
from export.sources.select import Own, open_source
from export.targets.atomic_output import Staging
from export.targets.tensorrt import Library, open_library, seconds_since
from export.work import Work
from srsdk.formats.tensorrt_plan import hash_file
from srsdk.manifest import read_manifest
from training.data.pictures import find_pictures


def export(
    source_path: Path,
    output: str | Path,
    options: Options,
    *,
    own: Own | None = None,
    force: bool = False,
    staging: Staging | None = None,
) -> Report:
    """Export all requested files; none appears unless all of them pass their gates.

    Files from the same source, options and tools are up to date and left as they are.

    Args:
        source_path: a checkpoint, third-party weights, an ONNX file, TorchScript, a `torch.export`
            archive, or `my_nets.py:MyNet`, whose code is run.
        output: a folder, which is created, or a file name; see `export.options.plan`.
        options: export options.
        own: what is known about a network of one's own.
        force: replace existing files.
        staging: tells the caller whether the files were published before an interrupt.

    Raises:
        ExportError: source, options or output are unusable, or a gate fails.
        DataError: a folder of pictures is unusable.
    """
    return export_source(
        _open(source_path, options, own),
        str(source_path),
        output,
        options,
        force=force,
        staging=staging,
        notes=own.form.notes if own else (),
    )


def export_source(
    source: Source,
    described: str,
    output: str | Path,
    options: Options,
    *,
    force: bool = False,
    staging: Staging | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Export an open source; see `export`.

    Args:
        source: the network.
        described: where it comes from, for the report.
        output: a folder, which is created, or a file name.
        options: export options.
        force: replace existing files.
        staging: tells the caller whether the files were published before an interrupt.
        notes: what was assumed of the network, for the report.

    Raises:
        ExportError: options or output are unusable, or a gate fails.
        DataError: a folder of pictures is unusable.
    """
    began = time.perf_counter()
    if source.facts.family == "vae" and options.wants_int8:
        raise UsageError(
            "INT8 of a vae is not supported: its heads predict scales and confidence; export fp16"
        )
    if options.qat and options.data is not None:
        check_offered(source)
        validation(find_pictures(options.data))  # fail before any work if there are too few
    artifacts = plan(output, source.facts.name, options)
    libraries = {a.flavour: open_library(a.flavour) for a in artifacts if a.is_engine}
    key = build_key(source, options, libraries)
    report = Report(described, notes=tuple(notes))
    kept = _up_to_date(artifacts, key)
    if len(kept) == len(artifacts):
        report.made = kept
        return report
    _check_free([a for a in artifacts if a not in [k.artifact for k in kept]], force=force)
    if isinstance(source, TorchSource):
        # the sizes that the file accepts depend on it
        report.way = source.settle()
    work = Work(source, options, libraries, key, report)
    with staging or Staging() as staging:
        for artifact in artifacts:
            staged = staging.path(artifact.path)
            report.made.append(work.make(artifact, staged))
            if artifact.is_engine:
                # an engine is executable code: the runtime checks this hash before opening it
                line = _hash_line(staged, artifact.path.name)
                staging.path(hash_file(artifact.path)).write_text(line, encoding="utf-8")
        staging.publish()
    report.seconds = seconds_since(began)
    return report


def _open(path: Path, options: Options, own: Own | None) -> Source:
    if options.texture is None or options.parent is None:
        return open_source(path, own)
    return open_mixture(path, options.parent, options.texture)


def build_key(source: Source, options: Options, libraries: dict[str, Library]) -> str:
    """Return one hash over everything that affects the files."""
    versions = {"srsdk": srsdk.__version__, "torch": torch.__version__, "onnx": onnx.__version__}
    versions |= {library.flavour: library.version for library in libraries.values()}
    values = [source.facts.sha256, options.to_dict(), versions]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _up_to_date(artifacts: Sequence[Artifact], key: str) -> list[Made]:
    """Return the existing files whose build key matches."""
    found = []
    for artifact in artifacts:
        if not artifact.path.is_file():
            continue
        try:
            manifest = read_manifest(artifact.path)
        except srsdk.SrsdkError:
            continue
        is_complete = not artifact.is_engine or _has_its_hash(artifact.path)
        if manifest is not None and manifest.build_key == key and is_complete:
            found.append(Made(artifact, manifest, None, 0.0))
    return found


def _has_its_hash(engine: Path) -> bool:
    """Return whether the hash file, which the runtime checks, belongs to the engine."""
    note = hash_file(engine)
    return note.is_file() and note.read_bytes() == _hash_line(engine, engine.name).encode()


def _hash_line(engine: Path, name: str) -> str:
    """Return a line of `sha256sum`."""
    return f"{file_sha256(engine)}  {name}\n"


def _check_free(artifacts: Sequence[Artifact], *, force: bool) -> None:
    for artifact in artifacts:
        if artifact.path.is_dir():
            raise ExportError(f"{artifact.path} is a folder")
        if artifact.path.exists() and not force:
            raise ExportError(f"{artifact.path} exists; --force replaces it")
