"""Entry point of the command line: `srsdk COMMAND` or `python -m srsdk COMMAND`."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import logging
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from PIL import Image

import srsdk
from srsdk.cli import completion, demo, doctor, info, serve, tune, video
from srsdk.cli.arguments import EXIT_FAILED
from srsdk.cli.models import adopt, fetch, listing, remove, verify
from srsdk.cli.parser import EXIT_USAGE, Parser, add_verbosity, show_usage_error
from srsdk.cli.pictures import compare, upscale
from srsdk.cli.terminal import fail, say, set_verbosity
from srsdk.cli.wording import for_command_line
from srsdk.errors import SrsdkError, UsageError

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
GRACE_S = 2.0
"""How long after Ctrl-C another one does nothing: shells and supervisors may send two."""

Run = Callable[[argparse.Namespace], int]
"""Runs one command and returns its exit code."""

COMMANDS: Mapping[str, tuple[ModuleType, str]] = {
    "upscale": (upscale, "upscale images and folders of images"),
    "video": (video, "upscale a video file"),
    "compare": (compare, "put two images side by side"),
    "demo": (demo, "open a demo page in the browser"),
    "serve": (serve, "upscale images over HTTP"),
    "info": (info, "show a model's metadata"),
    "models": (listing, "list the models that have a name, or the models in a folder"),
    "fetch": (fetch, "store a model from a file or a URL under a name"),
    "adopt": (adopt, "write an ONNX file of your own with all that srsdk needs to know"),
    "remove": (remove, "remove a fetched model"),
    "verify": (verify, "verify a model file's SHA-256"),
    "tune": (tune, "find the fastest way to run a model on this machine"),
    "doctor": (doctor, "check the installation and suggest fixes"),
    "completion": (completion, "print a completion script for bash, zsh or fish"),
}
"""For each command: a module with `add_arguments` and `run`, and a one-line help text."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 after a failure, 2 after a usage error, 130 after Ctrl-C, 143 after SIGTERM.
    """
    program = ["srsdk"]
    try:
        code = _run(argv, program)
    except UsageError as error:
        show_usage_error(" ".join(program), for_command_line(str(error)))
        return EXIT_USAGE
    except SrsdkError as error:
        fail(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    except ImportError as error:
        cause = _interruption(error)
        if cause is None:
            raise
        return _stopped(cause)
    except OSError as error:
        # the reader of our output has closed the pipe: no message
        if not isinstance(error, BrokenPipeError):
            fail(str(error))
        _drop_output()
        return EXIT_FAILED
    return code


def _run(argv: Sequence[str] | None, program: list[str]) -> int:
    arguments = make_parser().parse_args(argv)
    if arguments.command is not None:
        program.append(arguments.command)
    _set_up_messages()
    if argv is None:
        _prepare_process()
    set_verbosity(verbose=arguments.verbose, quiet=arguments.quiet)
    code: int = arguments.run(arguments)
    sys.stdout.flush()
    return code


def _set_up_messages() -> None:
    """Show log records and warnings as lines that name options instead of API arguments."""
    shown = logging.StreamHandler()
    shown.setFormatter(_Formatter("srsdk: %(message)s"))
    logging.basicConfig(handlers=[shown], level=logging.WARNING)
    # Pillow warns at half the size that it refuses; only the refusal matters
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.showwarning = _show_warning


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return for_command_line(super().format(record))


class Terminated(KeyboardInterrupt):
    """SIGTERM: the run cleans up as after Ctrl-C."""


class _Stop:
    """Signal handlers that raise once: a signal that follows at once would break the cleanup."""

    def __init__(self) -> None:
        self._last_s = -math.inf

    def raising(self, kind: type[KeyboardInterrupt]) -> Callable[..., None]:
        """Return a handler."""

        def handler(*_: object) -> None:
            now_s = time.monotonic()
            if now_s - self._last_s > GRACE_S:
                self._last_s = now_s
                raise kind

        return handler


def _prepare_process() -> None:
    """Set up signals and standard output, which only a whole program may change."""
    stop = _Stop()
    # a shell that starts a program in the background lets it ignore Ctrl-C
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop.raising(KeyboardInterrupt))
    # stopping a container, a service or a Windows console (SIGBREAK) cleans up as Ctrl-C does
    for name, kind in (("SIGTERM", Terminated), ("SIGBREAK", KeyboardInterrupt)):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop.raising(kind))
    # Python puts the default handlers back before it ends: a second Ctrl-C would change the code
    atexit.register(_ignore_signals)
    # on Windows a pipe encodes one code page only; the error stream already escapes the rest
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _ignore_signals() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _stopped(stop: BaseException) -> int:
    say("stopped")
    return EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED


def _interruption(error: BaseException | None) -> BaseException | None:
    """Return what stopped a library that was interrupted while loading and raised its own error."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def make_parser(runs: Mapping[str, Run] | None = None) -> Parser:
    """Return the parser of all commands; parsed arguments have `run`, the command's function.

    Args:
        runs: functions that replace those of some commands, by name.
    """
    parser = Parser(
        prog="srsdk",
        description="Upscale images and videos with super-resolution models.",
        epilog="Run `srsdk COMMAND --help` for the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"srsdk {srsdk.__version__}")
    add_verbosity(parser, default=False)
    parser.set_defaults(root=parser, run=_show_help)
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    for name, (module, help_) in COMMANDS.items():
        description = f"{help_[0].upper()}{help_[1:]}."
        command = subparsers.add_parser(name, help=help_, description=description)
        module.add_arguments(command)
        add_verbosity(command)
        command.set_defaults(run=(runs or {}).get(name, module.run), parser=command)
    return parser


def _show_help(arguments: argparse.Namespace) -> int:
    """Show the commands where none was named."""
    arguments.root.print_help(sys.stderr)
    return EXIT_USAGE


def _drop_output() -> None:
    """Discard the output that Python would flush at exit and fail on again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Show a library's warning in one line; Python's default filter shows each once."""
    say(f"warning: {message}")
