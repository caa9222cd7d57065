"""Self-test of a model file: run its probe on this machine and compare with the expected output.

Kernels differ between processors, GPUs and library versions, so a file may give other results here
than on the machine that measured it. A pass on a CPU is cached by file, backend, its version and
processor in the user's cache folder (`SRSDK_CACHE` sets another); on any other device each process
tests once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from srsdk.engines.backends import library_version
from srsdk.engines.protocol import Engine, ValuesSlot
from srsdk.errors import SelfTestError
from srsdk.formats.probe import Agreement, Probe, picture
from srsdk.inference.tensor_io import Boundary, values_of
from srsdk.manifest import Manifest
from srsdk.system import user_cache
from srsdk.system.processor import processor

log = logging.getLogger("srsdk")

BF16_PSNR_DB, BF16_LSB = 45.0, 12
"""Limits for a float32 file that runs in bfloat16; the shipped ones reach 50.7 dB and 6 levels or
better (AVX-512 BF16 and AMX, 2026-11-28)."""
SCHEMA = "2"
"""2: the cached pass has its length and SHA-256."""

_passed: set[str] = set()
_lock = threading.Lock()


def check_once(path: Path, engine: Engine, manifest: Manifest, precision: str = "auto") -> None:
    """Run the probe unless this file has already passed here; a file without a probe is accepted.

    Args:
        path: the file.
        engine: the engine that opened it.
        manifest: the file's manifest.
        precision: `auto` or `bf16`.

    Raises:
        SelfTestError: the result is not within the probe's limits; gives the figures.
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
    """Run the probe, even if the file has passed before; return None if it has none.

    Arguments and errors are those of `check_once`.
    """
    if manifest.probe is None:
        return None
    probe = _in_precision(manifest.probe, precision)
    found = run(engine, manifest)
    worst = min(found, key=lambda agreement: agreement.psnr_db)
    if not all(probe.holds(agreement) for agreement in found):
        raise SelfTestError(
            f"{path.name} gives wrong results on this machine: {worst}, expected "
            f"{probe.min_psnr_db:g} dB or more and {probe.max_lsb} levels or fewer, with "
            f"{engine.backend} on {engine.device} ({processor()}); srsdk doctor shows which "
            "backend passes, and python -m export, in a checkout of srsdk, rebuilds the file"
        )
    return worst


def run(engine: Engine, manifest: Manifest) -> list[Agreement]:
    """Run the manifest's probe on each device of an engine; the manifest must have one."""
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
        values = values_of(manifest)
        if values is not None:
            cast(ValuesSlot, slot).values[...] = values
        slot.submit()
        output = slot.wait()
        boundary.check_output(output, shape, manifest.scale)
        size = height * manifest.scale, width * manifest.scale
        return probe.compare(np.asarray(boundary.unstage(output, *size), np.uint8))
    finally:
        slot.close()


def _devices(engine: Engine) -> Sequence[Engine]:
    from srsdk.engines.multi_gpu import MultiGpuEngine

    return engine.engines if isinstance(engine, MultiGpuEngine) else (engine,)


def _in_precision(probe: Probe, precision: str) -> Probe:
    if precision == "auto":
        return probe
    return Probe(probe.size_px, probe.samples, BF16_PSNR_DB, BF16_LSB)


def _key(path: Path, engine: Engine, precision: str) -> str:
    asked = [
        SCHEMA,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        engine.backend,
        library_version(engine.backend),
        engine.device,
        precision,
        str(processor()),
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _file(name: str) -> Path | None:
    folder = user_cache.folder()
    return None if folder is None else folder / f"self-test-{name}.json"


def _is_remembered(name: str) -> bool:
    file = _file(name)
    content = None if file is None else user_cache.load(file)
    return content is not None and _is_pass(content, name)


def _is_pass(content: bytes, name: str) -> bool:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("key") == name


def _remember(name: str, path: Path, agreement: Agreement) -> None:
    file = _file(name)
    if file is None:
        return
    values = {
        "key": name,
        "file": path.name,
        "psnr_db": agreement.psnr_db,
        "max_lsb": agreement.max_lsb,
    }
    # not an error of the file: the test runs again at the next open
    if not user_cache.store(file, json.dumps(values).encode(), level=logging.INFO):
        log.info("self-test of %s is not remembered", path.name)
