"""The processor's kind follows from its reported features and is never guessed."""

from __future__ import annotations

import dataclasses

import pytest

from srsdk.system import processor
from srsdk.system.processor import (
    INSTRUCTION_SETS,
    KINDS,
    combine,
    parse_cpuinfo,
    parse_sysctl,
)

AVX2 = {"sse4_2": True, "avx": True, "avx2": True, "gfni": False, "avx512f": False}
AVX512 = {**AVX2, "gfni": True, "avx512f": True, "avx512bw": True}
AVX512 |= {"avx512dq": True, "avx512vl": True, "avx512_vnni": True}
XEON = {key for key, has in AVX512.items() if has} | {"avx_vnni", "amx_int8", "avx512_bf16"}


def test_this_processor() -> None:
    """It has a name and a known kind, and is detected once."""
    found = processor.processor()
    assert found is processor.processor()
    assert found.name
    assert found.kind in KINDS
    assert set(found.instruction_sets) <= set(INSTRUCTION_SETS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.kind = "AVX2"  # type: ignore[misc]


def test_both_sources_are_put_together() -> None:
    """NumPy does not know AMX and AVX-VNNI, the system does."""
    found = combine("Xeon", AVX512, XEON)
    assert found.kind == "AVX-512 VNNI"
    assert {"avx512", "avx_vnni", "amx_int8", "avx512_bf16"} <= set(found.instruction_sets)
    assert str(found).startswith("Xeon (AVX-512 VNNI: sse4_2, avx, avx2, ")


def test_what_the_processor_denies_is_not_claimed() -> None:
    """Under emulation the system describes the host: its features are ignored."""
    found = combine("Xeon", AVX2, XEON)
    assert found.kind == "AVX2"
    assert found.instruction_sets == ("sse4_2", "avx", "avx2")
    assert found.name == "emulated on Xeon"
    arm = combine("Xeon", {"asimd": True, "asimddp": True, "avx2": False}, XEON)
    assert (arm.kind, arm.instruction_sets) == ("ARM64", ("asimd", "asimddp"))


def test_an_old_kernel_has_no_word_for_new_features() -> None:
    """A new feature missing from the system's list is not a contradiction."""
    told = {"sse4_2", "avx", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl"}
    found = combine("Xeon", AVX512, told)
    assert found.kind == "AVX-512 VNNI"
    assert found.name == "Xeon"


@pytest.mark.parametrize(
    ("asked", "told", "kind"),
    [
        ({}, {"sse4_2", "avx", "avx2", "avx_vnni"}, "AVX-VNNI"),
        ({}, {"sse4_2", "avx", "avx2"}, "AVX2"),
        ({}, {"sse4_2"}, "SSE4.2"),
        ({**AVX512, "avx512_vnni": False}, None, "AVX-512"),
        (AVX2, None, "AVX2"),
        # AVX-VNNI cannot be ruled out
        ({**AVX2, "gfni": True}, None, "unknown"),
        ({"avx2": True}, None, "unknown"),
        ({}, None, "unknown"),
        ({}, {"asimd", "asimddp", "i8mm"}, "ARM64"),
    ],
)
def test_kinds(asked: dict[str, bool], told: set[str] | None, kind: str) -> None:
    """Each kind follows from its deciding set; otherwise it is unknown."""
    assert combine("x", asked, told).kind == kind


def test_what_linux_says() -> None:
    """The first processor is used; ARM processors are named by numbers."""
    text = "processor : 0\nmodel name\t: A\nflags\t\t: sse4_2 avx2\n\nmodel name : B\nflags : x\n"
    assert parse_cpuinfo(text) == ("A", {"sse4_2", "avx2"})
    arm = "Features\t: asimd i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
    assert parse_cpuinfo(arm) == ("ARM64 implementer 0x41 part 0xd0c", {"asimd", "i8mm"})
    assert parse_cpuinfo("") == ("", None)


def test_what_macos_says() -> None:
    """Features are those with a 1; no output gives None, not an empty set."""
    text = "machdep.cpu.brand_string: Apple M2\nhw.optional.AdvSIMD: 1\n"
    text += "hw.optional.arm.FEAT_I8MM: 1\nhw.optional.arm.FEAT_BF16: 0\n"
    assert parse_sysctl(text) == ("Apple M2", {"asimd", "i8mm"})
    assert parse_sysctl("") == ("", None)


def test_a_numpy_that_was_told_what_to_say_is_no_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features disabled in NumPy still exist, so NumPy is not asked."""
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "AVX2")
    assert processor._cpuid() == {}


def test_a_numpy_without_the_private_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NumPy's private name only the system's list remains."""

    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", fail)
    assert processor._cpuid() == {}
