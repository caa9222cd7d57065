"""Check that an engine file can run on this machine, before TensorRT loads its bytes."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srsdk.engines.cuda.device import Device, NoDriverError
from srsdk.engines.tensorrt_library import TITLES, Library, open_library
from srsdk.errors import EngineMismatch
from srsdk.formats.tensorrt_plan import PlanHeader, hash_file, read_plan_header
from srsdk.manifest import Manifest, read_manifest

log = logging.getLogger("srsdk")


@dataclass(frozen=True)
class Opened:
    """An engine file that passed every check, not yet deserialized."""

    path: Path
    """The file."""
    plan: bytes
    """Its bytes."""
    manifest: Manifest | None
    """Its manifest; None: a plain plan built by another tool."""
    library: Library
    """The library that will run it."""
    device: Device
    """The GPU that will run it."""


def open_plan(path: Path, device_index: int, *, runtime: Any = None) -> Opened:
    """Check manifest, flavour, version, GPU generation, size and hash, in this order.

    Args:
        path: an `.engine` file, with or without an srsdk manifest (trtexec, Polygraphy).
        device_index: index of the GPU that will run it.
        runtime: replaces `cuda.bindings.runtime` in tests.

    Raises:
        ModelError, ManifestError: not an engine file, or its manifest is damaged.
        EngineMismatch: an engine that cannot run on this machine; gives the reason and the fix.
    """
    manifest, header = read_manifest(path), read_plan_header(path)
    flavour = _flavour(path, manifest, header)
    fix = _rebuild_command(path, manifest, flavour)
    library = _import_library(path, flavour, manifest, header)
    _check_version(path, library, manifest, header, fix)
    device = _device(path, device_index, runtime)
    _check_sm(path, library, manifest, header, device, fix)
    _check_size(path, header, fix)
    plan = path.read_bytes()
    _check_hash(path, plan, fix)
    _check_validity(path, library, plan, fix)
    return Opened(path, plan, manifest, library, device)


def _flavour(path: Path, manifest: Manifest | None, header: PlanHeader | None) -> str:
    by_header = "tensorrt" if header is None else "rtx"
    if manifest is None:
        return by_header
    if manifest.flavour not in TITLES:
        raise EngineMismatch(
            f"{path}: its manifest has flavour {manifest.flavour!r}, expected "
            f"{' or '.join(TITLES)}: python -m export SOURCE -o {path.parent} --target rtx"
        )
    return manifest.flavour


def _import_library(
    path: Path, flavour: str, manifest: Manifest | None, header: PlanHeader | None
) -> Library:
    try:
        return open_library(flavour)
    except EngineMismatch as error:
        built = _built_version(manifest, header)
        raise EngineMismatch(f"{path}: built by {TITLES[flavour]} {built}; {error}") from error


def _check_version(
    path: Path,
    library: Library,
    manifest: Manifest | None,
    header: PlanHeader | None,
    fix: str,
) -> None:
    built = _built_version(manifest, header)
    if built and built != library.version:
        title = TITLES[library.flavour]
        raise EngineMismatch(
            f"{path}: built for {title} {built}, installed is {library.version}; an engine opens "
            f"only with the version that built it: {fix}"
        )


def _device(path: Path, index: int, runtime: Any) -> Device:
    try:
        return Device(index, runtime)
    except NoDriverError as error:
        raise EngineMismatch(f"{path}: an engine needs a GPU: {error}") from error


def _check_sm(
    path: Path,
    library: Library,
    manifest: Manifest | None,
    header: PlanHeader | None,
    device: Device,
    fix: str,
) -> None:
    here = device.properties.sm
    served = _served_sms(library)
    if served and here not in served:
        raise EngineMismatch(
            f"{path}: {device.properties.name} is SM {_dotted([here])}, which {library.title} does "
            f"not support, only SM {_dotted(served)}: export for it with --target tensorrt, or run "
            f"the .onnx file with backend='onnxruntime', device='{device.name}'"
        )
    built = (manifest.sms if manifest else ()) or (header.sms if header else ())
    if built and here not in built:
        raise EngineMismatch(
            f"{path}: built for SM {_dotted(built)}, this GPU ({device.properties.name}) is SM "
            f"{_dotted([here])}: {fix} --sm {','.join(map(str, sorted({*built, here})))}"
        )


def _check_size(path: Path, header: PlanHeader | None, fix: str) -> None:
    found = path.stat().st_size
    if header is not None and found != header.size_bytes:
        what = "truncated" if found < header.size_bytes else "too long"
        raise EngineMismatch(
            f"{path}: {what}: {header.size_bytes:,} bytes expected, {found:,} found; copy it "
            f"again, or {fix}"
        )


def _check_hash(path: Path, plan: bytes, fix: str) -> None:
    """Compare with the `sha256sum` file that the export writes next to an engine."""
    hash_path = hash_file(path)
    if not hash_path.is_file():
        log.info("%s: there is no %s to check it against", path, hash_path.name)
        return
    expected = hash_path.read_text(encoding="utf-8").split()[:1]
    found = hashlib.sha256(plan).hexdigest()
    if expected != [found]:
        raise EngineMismatch(
            f"{path}: damaged or replaced: SHA-256 {' '.join(expected)[:16]}... expected by "
            f"{hash_path.name}, {found[:16]}... found; copy both again, or {fix}"
        )


def _check_validity(path: Path, library: Library, plan: bytes, fix: str) -> None:
    """Let TensorRT for RTX validate the header; plain TensorRT has no such call."""
    if library.flavour != "rtx":
        return
    trt = library.module
    runtime = trt.Runtime(library.logger)
    validity, bits = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    if validity == trt.EngineValidity.INVALID:
        why = _reasons(trt, int(bits))
        raise EngineMismatch(
            f"{path}: {library.sentence(f'{library.title} refuses it ({why})')}: {fix}"
        )
    if validity == trt.EngineValidity.SUBOPTIMAL:
        log.warning("%s: %s reports it as suboptimal here; %s", path, library.title, fix)


def _reasons(trt: Any, bits: int) -> str:
    """Return the names of the set bits; no bit means that CUDA does not work."""
    members = trt.EngineInvalidityDiagnostics.__members__
    found = [name.lower().replace("_", " ") for name, bit in members.items() if bits & int(bit)]
    return ", ".join(found) or "no CUDA driver"


def _built_version(manifest: Manifest | None, header: PlanHeader | None) -> str:
    if manifest is not None and manifest.library_version:
        return manifest.library_version
    return header.library_version if header else ""


def _served_sms(library: Library) -> list[int]:
    kinds = getattr(library.module, "ComputeCapability", None)
    if kinds is None:
        return []
    return sorted(int(n.removeprefix("SM")) for n in kinds.__members__ if n.startswith("SM"))


def _rebuild_command(path: Path, manifest: Manifest | None, flavour: str) -> str:
    """Return the export command that rebuilds the file."""
    if manifest is None:
        return "rebuild it with the tool that built it"
    profiles = ",".join("x".join(map(str, profile)) for profile in manifest.profiles)
    sizes = f" --profiles {profiles}" if profiles else ""
    return (
        f"python -m export SOURCE -o {path.parent} --precision {manifest.precision} "
        f"--target {flavour}{sizes} --force"
    )


def _dotted(sms: Any) -> str:
    return "/".join(f"{sm // 10}.{sm % 10}" for sm in sms)
