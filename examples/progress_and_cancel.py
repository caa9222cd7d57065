"""Show progress, and cancel: `python examples/progress_and_cancel.py IN`.

As behind the progress bar and the Cancel button of a desktop application.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import srsdk


def main(source: str) -> None:
    """Upscale in the background; cancel after the first tiles."""
    begun = threading.Event()

    def show(done: int, total: int) -> None:  # called in a worker thread
        print(f"{100 * done // total} %")
        begun.set()

    with srsdk.Upscaler("gan_x4_quality", tile=32) as up:
        future = up.submit(Path(source), progress=show)
        begun.wait(60)
        future.cancel()  # stops within one tile
        try:
            print("done", future.result().shape)
        except CancelledError:
            print("cancelled")


if __name__ == "__main__":
    main(*sys.argv[1:])
