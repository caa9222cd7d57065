"""A test run reports its processor and what it skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from srsdk.system.processor import processor
from tests.last_line import LONGEST, counted

INNER = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_of_something_else(number):
    pytest.skip("needs a GPU:\\n" + "x" * 99)

@pytest.mark.skipif(True, reason="x" * 99 + ": " + "y" * 99)
def test_of_a_long_reason():
    pass

def test_that_runs():
    pass

@pytest.mark.filterwarnings("default")
def test_that_is_not_chosen():
    pass
"""


def test_a_run_ends_with_one_line(repository: Path, tmp_path: Path) -> None:
    """It shows processor, instruction sets, reasons by frequency, and whole skipped files."""
    (tmp_path / "conftest.py").write_text("from tests.last_line import pytest_sessionfinish\n")
    (tmp_path / "test_inner.py").write_text(INNER)
    (tmp_path / "test_whole.py").write_text(
        "import pytest\npytest.importorskip('no_such_package', reason='needs torch')\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        [*call, "-m", "not filterwarnings"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reasons = f"5 skipped: 3 x needs a GPU, 1 x needs torch, 1 x {'x' * LONGEST}"
    expected = f"processor: {processor()}; {reasons}; 1 deselected by -m 'not filterwarnings'"
    assert done.stdout.splitlines()[-1] == expected


def test_no_skips_are_reported_too() -> None:
    """A run without skips reports that nothing was skipped."""
    assert counted("skipped", []) == "none skipped"
