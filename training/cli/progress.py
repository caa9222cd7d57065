"""Show the progress of a run: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from training.loop import Progress

log = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two lines."""

Show = Callable[[Progress], None]


@contextmanager
def progress(steps: int, *, on: bool) -> Iterator[Show | None]:
    """Yield what shows each step; None if not `on`, as in all processes but the first."""
    if not on:
        yield None
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        with tqdm(total=steps, unit="step", smoothing=0.01) as bar, logging_redirect_tqdm():

            def show(at: Progress) -> None:
                bar.update(at.step - bar.n)
                bar.set_postfix(loss=f"{at.loss:.5f}", refresh=False)

            yield show


class Lines:
    """Progress as lines of a log file: step, loss, speed and the time left."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._last_s = time.monotonic()

    def __call__(self, at: Progress) -> None:
        """Write a line if the last one is old enough."""
        now_s = time.monotonic()
        if now_s - self._last_s < self._every_s or at.step == at.steps:
            return
        self._last_s = now_s
        left_s = (at.steps - at.step) * at.seconds_per_step
        log.info(
            "step %d of %d  loss %.5f  %.3g steps/s  %s left",
            at.step, at.steps, at.loss, 1 / at.seconds_per_step, clock(left_s),
        )  # fmt: skip


def clock(seconds: float) -> str:
    """Return 75.2 as `1:15` and 3675 as `1:01:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
