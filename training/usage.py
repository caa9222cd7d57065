"""Errors of all command lines: two lines, with the nearest name that exists."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class UsageError(ValueError):
    """A wrong word of the command line; the message says what was expected."""


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are the fact and where to read more, not all options."""

    def error(self, message: str) -> NoReturn:
        """Show an error in two lines and exit with 2."""
        show_usage_error(self.prog, message)
        raise SystemExit(EXIT_USAGE)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse arguments; the error for an unknown option names the one that was meant."""
        found, extra = self.parse_known_args(args, namespace)
        if extra:
            option = next((word for word in extra if word.startswith("-")), None)
            if option is None:
                self.error(f"unexpected argument {extra[0]!r}")
            name = option.partition("=")[0]
            known = [text for action in self._actions for text in action.option_strings]
            self.error(f"unknown option {name}{nearest(name, known)}")
        return found


def show_usage_error(program: str, message: str) -> None:
    """Write the two lines of a usage error."""
    sys.stderr.write(f"{program}: {one_line(message)}\nusage: see `{program} --help`\n")


def one_line(message: object) -> str:
    """Return a message without breaks, which libraries put in."""
    return " ".join(str(message).split())


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean ...?)` for a name that resembles a known one, or ""."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def exit_code(program: str, run: Callable[[], None]) -> int:
    """Run a command and return its exit code.

    A mistake is written to the error stream: one line, and for one of usage a second.

    Args:
        program: begins the line, such as `python -m training`.
        run: the command.

    Returns:
        0; 1 after a failure, 2 after a usage error, 130 after Ctrl-C.
    """
    tool = program.removeprefix("python -m ").split()[0]
    try:
        run()
    except UsageError as error:
        show_usage_error(program, str(error))
        return EXIT_USAGE
    # the errors of this package are values that cannot be used, or runs that cannot continue
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_ours(error):
            raise
        sys.stderr.write(f"{tool}: {one_line(error)}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write(f"{tool}: stopped\n")
        return EXIT_INTERRUPTED
    return 0


def _is_ours(error: RuntimeError) -> bool:
    """Whether an error is one of this package's, and not of torch's."""
    return type(error).__module__.startswith("training.")
