"""Test usage errors: two lines, the nearest name, and options that are accepted anywhere."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from srsdk.cli.main import COMMANDS, main
from tests.conftest import make_picture


@pytest.mark.parametrize(
    ("arguments", "first", "program"),
    [
        (["upscle", "a.png"], "srsdk: unknown command 'upscle'; did you mean upscale?", "srsdk"),
        (["frobnicate"], "srsdk: unknown command 'frobnicate', expected one of upscale, ", "srsdk"),
        (
            ["upscale", "a.png", "--scael", "2"],
            "srsdk upscale: unknown option --scael; did you mean --scale?",
            "srsdk upscale",
        ),
        (
            ["upscale", "a.png", "--kind=phto"],
            "srsdk upscale: argument --kind: unknown value 'phto'; did you mean photo?",
            "srsdk upscale",
        ),
        (
            ["upscale", "a.png", "--model", "gan_x3"],
            "srsdk upscale: argument --model: 'gan_x3' is not a shipped model; did you mean gan_x4 "
            "or gan_x2? ",
            "srsdk upscale",
        ),
        (["info", "nope"], "srsdk info: argument MODEL: 'nope' is not a shipped", "srsdk info"),
        (["upscale"], "srsdk upscale: the following arguments are required: IN", "srsdk upscale"),
        (["--verion"], "srsdk: unknown option --verion; did you mean --version", "srsdk"),
        (["doctor", "now"], "srsdk doctor: unexpected argument 'now'", "srsdk doctor"),
        (
            ["upscale", "a", "--tile", "x"],
            "srsdk upscale: argument --tile: 'x': expe",
            "srsdk upscale",
        ),
        (
            ["video", "a", "b", "--kind", "compressed"],
            "srsdk video: argument --kind: unknown value 'compressed', expected one of photo",
            "srsdk video",
        ),
    ],
)
def test_two_lines(
    arguments: list[str], first: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fact, with the nearest name that exists, and where to read more."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(first)
    assert lines[1] == f"usage: see `{program} --help`"


def test_errors_found_later_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Options that cannot be combined: the same two lines."""
    assert main(["upscale", "a.png", "-o", "b.png", "--scale", "2", "--width", "9"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "srsdk upscale: scale cannot be combined with width or height",
        "usage: see `srsdk upscale --help`",
    ]


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """What a script passes on cannot move the cursor."""
    with pytest.raises(SystemExit):
        main(["upscale", "a.png", "--\x1b[2J\n"])
    assert "\x1b" not in capsys.readouterr().err


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`srsdk` alone lists the commands, each with a line, and exits with 2."""
    assert main([]) == main(["-q"]) == 2
    text = capsys.readouterr().err
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("flag", ["-v", "--verbose", "-q", "--quiet"])
@pytest.mark.parametrize("is_first", [True, False])
def test_verbosity_is_accepted_anywhere(photo: Path, flag: str, *, is_first: bool) -> None:
    """Before the command and after its arguments."""
    call = ["upscale", str(photo), "--scale", "2"]
    assert main([flag, *call] if is_first else [*call, flag]) == 0
    expected = logging.INFO if flag in ("-v", "--verbose") else logging.ERROR
    assert logging.getLogger("srsdk").level == expected


def test_quiet(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only errors are shown: no `wrote`, no summary, no skipped file."""
    for name in ("cr2", "txt"):
        (tmp_path / f"a.{name}").touch()
    assert main(["-q", "upscale", str(photo), str(photo.parent), "-o", str(tmp_path / "o")]) == 2
    assert "would both be written" in capsys.readouterr().err
    assert main(["upscale", str(tmp_path), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert main(["upscale", str(photo), "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["upscale", str(photo), "-q"]) == 1
    assert "exists" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_exit_codes_of_signals(tmp_path: Path, name: str, code: int) -> None:
    """Both stop within one tile, leave no file, and tell the caller which one it was."""
    Image.fromarray(make_picture(600, 800)).save(tmp_path / "photo.png")
    call = [sys.executable, "-m", "srsdk", "-v", "upscale", str(tmp_path / "photo.png")]
    process = subprocess.Popen(
        [*call, "--kind", "realworld", "--tile", "32"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Upscaler realworld_x4" in line:
            break
    time.sleep(0.2)
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error.splitlines()[-1]) == (code, "srsdk: stopped")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
