"""Ctrl-C: a real process, a real signal, in the middle of the work."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.cli import main
from training.start import start

pytestmark = pytest.mark.usefixtures("ctrl_c")
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx"
)


def interrupted(arguments: list[str], at: str) -> tuple[int, str]:
    """Run an export, send SIGINT when its log says `at`; return exit code and last line."""
    command = [sys.executable, "-m", "export", *arguments, "-v"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if at in line:
                process.send_signal(signal.SIGINT)
        assert any(at in line for line in seen), seen
        return process.wait(), seen[-1]


@needs_rtx
def test_while_an_engine_is_built(weights: Path, tmp_path: Path) -> None:
    """One sentence, exit code 130, and neither files nor temporary ones."""
    arguments = [str(weights), "-o", str(tmp_path), "--target", "onnx,rtx", "--precision", "fp16"]
    # many profiles: it must still be building when the signal comes
    profiles = ",".join(f"{batch}x128x{width}" for batch in (1, 2) for width in range(64, 192, 16))
    code, last = interrupted([*arguments, "--profiles", profiles], "building toy_x2.fp16.engine")
    assert (code, last) == (130, "export: stopped; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_while_it_is_quantised(weights: Path, drawn: Path, truth: Path, tmp_path: Path) -> None:
    """The same; the float32 file that was finished by then is not there either."""
    arguments = [str(weights), "-o", str(tmp_path), "--precision", "fp32,int8"]
    arguments += ["--data", str(drawn), "--test", str(truth)]
    code, last = interrupted(arguments, "quantising (cpu)")
    assert (code, last) == (130, "export: stopped; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


NAMING = """
import os, signal, sys
from pathlib import Path
from export.staging import Staging

out, real = Path(sys.argv[1]), os.replace

def replace(source, target):
    os.kill(os.getpid(), signal.SIGINT)
    real(source, target)

signal.signal(signal.SIGINT, signal.default_int_handler)
os.replace = replace
with Staging() as staging:
    for name in ("a", "b"):
        staging.path(out / f"{name}.onnx").write_text("new")
    try:
        staging.publish()
    except KeyboardInterrupt:
        sys.exit(7)
"""


def test_while_files_get_their_names(tmp_path: Path) -> None:
    """That is not interrupted: all of them are new, or none.

    In a process of its own: the browser of other tests lives in this one's signal handling.
    """
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", NAMING, str(tmp_path)]
    assert subprocess.run(command, cwd=root, check=False).returncode == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_while_the_files_are_timed(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are there by then, and the sentence says so."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("export.cli.verdict", interrupt)
    assert main([str(weights), "-o", str(tmp_path)]) == 130
    assert capsys.readouterr().err == (
        "export: stopped while the files were timed; they are written\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["toy_x2.onnx"]


@pytest.mark.parametrize("package", ["export", "training"])
def test_while_torch_is_imported(package: str, tmp_path: Path) -> None:
    """Before there is anything to stop: still one sentence and exit code 130."""
    (tmp_path / "torch.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**6): pass\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", package, "recipe.toml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == f"{package}: stopped before anything began\n"


@pytest.mark.parametrize("cause", ["KeyboardInterrupt()", "None"])
def test_while_a_library_is_loaded_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cause: str,
) -> None:
    """A C extension that is interrupted as it loads says ImportError; a plain one is a defect."""
    name = f"late_{cause[:4].lower()}"
    (tmp_path / name).mkdir()
    text = f"def main() -> int:\n    raise ImportError('initialization failed') from {cause}\n"
    (tmp_path / name / "cli.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    if cause == "None":
        with pytest.raises(ImportError, match="initialization failed"):
            start(name)
        return
    assert start(name) == 130
    assert capsys.readouterr().err == f"{name}: stopped\n"
