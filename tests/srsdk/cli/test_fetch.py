"""Test `srsdk fetch`, `remove`, and what the other commands say of models that are not shipped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srsdk.cli.main import main
from tests import networks
from tests.srsdk.models.conftest import home, model, server
from tests.srsdk.models.packages import write
from tests.srsdk.models.server import Server

__all__ = ["home", "model", "server"]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(source: object, sha256: str, *options: str, name: str = "mine") -> int:
    """Run `srsdk fetch`."""
    return main(["fetch", name, "--from", str(source), "--sha256", sha256, *options])


def test_from_fetch_to_remove(
    home: Path, model: Path, server: Server, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model is fetched, listed, shown, verified, used and removed by its name."""
    url = server.url("model.onnx")
    assert fetch(url, digest(model), "--license", "CC-BY-NC-SA-4.0", "--author", "A. B.") == 0
    shown = capsys.readouterr()
    assert shown.err == f"srsdk: fetching {url} (CC-BY-NC-SA-4.0)\n"
    assert shown.out.splitlines() == [
        f"{home / 'mine.onnx'} 0.0 MB, SHA-256 as expected",
        "license: CC-BY-NC-SA-4.0 by A. B.",
        "note: CC-BY-NC-SA-4.0 forbids commercial use",
        "to use it: srsdk upscale IN -o OUT --model mine",
    ]
    assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "fetched",
        "  mine  x?  CC-BY-NC-SA-4.0 forbids commercial use",
        "    may be shipped: no",
        f"    {url}",
    ]
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)[-1]
    assert (listed["model"], listed["origin"], listed["source"]) == ("mine", "fetched", url)
    assert main(["info", "mine", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    expected = {"origin": "fetched", "source": url, "licence": "CC-BY-NC-SA-4.0", "scale": 2}
    assert expected.items() <= about.items()
    assert main(["verify", "mine"]) == 0
    assert capsys.readouterr().out == f"{digest(model)}  {home / 'mine.onnx'}\n"
    result = photo.with_name("large.png")
    assert main(["upscale", str(photo), "-o", str(result), "--model", "mine"]) == 0
    assert result.is_file()
    capsys.readouterr()
    assert main(["remove", "mine"]) == 0
    assert capsys.readouterr().out == f"removed mine from {home}\n"
    assert os.listdir(home) == []
    assert main(["remove", "mine"]) == 2
    assert "no model 'mine' was fetched; none was" in capsys.readouterr().err


def test_no_license(home: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing license is said when the model is fetched and when it is listed or shown."""
    note = "no license stated: ask its author before you ship it"
    assert fetch(model, digest(model)) == 0
    assert f"note: {note}\n" in capsys.readouterr().out
    for command in (["models"], ["info", "mine"]):
        assert main(command) == 0
        assert note in capsys.readouterr().out


def test_a_wrong_hash(home: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and both hashes; one that is no hash, and none at all, are usage errors."""
    assert fetch(model, "0" * 64) == 1
    error = capsys.readouterr().err
    assert digest(model) in error
    assert f"expected {'0' * 64}: nothing was kept" in error
    assert os.listdir(home) == []
    assert fetch(model, "0" * 63) == 2
    assert "expected 64 hexadecimal digits" in capsys.readouterr().err
    assert main(["fetch", "mine", "--from", str(model)]) == 2
    assert f"--from {model} --sha256 {digest(model)}" in capsys.readouterr().err


def test_a_limit(home: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--max-size` takes sizes as other options do."""
    assert fetch(model, digest(model), "--max-size", "100") == 1
    assert "expected at most 100: raise the limit with --max-size" in capsys.readouterr().err
    assert fetch(model, digest(model), "--max-size", "1 MiB") == 0
    assert fetch(model, digest(model), "--max-size", "much", "--force") == 2


def test_weights(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PyTorch weights are stored; `fetch` and `info` say what they are."""
    path = tmp_path / "a.pth"
    path.write_bytes(b"weights")
    assert fetch(path, digest(path), "--license", "MIT") == 0
    assert f"python -m export {home / 'mine.pth'} -o models" in capsys.readouterr().out
    assert main(["info", "mine"]) == 0
    text = capsys.readouterr().out
    assert "MIT" in text
    assert digest(path) in text
    assert main(["verify", "mine"]) == 0


def test_a_darktable_package(
    home: Path, tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of its models is chosen with --scale; license and author come from the package."""
    files = {
        f"model_x{scale}.onnx": networks.nearest(tmp_path / "a.onnx", scale=scale).read_bytes()
        for scale in (2, 4)
    }
    path = write(tmp_path / "upscale-test.dtmodel", files)
    assert main(["info", str(path)]) == 0
    assert "[2, 4]" in capsys.readouterr().out
    assert fetch(path, digest(path)) == 2
    assert "holds model_x2 and model_x4: add --scale 2 or --scale 4" in capsys.readouterr().err
    assert fetch(path, digest(path), "--scale", "4") == 0
    assert "license: Apache-2.0 by A. Botanist\n" in capsys.readouterr().out
    assert main(["info", "mine", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["scale"], about["licence"], about["architecture"]) == (4, "Apache-2.0", "nearest")
    assert about["package"] == f"{home / 'mine.dtmodel'}: model_x4.onnx"
    assert main(["verify", "mine"]) == 0
    assert capsys.readouterr().out == f"{digest(path)}  {home / 'mine.dtmodel'}\n"
    result = photo.with_name("large.png")
    assert main(["upscale", str(photo), "-o", str(result), "--model", "mine"]) == 0


def test_control_characters(home: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A license from outside is shown on one line, and cannot control the terminal."""
    assert fetch(model, digest(model), "--license", "MIT\n\x1b[2J") == 0
    assert main(["models"]) == 0
    assert main(["info", "mine"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another event there")
def test_ctrl_c(home: Path, server: Server) -> None:
    """It ends a download at once, with the code of the shells, and leaves no file."""
    call = [sys.executable, "-m", "srsdk", "fetch", "mine", "--from", server.url("stall.onnx")]
    running = subprocess.Popen([*call, "--sha256", "0" * 64], stderr=subprocess.PIPE, text=True)
    try:
        until_s = time.monotonic() + 60
        while not any(home.glob(".*.tmp")):
            assert running.poll() is None, running.stderr
            assert time.monotonic() < until_s
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    assert error.endswith("srsdk: stopped\n")
    assert os.listdir(home) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gan_x4", "'gan_x4' is a shipped model, which stays"),
        ("mime", "no model 'mime' was fetched; did you mean mine?"),
        ("../mine", "no model '../mine' was fetched; did you mean mine?"),
        ("other", "no model 'other' was fetched; fetched: mine"),
    ],
)
def test_what_is_not_removed(
    home: Path, model: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    """Only what was fetched, by its exact name."""
    assert fetch(model, digest(model)) == 0
    assert main(["remove", name]) == 2
    assert message in capsys.readouterr().err
    assert sorted(os.listdir(home)) == ["mine.json", "mine.onnx"]
