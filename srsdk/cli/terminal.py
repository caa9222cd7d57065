"""Messages and progress of the command line."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import time
from collections.abc import Iterator

from srsdk.cli.wording import for_command_line
from srsdk.scheduling.context import Progress
from srsdk.system.text import plain

log = logging.getLogger("srsdk")

EVERY_S = 10.0
"""Interval between progress lines when there is no bar, as in a log file."""


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """Choose what is shown: with `verbose` also what srsdk decides, with `quiet` only errors."""
    if verbose or quiet:
        log.setLevel(logging.ERROR if quiet else logging.INFO)


def is_quiet() -> bool:
    """Return whether only errors are shown."""
    return not log.isEnabledFor(logging.WARNING)


def say(text: str) -> None:
    """Write a message to the error stream as one line, unless only errors are shown."""
    if not is_quiet():
        write(f"srsdk: {one_line(text)}")


def fail(text: str) -> None:
    """Write an error to the error stream as one line that names options, not API arguments."""
    write(f"srsdk: {one_line(for_command_line(text))}")


def one_line(text: str) -> str:
    """Return a message without breaks, which libraries put in, and without control characters."""
    return plain(" ".join(text.split()))


def write(text: str) -> None:
    """Write a line to the error stream, above the progress bar if there is one."""
    line = f"{text}\n"
    if has_bar():
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr, end="")
    else:
        sys.stderr.write(line)


def has_bar() -> bool:
    """Return whether progress is a bar: on a terminal, with tqdm installed."""
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


@contextlib.contextmanager
def progress(name: str, unit: str, *, lines: bool = True) -> Iterator[Progress | None]:
    """Yield a callback that takes (done, total) and shows speed and remaining time.

    Args:
        name: label of the work.
        unit: what is counted, in the singular.
        lines: write a line every ten seconds if there is no bar.
    """
    if is_quiet():
        yield None
        return
    if not has_bar():
        yield Lines(name, unit) if lines else None
        return
    from tqdm import tqdm

    with tqdm(desc=name, unit=unit, leave=False, dynamic_ncols=True, smoothing=0.05) as bar:
        first = None

        def show(done: int, total: int) -> None:
            nonlocal first
            if first is None:
                # work done by an earlier run must not count toward the speed of this one
                bar.initial = first = done - 1
                bar.n = done - 1
            bar.total = total or None
            bar.update(done - bar.n)

        yield show


class Lines:
    """Progress as log lines."""

    def __init__(self, name: str, unit: str, *, every_s: float = EVERY_S) -> None:
        self._name, self._unit, self._every_s = name, unit, every_s
        self._first: tuple[float, int] | None = None
        self._last_s = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Write a line if the last one is old enough."""
        now_s = time.monotonic()
        if self._first is None:
            self._first = now_s, done
        if now_s - self._last_s < self._every_s or done == self._first[1]:
            return
        self._last_s = now_s
        rate = (done - self._first[1]) / (now_s - self._first[0])
        left = f", {clock((total - done) / rate)} left" if total > done else ""
        of = f" of {total}" if total else ""
        say(f"{self._name}: {done}{of} {self._unit}s, {rate:.3g} {self._unit}s/s{left}")


def clock(seconds: float) -> str:
    """Return 75.2 as `1:15` and 3675 as `1:01:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
