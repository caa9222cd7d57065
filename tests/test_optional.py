"""A missing optional library skips its test files; other import errors stay errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.optional import missing


@pytest.mark.parametrize(
    ("library", "code", "expected"),
    [("torch", 0, "1 x needs torch: pip install 'srsdk[train]'"), ("ours", 2, "none skipped")],
)
def test_a_file_without_its_library(
    repository: Path, tmp_path: Path, library: str, code: int, expected: str
) -> None:
    """Optional libraries give a skip with a reason; any other failed import ends the run."""
    hooks = "from tests.optional import pytest_make_collect_report\n"
    hooks += "from tests.last_line import pytest_sessionfinish\n"
    (tmp_path / "conftest.py").write_text(hooks)
    absent = f"No module named '{library}'"
    (tmp_path / f"{library}.py").write_text(
        f"raise ModuleNotFoundError({absent!r}, name={library!r})"
    )
    (tmp_path / "test_a.py").write_text(f"import {library}\n")
    (tmp_path / "test_b.py").write_text("def test_that_runs():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(expected)


def test_the_cause_is_looked_for() -> None:
    """A failed import that caused another error counts; an error without one does not."""
    absent = ModuleNotFoundError("No module named 'onnx'", name="onnx")
    outer = RuntimeError("cannot collect")
    outer.__cause__ = absent
    assert missing(outer) == "onnx"
    assert missing(RuntimeError("onnx")) is None
