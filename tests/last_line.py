"""Last line of a test run: the processor, its instruction sets, what was skipped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any

import pytest

LONGEST = 90
"""Most characters of a reason; the short summary above shows all of it."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, Any, Any]:
    """Write the line after everything else, in the process that reports (xdist has several)."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(session.config, "workerinput"):
        option = session.config.option
        chosen = {"-m": option.markexpr, "-k": option.keyword}
        reporter.write_line(last_line(reporter.stats, chosen))
    return result


def last_line(stats: dict[str, list[Any]], chosen: dict[str, str]) -> str:
    """Format the line.

    Args:
        stats: pytest's reports by outcome; a whole file that was skipped counts once.
        chosen: the expressions by which tests were deselected, by option.
    """
    skipped = [reason(report) for report in stats.get("skipped", [])]
    parts = [f"processor: {_processor()}", counted("skipped", skipped)]
    deselected = stats.get("deselected", [])
    if deselected:
        why = " and ".join(f"{option} {text!r}" for option, text in chosen.items() if text)
        parts.append(f"{len(deselected)} deselected" + (f" by {why}" if why else ""))
    return "; ".join(parts)


def reason(report: Any) -> str:
    """Return why a test or file was skipped; a long reason is cut at its first colon."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    line = " ".join(text.removeprefix("Skipped: ").split())
    if len(line) > LONGEST:
        line = line.split(": ")[0][:LONGEST]
    return line


def counted(outcome: str, reasons: Iterable[str]) -> str:
    """Return the count of all reasons and of each one, most frequent first."""
    found = Counter(reasons)
    if not found:
        return f"none {outcome}"
    each = (f"{count} x {text}" for text, count in found.most_common())
    return f"{found.total()} {outcome}: {', '.join(each)}"


def _processor() -> str:
    """Return name, kind and instruction sets; an error here must not hide the test results."""
    try:
        from srsdk.system.processor import processor

        return str(processor())
    except Exception as error:
        return f"unknown ({type(error).__name__}: {error})"
