"""Disk cache of models that OpenVINO compiled, so that the next process need not."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srsdk.engines.protocol import Signature
from srsdk.system import user_cache
from srsdk.system.processor import processor

log = logging.getLogger("srsdk")

SCHEMA = "1"
MAX_FILE_BYTES = 64 << 20
"""Larger model files are not cached: reading them takes longer than compiling saves."""
MAX_BYTES = 256 << 20
"""Size of all cached models; the least recently used are deleted first."""
SUFFIX = ".blob"
_SWITCHES = ("ONEDNN_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "DNNL_MAX_CPU_ISA")


def content_of(path: Path, graph: bytes | None) -> bytes | None:
    """Return the bytes that a cached model is keyed by; None: it is not cached.

    A file whose weights are in other files is not: they could change without it.
    """
    if graph is None:
        with suppress(OSError):  # whoever opens the file says why it cannot be read
            if path.stat().st_size <= MAX_FILE_BYTES:
                graph = path.read_bytes()
    if graph is None or len(graph) > MAX_FILE_BYTES or b"location" in graph:
        return None
    return graph


def cache_file(content: bytes, version: str, config: Mapping[str, Any]) -> Path | None:
    """Return the cache file of a compiled model; None: there is no cache.

    Each content, library version, processor, and configuration has its own.

    Args:
        content: the ONNX model.
        version: version and build of the library.
        config: the library's settings.
    """
    folder = user_cache.folder()
    if folder is None:
        return None
    key = {
        "schema": SCHEMA,
        "model": hashlib.sha256(content).hexdigest(),
        "version": version,
        "processor": str(processor()),
        "config": {name: str(value) for name, value in config.items()},
        "switches": {name: os.environ.get(name) for name in _SWITCHES},
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return folder / "openvino" / f"{name}{SUFFIX}"


def load(path: Path | None) -> tuple[Signature, bytes] | None:
    """Return the signature and the compiled model, or None; see `user_cache.load`."""
    content = None if path is None else user_cache.load(path)
    if path is None or content is None:
        return None
    with suppress(OSError):  # a disk that is read-only; only `trim` asks for the time
        os.utime(path)
    line, _, compiled = content.partition(b"\n")
    try:
        values = json.loads(line)
        shapes = tuple(values["input_shape"]), tuple(values["output_shape"])
        return Signature(
            values["dtype"], *shapes, values["latent"], values.get("values", 0)
        ), compiled
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("the cache %s is not of this version and is made again: %r", path, error)
    return None


def store(path: Path | None, signature: Signature, compiled: bytes) -> None:
    """Write a compiled model and delete old ones; a failure is logged, and nothing is cached.

    Args:
        path: the file; None: there is no cache.
        signature: the model's, parts of which a compiled model lacks.
        compiled: what the library exports.
    """
    if path is None or len(compiled) > MAX_FILE_BYTES:
        return
    if user_cache.store(path, json.dumps(asdict(signature)).encode() + b"\n" + compiled):
        user_cache.trim(path.parent, SUFFIX, MAX_BYTES)
