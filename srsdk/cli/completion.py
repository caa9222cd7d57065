"""`srsdk completion SHELL`: print a script that completes commands, options and values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from srsdk import models
from srsdk.cli.arguments import known_model
from srsdk.errors import BackendError

SHELLS = ("bash", "zsh", "fish")
EPILOG = """\
to install:
  srsdk completion bash > ~/.local/share/bash-completion/completions/srsdk
  srsdk completion zsh > "${fpath[1]}/_srsdk"
  srsdk completion fish > ~/.config/fish/completions/srsdk.fish
then open a new terminal.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk completion`."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = EPILOG
    command.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(arguments: argparse.Namespace) -> int:
    """Print the script.

    Raises:
        BackendError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise BackendError('shtab is not installed: pip install "srsdk[cli]"') from error
    for action in _actions(arguments.root):
        if action.type is known_model:
            # where no name fits, shells complete files; --precision chooses among a model's files
            shipped = models.shipped()
            action.choices = [n for n in models.names() if n not in shipped or "." not in n]
        elif action.metavar == "FOLDER":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar in ("IN", "OUT", "FILE", "FILE_OR_URL", "A", "B"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(arguments.root, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
