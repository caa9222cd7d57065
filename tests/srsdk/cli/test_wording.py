"""Test that errors on the command line name options, and those of the API arguments."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import srsdk
from srsdk.cli.main import main, make_parser
from srsdk.cli.wording import FLAGS, for_command_line


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a.png exists; overwrite=True replaces it", "a.png exists; --force replaces it"),
        ("try backend='openvino' or tile=256", "try --backend openvino or --tile 256"),
        ("a smaller tile= or max_memory_bytes=, or", "a smaller --tile or --max-memory, or"),
        ("raise PIL.Image.MAX_IMAGE_PIXELS", "raise --max-pixels"),
        ("pass options=PictureOptions(format='png')", "pass --format png"),
        ("resume=True continues it", "--resume continues it"),
        ("precision=fp32.", "--precision fp32."),
        # no argument of the API
        ("https://example.org/?tile=1", "https://example.org/?tile=1"),
        ("my-tile=1.png and a/scale=2/b.png", "my-tile=1.png and a/scale=2/b.png"),
        ("the tile is 3, expected 8", "the tile is 3, expected 8"),
    ],
)
def test_arguments_become_options(said: str, shown: str) -> None:
    """With their values; names of files stay as they are."""
    assert for_command_line(said) == shown


def test_every_option_exists() -> None:
    """Each one that a message may name is an option of some command."""
    commands = next(
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ).choices.values()
    known = {text for command in commands for a in command._actions for text in a.option_strings}
    assert set(FLAGS.values()) <= known


def test_the_same_error_in_both_places(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The API says `overwrite=True`, the command line `--force`."""
    with srsdk.Upscaler("gan_x2") as up, pytest.raises(srsdk.OutputError, match="overwrite=True"):
        up.upscale_file(photo, photo)
    target = photo.with_name("photo_x2.png")
    target.touch()
    assert main(["upscale", str(photo), "--scale", "2"]) == 1
    assert capsys.readouterr().err == f"srsdk: {target} exists; --force replaces it\n"


def test_the_api_names_no_options(repository: Path) -> None:
    """No message outside of the command line mentions one of its options."""
    options = sorted({*FLAGS.values(), "--jobs", "--max-pixels"} - {"-o"})
    pattern = re.compile(rf"(?<![\w-])({'|'.join(options)})\b(?!-)")
    # commands to paste have options of their own
    pasted = re.compile(r"`[^`]*`|(python -m export|srsdk \w+) .*", re.DOTALL)
    found = []
    for path in sorted((repository / "srsdk").rglob("*.py")):
        if "cli" not in path.relative_to(repository).parts:
            found += [
                f"{path.relative_to(repository)}:{line}: {text}"
                for line, text in _texts(path)
                if pattern.search(pasted.sub("", text))
            ]
    assert not found, "\n" + "\n".join(found)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the strings of a file with their lines; values in them are left out."""
    within: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            within.update(parts)
            yield node.lineno, " ".join(str(part.value) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in within:
            yield node.lineno, node.value
