"""Skip test files whose optional library is not installed, and run the others."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

EXTRAS = {
    "av": "video",
    "cuda": "rtx",
    "fastapi": "http",
    "fastapi_offline": "http",
    "matplotlib": "bench",
    "networkx": "export",
    "onnx": "export",
    "onnxscript": "export",
    "prometheus_client": "http",
    "python_multipart": "http",
    "pillow_heif": "heif",
    "pylibjxl": "jxl",
    "pyvips": "vips",
    "safetensors": "train",
    "shtab": "cli",
    "torch": "train",
    "uvicorn": "http",
}
"""The extra that installs each library. Any other missing module is an error."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a failed import at the top of a test file or conftest into a skip."""
    report = yield
    call: Any = getattr(report, "call", None)
    library = missing(call.excinfo.value) if report.failed and call and call.excinfo else None
    if library:
        reason = f"Skipped: needs {library}: pip install 'srsdk[{EXTRAS[library]}]'"
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 1, reason)
    return report


def missing(error: BaseException | None) -> str | None:
    """Return the optional library whose absence caused an error, or None."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            return error.name
        error = getattr(error, "cause", None) or error.__cause__
    return None
