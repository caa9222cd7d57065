"""Start-up shared by all commands; handles Ctrl-C during the slow torch import."""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import threading
from types import ModuleType

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def start(package: str) -> int:
    """Run `main` of a package's `cli` module and return its exit code, 130 after Ctrl-C."""
    # read when torch is loaded: while other programs run, threads that spin between two steps cost
    # four times the time of the steps (60 of recipe smoke: 13 s of processor time instead of 3.2)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cli = load(f"{package}.cli", package)
    # Python puts the default handler back before it ends: a second Ctrl-C would change the code
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        code: int = cli.main()
    except ImportError as error:
        if not interrupted(error):
            raise
        sys.stderr.write(f"{package}: stopped\n")
        return INTERRUPTED
    return code


def load(module: str, package: str) -> ModuleType:
    """Import a module that imports torch, which takes seconds; Ctrl-C ends the process quietly."""

    def stop(*_: object) -> None:
        os.write(2, f"{package}: stopped during start-up\n".encode())
        os._exit(INTERRUPTED)

    # not an exception: libraries interrupted during their import raise errors of their own
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        return importlib.import_module(module)
    signal.signal(signal.SIGINT, stop)
    try:
        return importlib.import_module(module)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error; libraries interrupted during import raise their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
