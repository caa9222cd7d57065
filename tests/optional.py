"""A file of tests whose library is not installed is skipped with the reason, and the others run."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

EXTRAS = {
    "av": "video",
    "matplotlib": "bench",
    "onnx": "export",
    "onnxscript": "export",
    "pyvips": "vips",
    "safetensors": "train",
    "torch": "train",
}
"""By library, the extra that brings it. What else is missing is an error."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the error of an import at the top of a file or a conftest into a skip."""
    report = yield
    call: Any = getattr(report, "call", None)
    library = missing(call.excinfo.value) if report.failed and call and call.excinfo else None
    if library:
        reason = f"Skipped: needs {library}: pip install 'srsdk[{EXTRAS[library]}]'"
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 1, reason)
    return report


def missing(error: BaseException | None) -> str | None:
    """Return the optional library whose absence is behind an error, or None."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            return error.name
        error = getattr(error, "cause", None) or error.__cause__
    return None
