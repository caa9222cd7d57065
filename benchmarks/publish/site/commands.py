"""The command-line reference: every command and option of an argparse parser, as Markdown."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping

SHARED = {"--verbose", "--quiet"}
"""Options that every command has; the page lists them once."""
WIDTH = 96
"""Characters in a line of a usage text."""


def reference(parser: argparse.ArgumentParser, title: str, about: str) -> str:
    """Return a page with one section for each command."""
    shared = "".join(_table("Options of every command", list(_listed(parser))))
    parts = [f"# {title}\n\n{about}\n\n{shared}\n"]
    parts += [_section(name, command) for name, command in commands(parser).items()]
    return "".join(parts)


def commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parsers of the commands, by name. argparse has no public way to list them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _section(name: str, command: argparse.ArgumentParser) -> str:
    parts = [f"## {name}\n\n{_prose(command.description)}\n\n```text\n{_usage(command)}\n```\n\n"]
    for group in command._action_groups:
        listed = [action for action in _own(command) if action in group._group_actions]
        parts += _table((group.title or "options").capitalize(), listed)
    if command.epilog:
        # a text of several lines was laid out by hand
        is_laid_out = "\n" in command.epilog
        text = f"```text\n{command.epilog}\n```" if is_laid_out else _prose(command.epilog)
        parts.append(f"{text}\n\n")
    for inner, parser in commands(command).items():
        parts.append(_section(f"{name} {inner}", parser))
    return "".join(parts)


def _listed(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS or "--help" in action.option_strings
        if not hidden and not isinstance(action, argparse._SubParsersAction):
            yield action


def _own(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield what a command does not share with all others."""
    return (each for each in _listed(command) if not SHARED & set(each.option_strings))


def _usage(parser: argparse.ArgumentParser) -> str:
    # the width of this terminal must not decide what the page looks like
    parser.formatter_class = _Wide
    return parser.format_usage().removeprefix("usage: ").rstrip()


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


def _table(title: str, actions: list[argparse.Action]) -> Iterator[str]:
    if actions:
        yield f"| {title} | |\n|---|---|\n"
        yield from (f"| {_names(action)} | {_help(action)} |\n" for action in actions)
        yield "\n"


def _names(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else _value(action)
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return f"{names} `{value}`" if value else names


def _value(action: argparse.Action) -> str:
    name = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    name = " ".join(name) if isinstance(name, tuple) else name
    return f"[{name}]" if action.nargs == "?" and action.option_strings else name


def _help(action: argparse.Action) -> str:
    values = {**vars(action), "prog": "srsdk"}
    if action.choices is not None:
        values["choices"] = ", ".join(map(str, action.choices))
    text = _prose((action.help or "") % values)
    shown = "%(choices)" in (action.help or "") or action.metavar is None
    if action.choices is not None and not (shown and values["choices"] in text):
        text += f" (one of {', '.join(f'`{choice}`' for choice in action.choices)})"
    return text.replace("|", "\\|")


def _prose(text: str | None) -> str:
    """Return a help text with its options as code, and nothing in it read as HTML."""
    plain = (text or "").replace("<", "&lt;")
    return plain if "`" in plain else re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", plain)
