"""One export from source to files: build, measure, gate, describe, write, and only then rename."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

import srsdk
from export.engine import Library, open_library, seconds_since
from export.held_out import held_out
from export.onnx_file import ExportError
from export.options import Artefact, Options, UsageError, file_sha256, plan
from export.qat import check_offered
from export.record import Made, Report
from export.sources import Source, open_mixture, open_source
from export.staging import Staging
from export.work import Work
from srsdk._plan import hash_file
from srsdk.manifest import read_manifest
from training.data import find_pictures


def export(source_path: Path, output: Path, options: Options, *, force: bool = False) -> Report:
    """Make all files that the options ask for; none appears unless all of them pass.

    Files that were made from the same source by the same options and tools are left as they are.

    Args:
        source_path: a checkpoint, foreign weights, or an ONNX file.
        output: a folder, a base name, or the name of the only file.
        options: what to make.
        force: replace files that exist.

    Raises:
        ExportError: something is wrong with source, options or output, or a gate does not hold.
        DataError: a folder of pictures is unusable.
    """
    began = time.perf_counter()
    source = _open(source_path, options)
    if source.facts.family == "vae" and options.wants_int8:
        raise UsageError(
            "INT8 of a vae is not offered: its heads decide about scales and confidence; "
            "export fp16"
        )
    if options.qat and options.data is not None:
        check_offered(source)
        held_out(find_pictures(options.data))  # too few are an error, before any work
    artefacts = plan(output, source.facts.name, options)
    libraries = {a.flavour: open_library(a.flavour) for a in artefacts if a.is_engine}
    key = build_key(source, options, libraries)
    report = Report(str(source_path))
    kept = _up_to_date(artefacts, key)
    if len(kept) == len(artefacts):
        report.made = kept
        return report
    _check_free([a for a in artefacts if a not in [k.artefact for k in kept]], force=force)
    work = Work(source, options, libraries, key, report)
    with Staging() as staging:
        for artefact in artefacts:
            staged = staging.path(artefact.path)
            report.made.append(work.make(artefact, staged))
            if artefact.is_engine:
                # an engine is executable code: the runtime holds it against this before opening
                line = f"{file_sha256(staged)}  {artefact.path.name}\n"
                staging.path(hash_file(artefact.path)).write_text(line, encoding="utf-8")
        staging.publish()
    report.seconds = seconds_since(began)
    return report


def _open(path: Path, options: Options) -> Source:
    if options.texture is None or options.parent is None:
        return open_source(path)
    return open_mixture(path, options.parent, options.texture)


def build_key(source: Source, options: Options, libraries: dict[str, Library]) -> str:
    """Return one hash over everything that shapes the files."""
    versions = {"srsdk": srsdk.__version__, "torch": torch.__version__, "onnx": onnx.__version__}
    versions |= {library.flavour: library.version for library in libraries.values()}
    values = [source.facts.sha256, options.to_dict(), versions]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _up_to_date(artefacts: Sequence[Artefact], key: str) -> list[Made]:
    """Return the files that are there already and were made in just this way."""
    found = []
    for artefact in artefacts:
        if not artefact.path.is_file():
            continue
        try:
            manifest = read_manifest(artefact.path)
        except srsdk.SrsdkError:
            continue
        if manifest is not None and manifest.build_key == key:
            found.append(Made(artefact, manifest, None, 0.0))
    return found


def _check_free(artefacts: Sequence[Artefact], *, force: bool) -> None:
    for artefact in artefacts:
        if artefact.path.is_dir():
            raise ExportError(f"{artefact.path} is a folder")
        if artefact.path.exists() and not force:
            raise ExportError(f"{artefact.path} exists; --force replaces it")
