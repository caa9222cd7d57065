"""Start-up shared by all commands; handles Ctrl-C during the slow torch import."""

from __future__ import annotations

import importlib
import os
import signal
import sys

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def start(package: str) -> int:
    """Run `main` of a package's `cli` module and return its exit code, 130 after Ctrl-C."""

    def stop(*_: object) -> None:
        os.write(2, f"{package}: stopped during start-up\n".encode())
        os._exit(INTERRUPTED)

    # not an exception: libraries interrupted during their import raise errors of their own
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, stop)
    cli = importlib.import_module(f"{package}.cli")
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code: int = cli.main()
    except ImportError as error:
        if not interrupted(error):
            raise
        sys.stderr.write(f"{package}: stopped\n")
        return INTERRUPTED
    return code


def interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error; libraries interrupted during import raise their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
