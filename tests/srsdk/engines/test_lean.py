"""The real TensorRT lean runtime, as far as it works without a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

import srsdk
from srsdk.engines.tensorrt_library import MIN_MAJOR, open_library
from tests.srsdk.engines.test_gpu_names import run_side_names

trt = pytest.importorskip("tensorrt_lean", reason="pip install 'srsdk[lean]'")


def test_it_opens_as_a_library() -> None:
    """The module has a version that is new enough; it cannot build."""
    library = open_library("lean")
    assert library.version == trt.__version__
    assert int(library.version.partition(".")[0]) >= MIN_MAJOR
    assert library.title == f"the TensorRT lean runtime {trt.__version__}"
    assert not hasattr(trt, "Builder")


def test_its_names() -> None:
    """It has each name that running an engine of TensorRT uses."""
    for kind, used in run_side_names().items():
        assert used <= set(dir(getattr(trt, kind))), kind


def test_code_from_plans_is_off() -> None:
    """The switch exists and is documented as off, which is all that srsdk relies on."""
    assert isinstance(trt.Runtime.engine_host_code_allowed, property)
    assert "(Default: False)" in str(trt.Runtime.__doc__)


def test_a_runtime_without_a_driver() -> None:
    """It is a null object; srsdk quotes the log, and the process lives on and ends in peace."""
    if has_gpu():
        pytest.skip("there is a GPU")
    assert run(
        "from srsdk.engines.tensorrt_library import *; import srsdk\n"
        "try: open_library('lean').runtime('x')\n"
        "except srsdk.EngineMismatch: print('told')"
    ) == (0, "told\n")
    words = r"^x\.engine: the TensorRT lean runtime .* cannot start: .*CUDA initialization failure"
    with pytest.raises(srsdk.EngineMismatch, match=words):
        open_library("lean").runtime("x.engine")


def test_why_a_null_runtime_is_not_freed() -> None:
    """The bindings crash when they free one; if a later version does not, `made` may be simpler."""
    if has_gpu():
        pytest.skip("there is a GPU")
    code, _ = run("import tensorrt_lean as t; t.Runtime(t.Logger(t.Logger.INTERNAL_ERROR))")
    assert code < 0


def run(code: str) -> tuple[int, str]:
    """Run Python code that may crash; return exit code and output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.returncode, done.stdout


def has_gpu() -> bool:
    """Return whether a runtime can be made."""
    used = "import tensorrt_lean as t; t.Runtime(t.Logger(t.Logger.INTERNAL_ERROR)).num_DLA_cores"
    return run(used)[0] == 0
