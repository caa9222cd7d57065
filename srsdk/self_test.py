"""A model file that proves itself where it runs: its probe, computed here, against its promise.

Kernels differ between processors, GPUs and versions of a library, and a file may compute something
else on one than where it was measured. What passed on a CPU is remembered by file, backend, its
version and processor, in the user's cache folder (`SRSDK_CACHE` names another); on a GPU each
process asks once.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srsdk import tune_cache
from srsdk.boundary import Boundary
from srsdk.engines import Engine
from srsdk.errors import SelfTestError
from srsdk.manifest import Manifest
from srsdk.probe import Agreement, Probe, picture
from srsdk.processor import processor

log = logging.getLogger("srsdk")

BF16_PSNR_DB, BF16_LSB = 45.0, 12
"""What a float32 file promises when it is computed in bfloat16; the shipped ones have 50.7 dB and 6
levels or better (AVX-512 BF16 and AMX, 2026-11-28)."""

_passed: set[str] = set()
_lock = threading.Lock()


def check_once(path: Path, engine: Engine, manifest: Manifest, precision: str = "auto") -> None:
    """Run the probe unless this file is known to pass here; a file without one is let through.

    Args:
        path: the file.
        engine: that opened it.
        manifest: what the file says of itself.
        precision: `auto`, or `bf16`.

    Raises:
        SelfTestError: the file does not hold its promise here; says by how much.
        BackendError: the library failed.
    """
    if manifest.probe is None:
        return
    name = _key(path, engine, precision)
    if name in _passed or (engine.device == "cpu" and _is_remembered(name)):
        return
    agreement = require(path, engine, manifest, precision)
    with _lock:
        _passed.add(name)
    if engine.device == "cpu" and agreement is not None:
        _remember(name, path, agreement)


def require(
    path: Path, engine: Engine, manifest: Manifest, precision: str = "auto"
) -> Agreement | None:
    """Run the probe, remembered or not; None: the file has none.

    Args and errors are those of `check_once`.
    """
    if manifest.probe is None:
        return None
    probe = _in_precision(manifest.probe, precision)
    found = run(engine, manifest)
    worst = min(found, key=lambda agreement: agreement.psnr_db)
    if not all(probe.holds(agreement) for agreement in found):
        raise SelfTestError(
            f"{path.name} computes something else here than where it was made: {worst}, expected "
            f"{probe.min_psnr_db:g} dB or more and {probe.max_lsb} levels or fewer, by "
            f"{engine.backend} on {engine.device} ({processor()}); srsdk doctor shows which "
            "backend computes it, and python -m export makes the file anew"
        )
    return worst


def run(engine: Engine, manifest: Manifest) -> list[Agreement]:
    """Compute the probe of a manifest that has one, on each device of an engine."""
    return [_run(one, manifest) for one in _devices(engine)]


def _run(engine: Engine, manifest: Manifest) -> Agreement:
    probe, boundary = manifest.probe, Boundary.of(manifest)
    assert probe is not None
    height, width = probe.size_px
    batches = [n for n, *size in engine.profiles if tuple(size) == probe.size_px]
    shape = boundary.input_shape(probe.size_px, min(batches, default=1))
    slot = engine.slot(shape)
    try:
        for index in range(shape[0]):
            boundary.stage(picture(height, width, manifest.channels), slot.input, index)
        slot.submit()
        output = slot.wait()
        boundary.check_output(output, shape, manifest.scale)
        size = height * manifest.scale, width * manifest.scale
        return probe.compare(np.asarray(boundary.unstage(output, *size), np.uint8))
    finally:
        slot.close()


def _devices(engine: Engine) -> Sequence[Engine]:
    from srsdk.engines.several import SeveralEngines

    return engine.engines if isinstance(engine, SeveralEngines) else (engine,)


def _in_precision(probe: Probe, precision: str) -> Probe:
    if precision == "auto":
        return probe
    return Probe(probe.size_px, probe.samples, BF16_PSNR_DB, BF16_LSB)


def _key(path: Path, engine: Engine, precision: str) -> str:
    asked = [
        hashlib.sha256(path.read_bytes()).hexdigest(),
        engine.backend,
        _version(engine.backend),
        engine.device,
        precision,
        str(processor()),
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _version(backend: str) -> str:
    try:
        return importlib.metadata.version(backend)
    except importlib.metadata.PackageNotFoundError:
        # the package goes by the name of another wheel, such as onnxruntime-gpu
        return ""


def _file(name: str) -> Path:
    return tune_cache.folder() / f"self-test-{name}.json"


def _is_remembered(name: str) -> bool:
    try:
        return _file(name).is_file()
    except (OSError, RuntimeError):
        # a folder that may not be read, or a user without a home
        return False


def _remember(name: str, path: Path, agreement: Agreement) -> None:
    values = {"file": path.name, "psnr_db": agreement.psnr_db, "max_lsb": agreement.max_lsb}
    try:
        tune_cache.write(_file(name), json.dumps(values))
    except (OSError, RuntimeError) as error:
        # no fault of the file: the test runs again at the next open
        log.info("self-test of %s is not remembered: %s", path.name, error)
