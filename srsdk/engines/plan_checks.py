"""Check that an engine file can run on this machine, before TensorRT loads its bytes."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srsdk.engines.cuda.device import Device
from srsdk.engines.cuda.driver import NoDriverError
from srsdk.engines.tensorrt_library import TITLES, Library, open_library, sentence
from srsdk.errors import EngineMismatch
from srsdk.formats.tensorrt_plan import PlanHeader, hash_file, read_plan_header
from srsdk.manifest import Manifest, read_manifest

log = logging.getLogger("srsdk")

FLAVOURS = ("rtx", "tensorrt")
"""Flavours of an engine; those of TensorRT may run in its lean runtime."""
NEXT_MAJOR = {"10": "11"}
"""Major versions whose version-compatible plans the next one runs: NVIDIA promises it for each pair
separately (support matrix of TensorRT 11.4)."""


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


def open_plan(path: Path, device_index: int) -> Opened:
    """Check manifest, flavour, version, GPU generation, size and hash, in this order.

    Args:
        path: an `.engine` file, with or without an srsdk manifest (trtexec, Polygraphy).
        device_index: index of the GPU that will run it.

    Raises:
        ModelError, ManifestError: not an engine file, or its manifest is damaged.
        EngineMismatch: an engine that cannot run on this machine; gives the reason and the fix.
    """
    manifest, header = read_manifest(path), read_plan_header(path)
    flavour = _flavour(path, manifest, header)
    fix = _rebuild_command(path, manifest, flavour)
    library = _import_library(path, flavour, manifest, header)
    _check_version(path, library, manifest, header, fix)
    device = _device(path, device_index)
    _check_sm(path, library, manifest, header, device, fix)
    _check_size(path, header, fix)
    plan = path.read_bytes()
    _check_hash(path, plan, fix)
    with device.active():
        _check_validity(path, library, plan, fix)
    return Opened(path, plan, manifest, library, device)


def _flavour(path: Path, manifest: Manifest | None, header: PlanHeader | None) -> str:
    by_header = "tensorrt" if header is None else "rtx"
    if manifest is None:
        return by_header
    if manifest.flavour not in FLAVOURS:
        raise EngineMismatch(
            f"{path}: its manifest has flavour {manifest.flavour!r}, expected "
            f"{' or '.join(FLAVOURS)}: in a checkout of srsdk, python -m export SOURCE "
            f"-o {path.parent} --target rtx"
        )
    return manifest.flavour


def _import_library(
    path: Path, flavour: str, manifest: Manifest | None, header: PlanHeader | None
) -> Library:
    if _is_compatible(manifest):
        return _import_compatible(path, _built_version(manifest, header))
    try:
        return open_library(flavour)
    except EngineMismatch as error:
        built = _built_version(manifest, header)
        lean = "; 'srsdk[lean]' runs engines that were exported with --version-compatible"
        raise EngineMismatch(
            f"{path}: built by {TITLES[flavour]} {built}; {error}"
            f"{lean if flavour == 'tensorrt' else ''}"
        ) from error


def _import_compatible(path: Path, built: str) -> Library:
    """Import TensorRT or its lean runtime, which runs version-compatible plans only.

    Both may be installed, in two versions; the one that built the plan comes first, because a later
    one has NVIDIA's promise only.
    """
    found, missing = [], []
    for name in ("tensorrt", "lean"):
        try:
            found.append(open_library(name))
        except EngineMismatch as error:
            missing.append(error)
            continue
        if found[-1].version == built:
            return found[-1]
    if not found:
        reasons = "; ".join(map(str, missing))
        raise EngineMismatch(f"{path}: built by TensorRT {built}; {reasons}") from missing[-1]
    return next((one for one in found if runs_later(built, one.version)), found[0])


def _is_compatible(manifest: Manifest | None) -> bool:
    """Return whether a plan runs in later versions; TensorRT for RTX has no such plans."""
    return manifest is not None and manifest.version_compatible and manifest.flavour == "tensorrt"


def _check_version(
    path: Path,
    library: Library,
    manifest: Manifest | None,
    header: PlanHeader | None,
    fix: str,
) -> None:
    built = _built_version(manifest, header)
    if not built or built == library.version:
        return
    title = TITLES["rtx" if library.flavour == "rtx" else "tensorrt"]
    if not _is_compatible(manifest):
        raise EngineMismatch(
            f"{path}: built for {title} {built}, installed is {library.version}; an engine opens "
            f"only with the version that built it: {fix}"
        )
    if not runs_later(built, library.version):
        raise EngineMismatch(
            f"{path}: built for {title} {built} and later versions, installed is "
            f"{library.version}: {_exact_runtime(built)}, or {fix}"
        )
    log.info("%s: built by %s %s, opened with %s", path, title, built, library.title)


def runs_later(built: str, installed: str) -> bool:
    """Return whether NVIDIA promises that a version-compatible plan runs with a library.

    Args:
        built: version of TensorRT that built the plan, such as `11.4.0.106`.
        installed: version of the library: as new or newer, of the same major version or a next one
            that is in `NEXT_MAJOR`.
    """
    try:
        old, new = ([int(part) for part in text.split(".")] for text in (built, installed))
    except ValueError:
        return False
    return (old[0] == new[0] and old <= new) or NEXT_MAJOR.get(str(old[0])) == str(new[0])


def other_runtime(opened: Opened) -> str:
    """Return what to try when a newer library refuses a version-compatible plan; empty: nothing.

    An exported plan does not contain its lean runtime, because host code from a file is never
    allowed; NVIDIA documents the lean runtime of the same version for such a plan.
    """
    built = _built_version(opened.manifest, None)
    if not _is_compatible(opened.manifest) or built == opened.library.version:
        return ""
    return f"; try the version that built it: {_exact_runtime(built)}"


def _exact_runtime(version: str) -> str:
    """Return the command that installs a version; a file's text never becomes another command."""
    if not re.fullmatch(r"[0-9.]+", version):
        return "pip install 'srsdk[lean]'"
    return f"pip install 'tensorrt-lean-cu13=={version}'"


def _device(path: Path, index: int) -> Device:
    try:
        return Device(index)
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
    runtime = library.runtime(str(path))
    header = plan[: runtime.engine_header_size]
    with library.logger.lines.collect() as lines:
        validity, bits = library.call(
            f"{path}: {library.title} cannot check it", runtime.get_engine_validity, header
        )
    if validity == trt.EngineValidity.INVALID:
        why = _reasons(trt, int(bits))
        text = sentence(f"{library.title} refuses it ({why})", lines)
        raise EngineMismatch(f"{path}: {text}: {fix}")
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
    compatible = " --version-compatible" if _is_compatible(manifest) else ""
    return (
        f"in a checkout of srsdk, python -m export SOURCE -o {path.parent} "
        f"--precision {manifest.precision} "
        f"--target {flavour}{compatible}{sizes} --force"
    )


def _dotted(sms: Any) -> str:
    return "/".join(f"{sm // 10}.{sm % 10}" for sm in sms)
