"""How a command begins: Ctrl-C while torch is imported, for seconds, is no traceback."""

from __future__ import annotations

import importlib
import os
import signal


def start(package: str) -> int:
    """Run `main` of a package's `cli` module and return its exit code."""

    def stop(*_: object) -> None:
        os.write(2, f"{package}: stopped before anything began\n".encode())
        os._exit(130)

    # an exception would not do: libraries that are interrupted as they load raise what they like
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, stop)
    cli = importlib.import_module(f"{package}.cli")
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code: int = cli.main()
    return code
