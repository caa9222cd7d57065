"""Ctrl-C during an export: real signals to real processes."""

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
    """Run an export, send SIGINT when its log contains `at`; return exit code and last line."""
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
    """Exit code 130, a one-line message, and no files or temporary files are left."""
    arguments = [str(weights), "-o", str(tmp_path), "--target", "onnx,rtx", "--precision", "fp16"]
    # many profiles, so that the build is still running when the signal comes
    profiles = ",".join(f"{batch}x128x{width}" for batch in (1, 2) for width in range(64, 192, 16))
    code, last = interrupted([*arguments, "--profiles", profiles], "building toy_x2.fp16.engine")
    assert (code, last) == (130, "export: stopped; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_while_it_is_quantized(weights: Path, drawn: Path, truth: Path, tmp_path: Path) -> None:
    """The same; the float32 file, already finished, is not published either."""
    arguments = [str(weights), "-o", str(tmp_path), "--precision", "fp32,int8"]
    arguments += ["--data", str(drawn), "--test", str(truth)]
    code, last = interrupted(arguments, "quantizing (cpu)")
    assert (code, last) == (130, "export: stopped; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


NAMING = """
import os, signal, sys
from pathlib import Path
from export.targets.atomic_output import Staging

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
    """Publishing is not interrupted: either all files are new or none is.

    This runs in its own process, because other tests use this process's signal handling.
    """
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", NAMING, str(tmp_path)]
    assert subprocess.run(command, cwd=root, check=False).returncode == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def interrupted_rename(call: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in which every rename is interrupted, in a process of its own."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", RENAMING + call, *map(str, arguments)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


RENAMING = """
import os, signal, sys
from pathlib import Path

real = os.replace

def replace(source, target):
    os.kill(os.getpid(), signal.SIGINT)
    real(source, target)

signal.signal(signal.SIGINT, signal.default_int_handler)
"""
EXPORTING = """
from export.cli import main
from export.targets import atomic_output

os.replace = replace
sys.exit(main([sys.argv[1], "-o", sys.argv[2], "--no-comparison"]))
"""
REPLACING = """
from export.options import Options
from export.targets.triton import write_repository
from tests.export.targets.test_triton import plan_of

repo, data = map(Path, sys.argv[1:])
made = plan_of(repo.parent, "tensorrt", [(1, 24, 32)])
write_repository([made], repo, Options(data=data))
made.artifact.path.write_bytes(b"another plan")
os.replace = replace
try:
    write_repository([made], repo, Options(data=data), force=True)
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_the_message_while_files_get_their_names(weights: Path, tmp_path: Path) -> None:
    """It does not say that nothing was written."""
    done = interrupted_rename(EXPORTING, weights, tmp_path)
    assert (done.returncode, done.stderr) == (130, "export: stopped; the files are written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["toy_x2.onnx"]


def test_while_a_triton_model_is_replaced(drawn: Path, tmp_path: Path) -> None:
    """Between the two renames, an interrupt waits: otherwise there would be no model."""
    repo = tmp_path / "repo"
    assert interrupted_rename(REPLACING, repo, drawn).returncode == 7
    assert (repo / "toy_fp16" / "1" / "model.plan").read_bytes() == b"another plan"
    assert [path.name for path in repo.iterdir()] == ["toy_fp16"]


def test_while_a_triton_repository_is_written(
    weights: Path,
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The files are kept, the message says so, and the same command completes the repository."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    call = [str(weights), "-o", str(tmp_path), "--data", str(drawn), "--no-comparison"]
    call += ["--tile", "32x40", "--triton", str(tmp_path / "repo")]
    with monkeypatch.context() as patch:
        patch.setattr("export.cli.write_repository", interrupt)
        assert main(call) == 130
    assert capsys.readouterr().err == (
        f"export: stopped; the files are written, but {tmp_path / 'repo'} is not complete; run the "
        "command again to complete it\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["toy_x2.onnx"]
    assert main(call) == 0
    assert (tmp_path / "repo" / "toy_x2" / "config.pbtxt").is_file()


def test_while_the_files_are_timed(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The files are kept, and the message says so."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("export.cli.compare_speed", interrupt)
    assert main([str(weights), "-o", str(tmp_path)]) == 130
    assert capsys.readouterr().err == (
        "export: stopped while the files were timed; they are written\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["toy_x2.onnx"]


@pytest.mark.parametrize("package", ["export", "training"])
def test_while_torch_is_imported(package: str, tmp_path: Path) -> None:
    """An interrupt during the imports also gives a one-line message and exit code 130."""
    (tmp_path / "torch.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**6): pass\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", package, "smoke", "--out", str(tmp_path / "run")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == f"{package}: stopped during start-up\n"


@pytest.mark.parametrize("cause", ["KeyboardInterrupt()", "None"])
def test_while_a_library_is_loaded_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cause: str,
) -> None:
    """An ImportError caused by an interrupted C extension is Ctrl-C; any other is an error."""
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
