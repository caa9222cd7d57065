"""Versions of TensorRT: which library runs a plan, and what replaces new names in TensorRT 10."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import srsdk
from srsdk.engines.plan_checks import Opened, open_plan, runs_later
from srsdk.engines.tensorrt import TensorRtNetwork, TensorRtRun
from srsdk.manifest import Manifest, parse_manifest
from tests.srsdk.engines.test_tensorrt_library import (
    MANIFEST,
    VERSION,
    OnGpu,
    library,
    use,
    write_plan,
)


@pytest.mark.parametrize(
    ("built", "installed", "runs"),
    [
        ("11.4.0.106", "11.4.0.106", True),
        ("11.4.0.106", "11.4.1.2", True),
        ("11.4.0.106", "11.10.0.1", True),
        ("11.4.0.106", "11.3.9.9", False),
        ("11.4.0.106", "11.4.0.105", False),
        ("10.3.0.26", "11.0.0.1", True),
        ("11.0.0.1", "10.16.1.11", False),
        ("11.4.0.106", "12.0.0.1", False),
        ("8.6.1", "10.3.0", False),
        ("9.0.0", "11.0.0", False),
        ("", "11.4.0.106", False),
        ("unknown", "11.4.0.106", False),
    ],
)
def test_what_nvidia_promises(built: str, installed: str, *, runs: bool) -> None:
    """A version-compatible plan runs in later versions of its major version, one of 10 in 11."""
    assert runs_later(built, installed) is runs


COMPATIBLE = replace(MANIFEST, version_compatible=True)


@pytest.mark.parametrize(
    ("manifest", "installed", "chosen"),
    [
        (MANIFEST, {"tensorrt": VERSION, "lean": VERSION}, "tensorrt"),
        (None, {"tensorrt": "10.3.0", "lean": VERSION}, "tensorrt"),
        (COMPATIBLE, {"tensorrt": VERSION, "lean": VERSION}, "tensorrt"),
        (COMPATIBLE, {"lean": VERSION}, "lean"),
        (COMPATIBLE, {"tensorrt": "11.6.0.1", "lean": VERSION}, "lean"),
        (COMPATIBLE, {"tensorrt": "11.6.0.1", "lean": "11.5.0.1"}, "tensorrt"),
        (COMPATIBLE, {"lean": "11.5.0.1"}, "lean"),
        (COMPATIBLE, {"tensorrt": "10.3.0", "lean": "11.5.0.1"}, "lean"),
    ],
)
def test_which_library_runs_a_plan(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manifest: Manifest | None,
    installed: dict[str, str],
    chosen: str,
) -> None:
    """The one that built it; a later one, or the lean runtime, for version-compatible plans only.

    A plan of trtexec, which says nothing of itself, opens with any TensorRT, such as 10.
    """
    use(monkeypatch, *(library(version, flavour) for flavour, version in installed.items()))
    opened = open_plan(write_plan(tmp_path / "x.engine", manifest), 0)
    assert opened.library.flavour == chosen


@pytest.mark.parametrize(
    ("manifest", "installed", "words"),
    [
        (MANIFEST, {"lean": VERSION}, r"srsdk\[tensorrt\]'; 'srsdk\[lean\]' runs .*--version-comp"),
        (None, {"lean": VERSION}, r"srsdk\[tensorrt\]'; 'srsdk\[lean\]' runs"),
        (COMPATIBLE, {}, r"built by TensorRT 11\.4\.0\.106; .*\[tensorrt\]'; .*\[lean\]'"),
        (MANIFEST, {"tensorrt": "11.4.1.2"}, "opens only with the version that built it"),
        (
            COMPATIBLE,
            {"lean": "11.3.0.1"},
            r"and later versions, installed is 11\.3\.0\.1: "
            r"pip install 'tensorrt-lean-cu13==11\.4\.0\.106', or in a checkout of srsdk, "
            r"python -m export SOURCE .*"
            r"--target tensorrt --version-compatible --profiles 1x32x48 --force",
        ),
        # a version from a file is no part of a command
        (
            replace(COMPATIBLE, library_version="1'; echo '"),
            {"lean": "11.3.0.1"},
            r"installed is 11\.3\.0\.1: pip install 'srsdk\[lean\]', or in a checkout of srsdk, p",
        ),
        # only TensorRT has such plans
        (
            replace(COMPATIBLE, flavour="rtx", library_version="1.7.1.116"),
            {"rtx": "1.7.2.1"},
            "opens only with the version that built it",
        ),
    ],
)
def test_what_no_library_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manifest: Manifest | None,
    installed: dict[str, str],
    words: str,
) -> None:
    """The error names each extra that helps, and the export command with the same options."""
    use(monkeypatch, *(library(version, flavour) for flavour, version in installed.items()))
    with pytest.raises(srsdk.EngineMismatch, match=words):
        open_plan(write_plan(tmp_path / "x.engine", manifest), 0)


def test_a_later_version_that_breaks_the_promise(tmp_path: Path) -> None:
    """A plan that it refuses all the same is an error, which names the lean runtime to install."""

    def runtime(_: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=lambda _: None)

    later = library("11.6.0.1", Runtime=runtime)
    opened = Opened(tmp_path / "x.engine", b"", COMPATIBLE, later, OnGpu())  # type: ignore[arg-type]
    words = r"cannot load it: .*; try .*: pip install 'tensorrt-lean-cu13==11\.4\.0\.106'"
    with pytest.raises(srsdk.EngineMismatch, match=words):
        TensorRtNetwork(opened, graphs=False)


def test_the_library_that_opened_a_plan_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Running in a later version is said, not silent."""
    use(monkeypatch, library("11.6.0.1"))
    with caplog.at_level(logging.INFO, "srsdk"):
        open_plan(write_plan(tmp_path / "x.engine", COMPATIBLE), 0)
    assert "built by TensorRT 11.4.0.106, opened with TensorRT 11.6.0.1" in caplog.text


def test_the_manifest_of_older_files() -> None:
    """A file that does not say that it is version-compatible is not; the field survives."""
    text = '{"schema":1,"name":"a","scale":2,"channels":3,"radius_px":6}'
    assert not parse_manifest(text, source="x").version_compatible
    assert parse_manifest(COMPATIBLE.to_json(), source="x") == COMPATIBLE
    with pytest.raises(srsdk.ManifestError, match="version_compatible is 1, allowed: true or fal"):
        parse_manifest(f'{text[:-1]},"version_compatible":1}}', source="x")


class OldContext:
    """Execution context of TensorRT 10.0, which takes no size with the scratch memory."""

    device_memory = 0

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Accept any."""
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Keep the shape."""
        self.shape = shape
        return True

    def infer_shapes(self) -> list[str]:
        """Return that nothing is missing."""
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Return twice the size."""
        n, h, w, c = self.shape
        return (n, 2 * h, 2 * w, c)

    def update_device_memory_size_for_shapes(self) -> int:
        """Return a size."""
        return 4096

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Keep the address."""
        self.addresses[name] = memory
        return True


def test_the_scratch_memory_of_old_versions() -> None:
    """TensorRT 10.0 has an attribute where later ones have `set_device_memory`."""
    context = OldContext()
    run = TensorRtRun(library("10.0.1"), context, ("image", "upscaled"), 0, (1, 8, 8, 3), 7)
    run.bind(1, 2, 3)
    assert (run.output_shape, run.scratch_bytes) == ((1, 16, 16, 3), 4096)
    assert context.device_memory == 3
    assert context.addresses == {"image": 1, "upscaled": 2}


class OldEngine:
    """Engine of TensorRT 10.0."""

    num_io_tensors, num_optimization_profiles = 2, 1

    def get_tensor_name(self, index: int) -> str:
        """Return the name."""
        return ("image", "upscaled")[index]

    def get_tensor_mode(self, name: str) -> str:
        """Return the direction."""
        return "in" if name == "image" else "out"

    def get_tensor_dtype(self, name: str) -> Any:
        """Return uint8."""
        return SimpleNamespace(name="UINT8")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Return that the size is free."""
        return (-1, -1, -1, 3)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        """Return one shape."""
        return [(1, 32, 48, 3)] * 3

    def get_device_memory_size_for_profile(self, profile_index: int) -> int:
        """Return a size."""
        return 777

    def create_execution_context(self, strategy: Any) -> OldContext:
        """Return a context."""
        assert strategy == "managed"
        return OldContext()


def test_the_engine_of_old_versions(tmp_path: Path) -> None:
    """TensorRT 10 has no runtime configuration, 10.0 another name for the size of a profile."""

    def runtime(_: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=lambda _: OldEngine())

    old = library(
        "10.0.1",
        Runtime=runtime,
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="managed"),
    )
    opened = Opened(tmp_path / "x.engine", b"", None, old, OnGpu())  # type: ignore[arg-type]
    network = TensorRtNetwork(opened, graphs=True)
    assert network.profiles == ((1, 32, 48),)
    assert network.signature.input_shape == (None, 32, 48, 3)
    assert network.scratch_bytes((1, 32, 48, 3)) == 777
    stream: Any = SimpleNamespace(lock=threading.Lock(), stream=SimpleNamespace(handle=7))
    assert network.prepare((1, 32, 48, 3), stream).output_shape == (1, 64, 96, 3)
