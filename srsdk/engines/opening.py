"""Why an engine file does not open here, found out before TensorRT is given its bytes."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srsdk._plan import PlanHeader, hash_file, read_plan_header
from srsdk.engines.cuda import Device, NoDriverError
from srsdk.engines.trt_library import TITLES, Library, open_library
from srsdk.errors import EngineMismatch
from srsdk.manifest import Manifest, read_manifest

log = logging.getLogger("srsdk")


@dataclass(frozen=True)
class Opened:
    """An engine file that passed every check, not yet deserialised."""

    path: Path
    """The file."""
    plan: bytes
    """Its bytes."""
    manifest: Manifest | None
    """What it says of itself; None: a plain plan of another tool."""
    library: Library
    """The library that will run it."""
    device: Device
    """The GPU that will run it."""


def open_plan(path: Path, device_index: int, *, runtime: Any = None) -> Opened:
    """Check manifest, flavour, version, GPU generation, size and hash, in this order.

    Args:
        path: an `.engine` file, with our manifest or without one (trtexec, Polygraphy).
        device_index: the GPU that is to run it.
        runtime: stands for `cuda.bindings.runtime` in tests.

    Raises:
        ModelError, ManifestError: it is no engine file, or its manifest is damaged.
        EngineMismatch: it is one, but not for this machine; says why and what mends it.
    """
    manifest, header = read_manifest(path), read_plan_header(path)
    flavour = _flavour(path, manifest, header)
    mend = _mend(path, manifest, flavour)
    library = _library(path, flavour, manifest, header)
    _check_version(path, library, manifest, header, mend)
    device = _device(path, device_index, runtime)
    _check_sm(path, library, manifest, header, device, mend)
    _check_size(path, header, mend)
    plan = path.read_bytes()
    _check_hash(path, plan, mend)
    _check_validity(path, library, plan, mend)
    return Opened(path, plan, manifest, library, device)


def _flavour(path: Path, manifest: Manifest | None, header: PlanHeader | None) -> str:
    by_header = "tensorrt" if header is None else "rtx"
    if manifest is None:
        return by_header
    if manifest.flavour not in TITLES:
        raise EngineMismatch(
            f"{path}: its manifest says it is for {manifest.flavour!r}, expected an engine of "
            f"{' or '.join(TITLES)}: python -m export SOURCE -o {path.parent} --target rtx"
        )
    return manifest.flavour


def _library(
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
    mend: str,
) -> None:
    built = _built_version(manifest, header)
    if built and built != library.version:
        title = TITLES[library.flavour]
        raise EngineMismatch(
            f"{path}: built for {title} {built}, this is {library.version}; no version opens the "
            f"engines of another: {mend}"
        )


def _device(path: Path, index: int, runtime: Any) -> Device:
    try:
        return Device(index, runtime)
    except NoDriverError as error:
        raise EngineMismatch(f"{path}: an engine runs on a GPU, but: {error}") from error


def _check_sm(
    path: Path,
    library: Library,
    manifest: Manifest | None,
    header: PlanHeader | None,
    device: Device,
    mend: str,
) -> None:
    here = device.properties.sm
    served = _served_sms(library)
    if served and here not in served:
        raise EngineMismatch(
            f"{path}: {device.properties.name} is SM {_dotted([here])}, which {library.title} does "
            f"not serve, only SM {_dotted(served)}: export for it with --target tensorrt, or run "
            f"the .onnx file with backend='onnxruntime', device='{device.name}'"
        )
    built = (manifest.sms if manifest else ()) or (header.sms if header else ())
    if built and here not in built:
        raise EngineMismatch(
            f"{path}: built for SM {_dotted(built)}, this GPU ({device.properties.name}) is SM "
            f"{_dotted([here])}: {mend} --sm {','.join(map(str, sorted({*built, here})))}"
        )


def _check_size(path: Path, header: PlanHeader | None, mend: str) -> None:
    found = path.stat().st_size
    if header is not None and found != header.size_bytes:
        what = "truncated" if found < header.size_bytes else "too long"
        raise EngineMismatch(
            f"{path}: {what}: {header.size_bytes:,} bytes expected, {found:,} found; copy it "
            f"again, or {mend}"
        )


def _check_hash(path: Path, plan: bytes, mend: str) -> None:
    """Compare with the file of `sha256sum`'s form that the export writes beside an engine."""
    beside = hash_file(path)
    if not beside.is_file():
        log.info("%s: there is no %s to hold it against", path, beside.name)
        return
    expected = beside.read_text(encoding="utf-8").split()[:1]
    found = hashlib.sha256(plan).hexdigest()
    if expected != [found]:
        raise EngineMismatch(
            f"{path}: damaged or replaced: SHA-256 {' '.join(expected)[:16]}... expected by "
            f"{beside.name}, {found[:16]}... found; copy both again, or {mend}"
        )


def _check_validity(path: Path, library: Library, plan: bytes, mend: str) -> None:
    """Ask TensorRT for RTX what it thinks of the header; the other flavour has no such call."""
    if library.flavour != "rtx":
        return
    trt = library.module
    ask = trt.Runtime(library.logger)
    validity, bits = ask.get_engine_validity(plan[: ask.engine_header_size])
    if validity == trt.EngineValidity.INVALID:
        why = _reasons(trt, int(bits))
        raise EngineMismatch(
            f"{path}: {library.sentence(f'{library.title} refuses it ({why})')}: {mend}"
        )
    if validity == trt.EngineValidity.SUBOPTIMAL:
        log.warning("%s: %s calls it suboptimal here; %s", path, library.title, mend)


def _reasons(trt: Any, bits: int) -> str:
    """Return the names of the bits; no bit at all means that CUDA does not work."""
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


def _mend(path: Path, manifest: Manifest | None, flavour: str) -> str:
    """Return the export command that builds the file anew."""
    if manifest is None:
        return "build it again with the tool that made it"
    profiles = ",".join("x".join(map(str, profile)) for profile in manifest.profiles)
    sizes = f" --profiles {profiles}" if profiles else ""
    return (
        f"python -m export SOURCE -o {path.parent} --precision {manifest.precision} "
        f"--target {flavour}{sizes} --force"
    )


def _dotted(sms: Any) -> str:
    return "/".join(f"{sm // 10}.{sm % 10}" for sm in sms)
