"""TensorRT for RTX engines, built without a GPU, and failing builds."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest

from export.cli import main
from export.errors import ExportError
from export.options import Options, parse_profiles
from export.pipeline import export
from export.record import Report
from export.targets import tensorrt as engines
from export.targets.tensorrt import EngineBuildError, Library, build_engine, open_library
from srsdk.cli.main import main as srsdk_main
from srsdk.formats.tensorrt_plan import hash_file, read_plan_header
from srsdk.manifest import read_manifest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs tensorrt-rtx: pip install 'srsdk[rtx]'",
)

SMS = (86, 89, 120)


@pytest.fixture(scope="module")
def made(weights: Path, drawn: Path, truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """FP16 and INT8 engines with two profiles."""
    folder = tmp_path_factory.mktemp("engines")
    options = Options(
        precisions=("fp16", "int8"),
        targets=("rtx",),
        profiles=((1, 64, 96), (4, 64, 96)),
        data=drawn,
        tests=(truth,),
    )
    return folder, export(weights, folder, options)


def test_header_mask_and_manifest(made: tuple[Path, Report]) -> None:
    """The plan has the requested SMs, and its manifest can be read back."""
    folder, report = made
    assert sorted(path.name for path in folder.iterdir()) == [
        "toy_x2.fp16.engine",
        "toy_x2.fp16.engine.sha256",
        "toy_x2.int8.engine",
        "toy_x2.int8.engine.sha256",
    ]
    for one in report.made:
        path = one.artifact.path
        header, manifest = read_plan_header(path), read_manifest(path)
        assert header is not None
        assert header.sms == SMS
        assert header.size_bytes == path.stat().st_size
        assert manifest == one.manifest
        assert manifest.library_version == header.library_version
        assert (manifest.flavour, manifest.sms, manifest.parity_of) == ("rtx", SMS, "graph")
        assert manifest.profiles == ((1, 64, 96), (4, 64, 96))
        assert manifest.size_px == (64, 96)
        written = hash_file(path).read_text(encoding="utf-8")
        assert written == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def test_int8_engines_multiply_bytes(made: tuple[Path, Report]) -> None:
    """In the plan's text, the body's convolutions have int8 activations and int8 weights.

    The text is not documented; it was found in plans of version 1.7.
    """
    folder, _ = made
    if not open_library("rtx").version.startswith("1.7."):
        pytest.skip("the plan's text is known for version 1.7")
    found = {}
    for precision in ("fp16", "int8"):
        plan = (folder / f"toy_x2.{precision}.engine").read_bytes()
        tensors = re.findall(rb"tensor=\{ [^\n]*?dims=\{ ([\d ]+) \}[^\n]*?type=(\w+) \}", plan)
        for dims in (b"8 8 3 3", b"1 8 64 96"):
            found[precision, dims] = [kind for size, kind in tensors if size == dims]
    for dims in (b"8 8 3 3", b"1 8 64 96"):
        assert found["int8", dims].count(b"int8") >= 3
        assert found["fp16", dims].count(b"half") >= 3
        assert b"int8" not in found["fp16", dims]


def test_info_reads_an_engine_without_a_gpu(
    made: tuple[Path, Report], capsys: pytest.CaptureFixture[str]
) -> None:
    """`srsdk info` shows manifest, library version and SMs of a real plan."""
    folder, _ = made
    assert srsdk_main(["info", str(folder / "toy_x2.int8.engine")]) == 0
    shown = capsys.readouterr().out
    assert "(86, 89, 120)" in shown
    assert open_library("rtx").version in shown
    assert re.search(r"precision +int8", shown)


def test_a_second_run_does_nothing(
    made: tuple[Path, Report], weights: Path, drawn: Path, truth: Path
) -> None:
    """Plans differ between builds, so the same options keep the existing files."""
    folder, _ = made
    call = [str(weights), "-o", str(folder), "--precision", "fp16,int8", "--target", "rtx"]
    call += ["--tile", "64x96", "--batch", "1", "--batch", "4"]
    call += ["--data", str(drawn), "--test", str(truth)]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert main(call) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_turing_and_int8(
    weights: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SM 75 works with FP16; with INT8 it is rejected before any work, without a file."""
    call = [str(weights), "-o", str(tmp_path), "--target", "rtx", "--sm", "75,86"]
    assert main([*call, "--precision", "int8", "--data", str(drawn)]) == 2
    assert "leave 75 out of --sm" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([*call, "--precision", "fp16"]) == 0
    header = read_plan_header(tmp_path / "toy_x2.fp16.engine")
    assert header is not None
    assert header.sms == (75, 86)


def test_profiles() -> None:
    """`--profiles` lists full shapes; `--tile` and `--batch` are combined."""
    assert parse_profiles(None, [], []) == ((1, 256, 256),)
    assert parse_profiles(None, [(64, 96)], [1, 4]) == ((1, 64, 96), (4, 64, 96))
    assert parse_profiles("1x64x96, 2x32x32", [], []) == ((1, 64, 96), (2, 32, 32))


def test_what_the_library_refuses(tmp_path: Path) -> None:
    """Its message is quoted in one sentence; an unknown SM lists the known ones."""
    library = open_library("rtx")
    model = onnx.load(_casts(tmp_path))
    with pytest.raises(
        EngineBuildError, match=r"does not build for SM \[90\], only for 75, 80, 86"
    ):
        build_engine(library, model, "{}", profiles=[(1, 8, 8)], sms=(90,))
    with pytest.raises(EngineBuildError, match=r"5,000 characters, an engine holds at most 4,096"):
        build_engine(library, model, "x" * 5000, profiles=[(1, 8, 8)], sms=(86,))
    model.graph.node[1].op_type = "NoSuchThing"
    with pytest.raises(EngineBuildError, match=r"the parser rejects the graph: .*NoSuchThing"):
        build_engine(library, model, "{}", profiles=[(1, 8, 8)], sms=(86,))


def _casts(folder: Path) -> Path:
    from onnx import TensorProto, helper

    from tests import networks

    return networks.save(
        folder / "casts.onnx",
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Relu", ["x"], ["positive"]),
            helper.make_node("Clip", ["positive"], ["y"]),
            helper.make_node("Round", ["y"], ["z"]),
            helper.make_node("Cast", ["z"], ["upscaled"], to=TensorProto.UINT8),
        ],
        dtype=TensorProto.UINT8,
        input_shape=["n", "h", "w", 3],
        output_shape=["n", "h", "w", 3],
    )


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_a_build(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """During a real build, it gives a one-line message, exit code 130 and no file."""
    from tqdm import tqdm

    interrupted = threading.Event()
    real = tqdm.update

    def update(bar: Any, *arguments: Any) -> Any:
        if not interrupted.is_set() and threading.current_thread() is not threading.main_thread():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return real(bar, *arguments)

    monkeypatch.setattr(tqdm, "update", update)
    call = [str(weights), "-o", str(tmp_path), "--target", "rtx", "--precision", "fp16"]
    assert main(call) == 130
    assert interrupted.is_set()
    assert capsys.readouterr().err == "export: stopped; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra to install."""

    def missing(name: str) -> ModuleType:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("export.targets.tensorrt.importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(ExportError, match=r"need tensorrt_rtx .*pip install 'srsdk\[rtx\]'"):
        open_library("rtx")
    old = SimpleNamespace(import_module=lambda _: SimpleNamespace(__version__="10.16.1"))
    monkeypatch.setattr("export.targets.tensorrt.importlib", old)
    with pytest.raises(ExportError, match=r"tensorrt is 10\.16\.1, expected 11 or newer"):
        open_library("tensorrt")


@pytest.mark.parametrize("target", ["rtx", "onnx"])
def test_only_tensorrt_is_version_compatible(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    """The option is refused before any work where it has no meaning."""
    call = [str(weights), "-o", str(tmp_path), "--target", target, "--version-compatible"]
    assert main(call) == 2
    assert "--version-compatible is for --target tensorrt only" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_version_compatible_engine_says_so(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both flags are set, and the manifest of the plan has the field; an ONNX file's has not.

    The builder is that of TensorRT for RTX, which has the flags but no lean runtime: they are taken
    back before it builds.
    """
    rtx = open_library("rtx")
    monkeypatch.setattr(
        "export.pipeline.open_library", lambda _: Library("tensorrt", rtx.module, "11.4.0.106")
    )
    real, seen = engines._set_flags, []

    def set_flags(job: Any, config: Any) -> None:
        real(job, config)
        flags = rtx.module.BuilderFlag
        both = (flags.VERSION_COMPATIBLE, flags.EXCLUDE_LEAN_RUNTIME)
        seen.append([config.get_flag(flag) for flag in both])
        for flag in reversed(both):  # the library refuses the second without the first
            config.clear_flag(flag)

    monkeypatch.setattr(engines, "_set_flags", set_flags)
    for index, compatible in enumerate((False, True)):
        folder = tmp_path / str(index)
        folder.mkdir()
        options = Options(
            targets=("onnx", "tensorrt"), profiles=((1, 64, 96),), version_compatible=compatible
        )
        export(weights, folder, options)
        found = {path.suffix: read_manifest(path) for path in folder.iterdir()
                 if path.suffix in (".onnx", ".engine")}  # fmt: skip
        assert [m.version_compatible for m in found.values() if m and m.profiles] == [compatible]
        assert [m.version_compatible for m in found.values() if m and not m.profiles] == [False]
    assert seen == [[False, False], [True, True]]


def test_a_null_builder_is_never_used(tmp_path: Path) -> None:
    """Without a GPU, TensorRT logs an error and returns an object whose use ends the process."""

    class Builder:
        """Around a null pointer."""

        def __init__(self, logger: Any) -> None:
            logger.log(rtx.module.ILogger.Severity.ERROR, "CUDA initialization failure")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"segmentation fault in {name}")

    rtx = open_library("rtx")
    module = SimpleNamespace(__name__="tensorrt", ILogger=rtx.module.ILogger, Builder=Builder)
    library, model = Library("tensorrt", module, "11.4.0.106"), onnx.load(_casts(tmp_path))
    with pytest.raises(EngineBuildError, match="no builder: CUDA initialization failure"):
        build_engine(library, model, "{}", profiles=[(1, 8, 8)], sms=())


def test_a_plain_exception_of_the_builder(tmp_path: Path) -> None:
    """What the bindings raise becomes our error, with the logged reason and the cause."""

    class Builder:
        """Fails at once."""

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int) -> Any:
            """Log and raise."""
            self.logger.log(rtx.module.ILogger.Severity.ERROR, "cudaError 35: again")
            self.logger.log(rtx.module.ILogger.Severity.ERROR, "no memory left")
            raise RuntimeError("internal")

    rtx = open_library("rtx")
    module = SimpleNamespace(__name__="tensorrt", ILogger=rtx.module.ILogger, Builder=Builder)
    library, model = Library("tensorrt", module, "11.4.0.106"), onnx.load(_casts(tmp_path))
    with pytest.raises(EngineBuildError, match="the builder failed: no memory left") as caught:
        build_engine(library, model, "{}", profiles=[(1, 8, 8)], sms=())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_build_makes_no_noise(tmp_path: Path) -> None:
    """The library writes nothing to stdout or stderr."""
    code = (
        "import onnx, sys; from export.targets.tensorrt import *; "
        "build_engine(open_library('rtx'), onnx.load(sys.argv[1]), '{}', "
        "profiles=[(1, 8, 8)], sms=(86,))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(_casts(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert (result.stdout, result.stderr) == ("", "")
