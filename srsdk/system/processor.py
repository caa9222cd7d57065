"""Detect the processor's instruction sets and the processor kind that they imply.

The kind determines how INT8 convolutions are computed, and so how results of two machines differ.
On x86 the processor itself is queried (CPUID, through NumPy); the operating system's list is used
only if both agree: under user-mode emulation `/proc/cpuinfo` describes the host.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "unknown"
INSTRUCTION_SETS = (
    *("sse4_2", "avx", "avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""Sets to detect, by their Linux names; `avx512` stands for F, BW, DQ and VL together."""
_KINDS = {
    "sse4_2": "SSE4.2",
    "avx2": "AVX2",
    "avx512": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "asimd": "ARM64",
}
"""Kind by instruction set; the last set that a processor has determines its kind."""
KINDS = (*_KINDS.values(), UNKNOWN)
"""All kinds, in the order used in tables."""
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_NUMPY_X86 = {
    "SSE42": "sse4_2",
    "AVX": "avx",
    "AVX2": "avx2",
    "GFNI": "gfni",
    "VAES": "vaes",
    "AVX512F": "avx512f",
    "AVX512BW": "avx512bw",
    "AVX512DQ": "avx512dq",
    "AVX512VL": "avx512vl",
    "AVX512VNNI": "avx512_vnni",
    "AVX512BF16": "avx512_bf16",
    "AVX512FP16": "avx512_fp16",
}
_NUMPY_ARM = {"ASIMDDP": "asimddp", "SVE": "sve"}
_MACOS = {
    "hw.optional.sse4_2": "sse4_2",
    "hw.optional.avx1_0": "avx",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512bw": "avx512bw",
    "hw.optional.avx512dq": "avx512dq",
    "hw.optional.avx512vl": "avx512vl",
    "hw.optional.neon": "asimd",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}
_LISTED_EVERYWHERE = ("sse4_2", "avx", "avx2", "asimd")
_SWITCHES = ("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES")


@dataclass(frozen=True)
class Processor:
    """The processor that this process runs on, possibly an emulated one."""

    name: str
    """Name reported by the operating system."""
    kind: str
    """One of `KINDS`; `unknown` if too little is known."""
    instruction_sets: tuple[str, ...]
    """Members of `INSTRUCTION_SETS` that it is known to have."""

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}: {', '.join(self.instruction_sets) or UNKNOWN})"


@functools.cache
def processor() -> Processor:
    """Return the processor of this process; detected once."""
    name, listed = _system()
    return combine(name, _cpuid(), listed)


def combine(name: str, asked: Mapping[str, bool], told: Iterable[str] | None) -> Processor:
    """Combine the features reported by the processor and by the operating system.

    Args:
        name: name of the processor, from the system.
        asked: by feature, whether the processor reports it; empty if it cannot be queried.
        told: features that the system lists; None if it lists none.

    Returns:
        The features of both; if they contradict each other, those of the processor alone.
    """
    listed = None if told is None else set(told)
    if listed is not None and _contradict(asked, listed):
        listed, name = None, f"emulated on {name}"
    features = {key for key, has in asked.items() if has} | (listed or set())
    if features.issuperset(_AVX512):
        features.add("avx512")
    sets = tuple(key for key in INSTRUCTION_SETS if key in features)
    # every processor with AVX-VNNI and without AVX-512 has GFNI: no GFNI rules AVX-VNNI out
    certain = listed is not None or "avx512" in sets or asked.get("gfni") is False
    return Processor(name, _kind(sets, certain), sets)


def _contradict(asked: Mapping[str, bool], listed: set[str]) -> bool:
    """Return whether the system describes another processor than the one that was queried.

    An old kernel does not know new features, so only old features must be listed.
    """
    too_much = any(key in listed for key, has in asked.items() if not has)
    return too_much or any(asked.get(key) and key not in listed for key in _LISTED_EVERYWHERE)


def _kind(sets: Iterable[str], avx_vnni_is_certain: bool) -> str:
    """Return the kind; unknown if AVX2 could also be an AVX-VNNI that was not detectable."""
    kinds = [kind for key, kind in _KINDS.items() if key in sets]
    if not kinds or (kinds[-1] == "AVX2" and not avx_vnni_is_certain):
        return UNKNOWN
    return kinds[-1]


def _cpuid() -> dict[str, bool]:
    """Query the processor through NumPy; empty if NumPy cannot or has features overridden."""
    if any(name in os.environ for name in _SWITCHES):
        return {}
    found = _numpy_features()
    features = {key: bool(found[name]) for name, key in _NUMPY_X86.items() if name in found}
    # on ARM, False may mean that NumPy did not check
    features |= {key: True for name, key in _NUMPY_ARM.items() if found.get(name)}
    return features | ({"asimd": bool(found["ASIMD"])} if "ASIMD" in found else {})


def _numpy_features() -> dict[str, bool]:
    # private API, but the only way to CPUID without native code; NumPy 1 has no `_core`
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            return dict(importlib.import_module(module).__cpu_features__)
        except (ImportError, AttributeError, TypeError, ValueError):
            continue
    return {}


def _system() -> tuple[str, set[str] | None]:
    """Return the name and the features that the operating system reports; None: no features."""
    if sys.platform == "darwin":
        name, features = parse_sysctl(_sysctl())
    elif sys.platform == "win32":
        name, features = _windows_name(), None
    else:
        information = Path("/proc/cpuinfo")
        text = information.read_text(encoding="utf-8") if information.is_file() else ""
        name, features = parse_cpuinfo(text)
    return name or platform.processor() or platform.machine() or UNKNOWN, features


def parse_cpuinfo(text: str) -> tuple[str, set[str] | None]:
    """Return name and features of the first processor in Linux's `/proc/cpuinfo`."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", "")
    if not name and "CPU part" in fields:
        name = f"ARM64 implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    words = fields.get("flags") or fields.get("Features")
    return name, set(words.split()) if words else None


def parse_sysctl(text: str) -> tuple[str, set[str] | None]:
    """Return name and features from macOS's `sysctl machdep.cpu hw.optional`."""
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    features = {key for name, key in _MACOS.items() if fields.get(name) == "1"}
    return fields.get("machdep.cpu.brand_string", ""), features or None


def _sysctl() -> str:
    call = ["/usr/sbin/sysctl", "machdep.cpu", "hw.optional"]
    try:
        return subprocess.run(call, capture_output=True, text=True, check=False, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _windows_name() -> str:
    name = ""
    if sys.platform == "win32":
        import winreg

        key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            name = str(winreg.QueryValueEx(opened, "ProcessorNameString")[0]).strip()
    return name
