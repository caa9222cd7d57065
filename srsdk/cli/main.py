"""Entry point of the command line: `srsdk COMMAND` or `python -m srsdk COMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from PIL import Image

import srsdk
from srsdk.cli import compare, demo, doctor, info, models, tune, upscale, verify, video
from srsdk.cli.arguments import EXIT_FAILED
from srsdk.cli.terminal import say
from srsdk.errors import SrsdkError, UsageError

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130

Run = Callable[[argparse.Namespace], int]
"""Runs one command and returns its exit code."""

COMMANDS: Mapping[str, tuple[ModuleType, str]] = {
    "upscale": (upscale, "upscale images and folders of images"),
    "video": (video, "upscale a video file"),
    "compare": (compare, "put two images side by side"),
    "demo": (demo, "open a demo page in the browser"),
    "info": (info, "show a model's metadata"),
    "models": (models, "list the shipped models or the models in a folder"),
    "verify": (verify, "verify a model file's SHA-256"),
    "tune": (tune, "find the fastest way to run a model on this machine"),
    "doctor": (doctor, "check the installation and suggest fixes"),
}
"""For each command: a module with `add_arguments` and `run`, and a one-line help text."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after a failure, 2 after a usage error, 130 after Ctrl-C."""
    try:
        code = _run(argv)
    except UsageError as error:
        say(str(error))
        return EXIT_USAGE
    except SrsdkError as error:
        say(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("stopped")
        return EXIT_INTERRUPTED
    except ImportError as error:
        if not _interrupted(error):
            raise
        say("stopped")
        return EXIT_INTERRUPTED
    except OSError as error:
        # the reader of our output has closed the pipe: no message
        if not isinstance(error, BrokenPipeError):
            say(str(error))
        _drop_output()
        return EXIT_FAILED
    return code


def _run(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(format="srsdk: %(message)s", level=logging.WARNING)
    # Pillow warns at half the size that it refuses; only the refusal matters
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.showwarning = _show_warning
    if argv is None:
        _prepare_process()
    if arguments.verbose:
        logging.getLogger("srsdk").setLevel(logging.INFO)
    code: int = arguments.run(arguments)
    sys.stdout.flush()
    return code


def _prepare_process() -> None:
    """Set up signals and standard output, which only a whole program may change."""
    # stopping a container, a service or a Windows console (SIGBREAK) cleans up as Ctrl-C does
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    # on Windows a pipe encodes one code page only; the error stream already escapes the rest
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error: a library interrupted while loading raises its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def make_parser(runs: Mapping[str, Run] | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands; parsed arguments have `run`, the command's function.

    Args:
        runs: functions that replace those of some commands, by name.
    """
    parser = argparse.ArgumentParser(
        prog="srsdk",
        description="Upscale images and videos with super-resolution models.",
        epilog="Run `srsdk COMMAND --help` for the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"srsdk {srsdk.__version__}")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log what srsdk chooses and why"
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, help_) in COMMANDS.items():
        description = f"{help_[0].upper()}{help_[1:]}."
        command = subparsers.add_parser(name, help=help_, description=description)
        module.add_arguments(command)
        command.set_defaults(run=(runs or {}).get(name, module.run))
    return parser


def _drop_output() -> None:
    """Discard the output that Python would flush at exit and fail on again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Show a library's warning in one line; Python's default filter shows each once."""
    say(f"warning: {message}")
