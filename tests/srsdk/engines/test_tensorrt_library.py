"""Calls of TensorRT: null objects, errors in any form, the lines of each call, missing modules.

The modules here are stand-ins of a few lines; `test_gpu_names.py` checks the names against the real
bindings, `test_lean.py` runs what the real lean runtime can do without a GPU.
"""

from __future__ import annotations

import enum
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import srsdk
from srsdk.engines import plan_checks, tensorrt_library
from srsdk.engines.plan_checks import Opened, open_plan
from srsdk.engines.tensorrt import TensorRtNetwork
from srsdk.engines.tensorrt_library import ErrorLines, Library, make_logger
from srsdk.manifest import Manifest

VERSION = "11.4.0.106"
MANIFEST = Manifest(
    name="toy",
    scale=2,
    channels=3,
    radius_px=3,
    precision="fp16",
    flavour="tensorrt",
    profiles=((1, 32, 48),),
    library_version=VERSION,
)


class ILogger:
    """Base class of loggers."""

    Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])


ERROR = ILogger.Severity.ERROR


def library(version: str = VERSION, flavour: str = "tensorrt", **names: Any) -> Library:
    """Return a library whose module has the given names."""
    module = SimpleNamespace(__name__=flavour, ILogger=ILogger, **names)
    return Library(flavour, module, version, make_logger(module))


class NullRuntime:
    """Around a null pointer: the log tells why; to use or to free it would end the process."""

    freed = 0

    def __init__(self, logger: Any) -> None:
        logger.log(ERROR, "createInferRuntime: Error Code 6 (CUDA initialization failure)")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"segmentation fault in {name}")

    def __del__(self) -> None:
        NullRuntime.freed += 1


def unmade(logger: Any) -> Any:
    """Fail as the bindings of TensorRT 10 do."""
    raise TypeError("pybind11::init(): factory function returned nullptr")


class OnGpu:
    """Stands for the GPU; knows whether its context is current."""

    name = "cuda:1"
    properties = SimpleNamespace(name="RTX", sm=89, driver="13.0")
    is_active = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current."""
        self.is_active = True
        yield
        self.is_active = False


def write_plan(path: Path, manifest: Manifest | None = MANIFEST) -> Path:
    """Write a file that the checks accept."""
    text = b"" if manifest is None else manifest.to_json().encode()
    path.write_bytes(b"ptrt" + bytes(60) + text + bytes(64))
    return path


def use(monkeypatch: pytest.MonkeyPatch, *libraries: Library) -> OnGpu:
    """Install libraries and a GPU."""
    found, gpu = {each.flavour: each for each in libraries}, OnGpu()

    def open_library(flavour: str) -> Library:
        if flavour not in found:
            extra = f"pip install 'srsdk[{flavour}]'"
            raise srsdk.EngineMismatch(f"{flavour} is not installed here: {extra}")
        return found[flavour]

    monkeypatch.setattr(plan_checks, "open_library", open_library)
    monkeypatch.setattr(plan_checks, "Device", lambda *_: gpu)
    return gpu


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (NullRuntime, r"CUDA initialization failure"),
        (unmade, r"factory function returned nullptr"),
        (lambda _: None, "no reason given"),
    ],
)
def test_a_null_runtime_is_never_used(tmp_path: Path, kind: Any, words: str) -> None:
    """The log is read right after the construction; the error quotes it, and nothing is freed."""
    opened = Opened(tmp_path / "x.engine", b"", None, library(Runtime=kind), OnGpu())  # type: ignore[arg-type]
    with pytest.raises(srsdk.EngineMismatch, match=rf"x\.engine: .* cannot start: .*{words}"):
        TensorRtNetwork(opened, graphs=False)
    gc.collect()
    assert NullRuntime.freed == 0


def test_the_check_of_the_header_notices_a_null_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX makes a runtime earlier, to check the header."""
    manifest = replace(MANIFEST, flavour="rtx")
    use(monkeypatch, library(flavour="rtx", Runtime=NullRuntime))
    with pytest.raises(srsdk.EngineMismatch, match="CUDA initialization failure"):
        open_plan(write_plan(tmp_path / "x.engine", manifest), 1)


def test_the_header_is_checked_on_the_chosen_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX asks the GPU of the current context, which is made current for that."""
    seen = []

    class Runtime:
        """Notes whether the context is current."""

        engine_header_size = 64

        def __init__(self, logger: Any) -> None:
            seen.append(gpu.is_active)

        def get_engine_validity(self, header: bytes) -> tuple[Any, int]:
            seen.append(gpu.is_active)
            return Validity.VALID, 0

    Validity = enum.Enum("Validity", ["VALID", "SUBOPTIMAL", "INVALID"])  # noqa: N806 - a class
    gpu = use(monkeypatch, library(flavour="rtx", Runtime=Runtime, EngineValidity=Validity))
    open_plan(write_plan(tmp_path / "x.engine", replace(MANIFEST, flavour="rtx")), 1)
    assert seen == [True, True]
    assert not gpu.is_active


def raising(error: Exception) -> Any:
    """Return a function that raises."""

    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize("answer", [None, False])
def test_none_and_false_are_errors(answer: object) -> None:
    """The exception quotes what the library logged during the call, and nothing earlier."""
    trt = library()
    trt.logger.log(ERROR, "an old line")

    def function() -> object:
        trt.logger.log(ERROR, "no kernel\n image")
        return answer

    with pytest.raises(srsdk.BackendError, match=r"^the engine failed: no kernel image$"):
        trt.call("the engine failed", function)
    assert trt.call("x", lambda: 0) == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error"), srsdk.BackendError),
        (RuntimeError("CUDA error: out of memory"), srsdk.OutOfMemoryError),
        (MemoryError("std::bad_alloc"), srsdk.OutOfMemoryError),
    ],
)
def test_exceptions_of_the_bindings_are_translated(error: Exception, kind: type) -> None:
    """A plain RuntimeError where None is expected becomes the same exception, with its cause."""
    with pytest.raises(srsdk.BackendError, match=f"x: {error}") as caught:
        library().call("x", raising(error))
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_loading_translates_exceptions_too(tmp_path: Path) -> None:
    """A plan that the library refuses with an exception is an EngineMismatch, or out of memory."""
    for error, kind in (
        (RuntimeError("magic tag"), srsdk.EngineMismatch),
        (RuntimeError("out of memory"), srsdk.OutOfMemoryError),
    ):

        def runtime(_: Any, error: Exception = error) -> Any:
            return SimpleNamespace(deserialize_cuda_engine=lambda _: raising(error)())

        opened = Opened(tmp_path / "x.engine", b"", None, library(Runtime=runtime), OnGpu())  # type: ignore[arg-type]
        with pytest.raises(kind, match=r"x\.engine: TensorRT 11.* cannot load it: "):
            TensorRtNetwork(opened, graphs=False)


def test_lines_belong_to_the_call_that_logs_them() -> None:
    """Calls that fail at the same time quote their own lines only."""
    trt, together, told = library(), threading.Barrier(8), {}

    def work(name: str) -> None:
        def function() -> None:
            for number in range(6):
                together.wait()
                trt.logger.log(ERROR, f"{name}.{number}")

        with pytest.raises(srsdk.BackendError) as caught:
            trt.call(name, function)
        told[name] = str(caught.value)

    threads = [threading.Thread(target=work, args=(f"call{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {
        f"call{index}": f"call{index}: " + "; ".join(f"call{index}.{n}" for n in range(6))
        for index in range(8)
    }


def test_lines_of_the_librarys_own_threads_go_to_all_calls() -> None:
    """A thread without a call of its own may work for any; without a call, lines are dropped."""
    lines = ErrorLines()
    lines.add("before")
    with lines.collect() as outer, lines.collect() as inner:
        lines.add("both")
        worker = threading.Thread(target=lines.add, args=("worker",))
        worker.start()
        worker.join()
    lines.add("after")
    assert list(outer) == list(inner) == ["both", "worker"]


def test_only_the_last_lines_are_kept() -> None:
    """A message has a limit, except where the first line is the cause."""
    lines = ErrorLines()
    with lines.collect() as last, lines.collect(None) as every:
        for number in range(20):
            lines.add(str(number))
    assert list(last) == [str(number) for number in range(12, 20)]
    assert len(every) == 20


def test_missing_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flavour's error names its extra; TensorRT 10 is new enough, 8 is not."""
    stand_in = SimpleNamespace(import_module=raising(ImportError()))
    monkeypatch.setattr(tensorrt_library, "importlib", stand_in)
    tensorrt_library.open_library.cache_clear()

    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    stand_in.import_module = missing
    for flavour, module in tensorrt_library.MODULES.items():
        with pytest.raises(srsdk.EngineMismatch, match=rf"'{module}'.*'srsdk\[{flavour}\]'"):
            tensorrt_library.open_library(flavour)
    for flavour in ("tensorrt", "lean"):
        stand_in.import_module = lambda _: SimpleNamespace(__version__="8.6.1")
        with pytest.raises(srsdk.EngineMismatch, match=rf"8\.6\.1, .* 10 .*'srsdk\[{flavour}\]'"):
            tensorrt_library.open_library(flavour)
        found = library("10.3.0", flavour).module
        found.__version__ = "10.3.0"
        stand_in.import_module = lambda _, found=found: found
        assert tensorrt_library.open_library(flavour).version == "10.3.0"
    tensorrt_library.open_library.cache_clear()


def test_code_from_plans_is_never_allowed(repository: Path) -> None:
    """Nothing in the runtime or the export touches TensorRT's switch for it, which is off."""
    files = [*(repository / "srsdk").rglob("*.py"), *(repository / "export").rglob("*.py")]
    assert len(files) > 100
    for path in files:
        assert "host_code_allowed" not in path.read_text(encoding="utf-8"), path
