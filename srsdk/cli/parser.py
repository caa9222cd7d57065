"""The parser of the command line: errors in two lines, with the nearest name that exists."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from srsdk.cli.terminal import one_line, write

EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are the fact and where to read more, not all options."""

    def error(self, message: str) -> NoReturn:
        """Show an error in two lines and exit with 2."""
        show_usage_error(self.prog, message)
        raise SystemExit(EXIT_USAGE)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse arguments; the error for an unknown option is that of the command it is for."""
        found, extra = self.parse_known_args(args, namespace)
        if extra:
            command: Parser = getattr(found, "parser", self)
            command.error(command._unknown(extra))
        return found

    def _unknown(self, extra: Sequence[str]) -> str:
        option = next((word for word in extra if word.startswith("-")), None)
        if option is None:
            return f"unexpected argument {extra[0]!r}"
        name = option.partition("=")[0]
        known = [text for action in self._actions for text in action.option_strings]
        return f"unknown option {name}{nearest(name, known)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        hint = nearest(str(value), choices) or f", expected one of {', '.join(choices)}"
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown command {value!r}{hint}")
        raise argparse.ArgumentError(action, f"unknown value {value!r}{hint}")


def add_verbosity(parser: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    """Add `-v` and `-q`, which are accepted before and after the name of a command.

    Args:
        parser: of all commands, or of one.
        default: values that the parser of a command must not set again.
    """
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="show what srsdk chooses"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="show errors only"
    )


def show_usage_error(program: str, message: str) -> None:
    """Write the two lines of a usage error."""
    write(f"{program}: {one_line(message)}")
    write(f"usage: see `{program} --help`")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` for a name that resembles a known one, or ""."""
    found = difflib.get_close_matches(name, list(known), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(found)}?" if found else ""
