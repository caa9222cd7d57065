"""Test `srsdk completion`: the scripts work in the shells that are installed here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from srsdk.cli.main import COMMANDS, main

COMPLETE_IN_BASH = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$(complete -p srsdk | sed 's/.*-F \([^ ]*\) .*/\1/') srsdk "${@: -1}" "${@: -2:1}"
printf '%s\n' "${COMPREPLY[@]}"
"""


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Write the script of a shell."""
    assert main(["completion", shell]) == 0
    path = folder / "_srsdk"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def needed(shell: str) -> str:
    """Return the path of a shell, or skip the test."""
    found = shutil.which(shell)
    if found is None or sys.platform == "win32":
        pytest.skip(f"needs {shell}")
    return found


def test_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, options, choices, names of models and of files."""
    bash, path = needed("bash"), script("bash", tmp_path, capsys)
    (tmp_path / "photo.jpg").touch()

    def completed(*words: str) -> list[str]:
        call = [bash, "-c", COMPLETE_IN_BASH, "bash", str(path), "srsdk", *words]
        done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stderr == ""
        return done.stdout.split()

    assert set(COMMANDS) <= set(completed(""))
    assert completed("upsc") == ["upscale"]
    assert completed("upscale", "--den") == ["--denoise"]
    assert completed("upscale", "--kind", "re") == ["realworld"]
    assert completed("upscale", "a.png", "--model", "realw") == ["realworld_x2", "realworld_x4"]
    assert completed("info", "realtime") == ["realtime_x2", "realtime_x4"]
    assert completed("upscale", "pho") == ["photo.jpg"]
    assert completed("completion", "f") == ["fish"]


def test_fish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, as fish itself completes a line."""
    fish, path = needed("fish"), script("fish", tmp_path, capsys)

    def completed(line: str) -> list[str]:
        call = [fish, "--no-config", "-c", f"source {path}; complete -C '{line}'"]
        done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=tmp_path)
        return [each.split("\t")[0] for each in done.stdout.splitlines()]

    assert "upscale" in completed("srsdk upsc")
    assert "--denoise" in completed("srsdk upscale --den")
    assert "realworld" in completed("srsdk upscale --kind re")
    assert "realworld_x4" in completed("srsdk upscale a.png --model realw")


def test_zsh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script is found by its name in `fpath`, and its syntax is right."""
    zsh, path = needed("zsh"), script("zsh", tmp_path, capsys)
    subprocess.run([zsh, "-n", str(path)], check=True)
    code = (
        f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; echo ${{_comps[srsdk]}}"
    )
    done = subprocess.run([zsh, "-f", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "_srsdk"


def test_every_shell_that_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    """The library knows each, and another one is a usage error."""
    for shell in ("bash", "zsh", "fish"):
        assert shell in shtab.SUPPORTED_SHELLS
        assert main(["completion", shell]) == 0
        assert "denoise" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])


def test_without_the_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert 'pip install "srsdk[cli]"' in capsys.readouterr().err
