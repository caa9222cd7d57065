"""`python -m export`: see `export.cli`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Return the exit code; Ctrl-C while torch is imported, for seconds, is no traceback either."""
    # an exception would not do: libraries that are interrupted as they load raise what they like
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _stop)
    from export.cli import main

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


def _stop(*_: object) -> None:
    os.write(2, b"export: stopped before anything began\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
