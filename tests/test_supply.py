"""Supply chain: no network connections, pinned packages, a reproducible wheel."""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from srsdk.engines.backends import BACKENDS
from tests.conftest import make_picture
from tests.srsdk.video import clips

BLOCKED = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
                 "socket.sendto", "socket.sendmsg", "urllib.Request"):
        # an exception might be swallowed
        os.write(2, f"{event}{arguments}\\n".encode())
        os._exit(99)

sys.addaudithook(refuse)
from srsdk.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """Return one call of each command that needs no cluster and no browser."""
    folder.mkdir(exist_ok=True)
    photo, film = folder / "photo.png", folder / "film.mkv"
    Image.fromarray(make_picture(20, 30)).save(photo)
    clips.make(film, clips.Clip(frames=3))
    upscale = ["upscale", str(photo), "--scale", "2", "-o"]
    found = {
        f"upscale-{name}": [*upscale, str(folder / f"{name}.png"), "--backend", name]
        for name in BACKENDS
    }
    return found | {
        "video": ["video", str(film), str(folder / "large.mkv"), "--scale", "2"],
        "compare": ["compare", str(photo), str(photo), "-o", str(folder / "page.html")],
        "info": ["info", "gan_x4"],
        "tune": ["tune", "gan_x2"],
        "doctor": ["doctor"],
    }


NAMES = [*(f"upscale-{name}" for name in BACKENDS), "video", "compare", "info", "tune", "doctor"]


def environment(home: Path) -> dict[str, str]:
    """Return an environment that does not switch telemetry off."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}


@pytest.mark.parametrize("name", NAMES)
def test_no_connection_from_python(tmp_path: Path, name: str) -> None:
    """Every command works when any use of a socket ends the process."""
    call = [sys.executable, "-c", BLOCKED, *commands(tmp_path / "work")[name]]
    done = subprocess.run(call, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("name", [*NAMES, "training"])
def test_no_connection_from_anything(tmp_path: Path, repository: Path, name: str) -> None:
    """No library opens an internet socket either, as seen by the operating system."""
    if name == "training":
        recipe = repository / "training" / "recipes" / "smoke.toml"
        call = [sys.executable, "-m", "training", "--show", str(recipe)]
    else:
        call = [sys.executable, "-m", "srsdk", *commands(tmp_path / "work")[name]]
    log = tmp_path / "log"
    traced = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(log), *call]
    done = subprocess.run(
        traced, cwd=repository, env=environment(tmp_path), capture_output=True, text=True
    )
    if "ptrace" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("this system does not allow tracing")
    assert done.returncode == 0, done.stderr
    used = [line for line in log.read_text(errors="replace").splitlines() if "AF_INET" in line]
    assert used == []


def requirements(path: Path) -> dict[str, str]:
    """Return the entries of a requirements file by name."""
    text = path.read_text(encoding="ascii").replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in text.splitlines():
        found[re.split("[=<>;\\[ ]", line)[0]] = line
    return found


@pytest.mark.parametrize("extra", ["cpu", "dev"])
def test_packages_are_pinned_and_hashed(repository: Path, extra: str) -> None:
    """Each package has one version and its SHA-256; no file names an index or a URL."""
    path = repository / ".ci" / f"requirements-{extra}.txt"
    entries = requirements(path)
    for name, line in entries.items():
        assert re.match(rf"{re.escape(name)}==[\w.!+]+ ", line), line
        assert re.search(" --hash=sha256:[0-9a-f]{64}", line), line
    text = path.read_text(encoding="ascii")
    assert not re.search(r"://|--index|--find-links|--trusted|@|file:", text)
    assert required(repository, extra) <= set(entries)


def project(repository: Path) -> dict[str, Any]:
    """Return the table `project` of pyproject.toml."""
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


def required(repository: Path, extra: str) -> set[str]:
    """Return the names of all packages that an extra requires, with the extras it includes."""
    table = project(repository)
    needed, wanted = list(table["dependencies"]), [extra]
    while wanted:
        for requirement in table["optional-dependencies"][wanted.pop()]:
            own = re.match(r"srsdk\[(.*)\]", requirement)
            if own:
                wanted += own[1].split(",")
            else:
                needed.append(requirement)
    return {re.split(r"[=<>;\[ ]", requirement)[0].lower() for requirement in needed}


def test_users_get_ranges(repository: Path) -> None:
    """No dependency is pinned; only engines limit TensorRT to one minor version."""
    table = project(repository)
    asked = [*table["dependencies"], *chain(*table["optional-dependencies"].values())]
    asked = [name.partition(";")[0] for name in asked]
    assert [name for name in asked if "==" in name] == []
    bounded = {re.split("[<>]", name)[0] for name in asked if "<" in name}
    assert bounded == {"tensorrt", "tensorrt-rtx", "tensorrt-lean-cu13"}


def constraints(repository: Path) -> dict[str, str]:
    """Return the versions of constraints.txt by name."""
    lines = (repository / "constraints.txt").read_text(encoding="ascii").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return dict(pairs)


def test_our_own_versions_are_exact(repository: Path) -> None:
    """Constraints cover the extra `dev` and name plain releases: pip itself finds `2.13.0+cpu`."""
    pinned = constraints(repository)
    assert required(repository, "dev") <= set(pinned)
    assert list(pinned) == sorted(pinned)
    for name, version in pinned.items():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*(\.post[0-9]+)?", f"{name}=={version}"), name
    call = 'pip install -q -c constraints.txt -e ".[dev]"'
    for path in ("README.md", ".ci/run"):
        assert call in (repository / path).read_text(encoding="utf-8"), path


@pytest.mark.parametrize("extra", ["cpu", "dev"])
def test_hashes_are_of_the_constrained_versions(repository: Path, extra: str) -> None:
    """Hashed requirements have the versions that are tested."""
    pinned = constraints(repository)
    entries = requirements(repository / ".ci" / f"requirements-{extra}.txt")
    found = {name: re.split("==| ", line)[1] for name, line in entries.items()}
    assert {name: found[name] for name in found if name in pinned} == {
        name: pinned[name] for name in pinned if name in found
    }


def check_texts(wheel: zipfile.ZipFile, address: str) -> None:
    """Check that each model has its card, and that no link of the README is relative."""
    names = wheel.namelist()
    models = {Path(name).name.partition(".")[0] for name in names if name.endswith(".onnx")}
    cards = {Path(name).name for name in names if name.startswith("srsdk/models/cards/")}
    assert cards == {*(f"{name}.md" for name in models), "sources.toml"}
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    text = wheel.read(metadata).decode()
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert links
    assert all(link.startswith((address, "https://", "#")) for link in links), links


def test_the_wheel_is_reproducible(repository: Path, tmp_path: Path) -> None:
    """Two builds, from copies made at different times, have the same bytes."""
    pytest.importorskip("hatchling", reason="pip install 'srsdk[bench]'")
    hashes = []
    for copy, mode in (("a", 0o644), ("b", 0o600)):
        folder = tmp_path / copy
        shutil.copytree(
            repository / "srsdk", folder / "srsdk", ignore=shutil.ignore_patterns("__pycache__")
        )
        cards = [path.relative_to(repository) for path in repository.glob("training/weights/*.md")]
        cards.append(Path("training", "weights", "sources.toml"))
        own = ("pyproject.toml", "README.md", "LICENSE", ".ci/srsdk.cdx.json", ".ci/build.py")
        for name in map(str, (*own, *cards)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, folder / name)
        for path in folder.rglob("*.py"):
            os.utime(path, (mode, mode))
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"]
        epoch = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(build, cwd=folder, env=epoch, check=True, capture_output=True)
        (wheel,) = (folder / "out").iterdir()
        assert wheel.stat().st_size < 15_000_000
        with zipfile.ZipFile(wheel) as archive:
            (carried,) = (name for name in archive.namelist() if "/sboms/" in name)
            assert carried.endswith(".dist-info/sboms/srsdk.cdx.json")
            check_texts(archive, project(repository)["urls"]["Repository"])
        hashes.append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert hashes[0] == hashes[1]


def test_the_bill_of_materials_is_what_the_wheel_holds(repository: Path) -> None:
    """It names each shipped model file and each package of `srsdk[cpu]`, with their hashes."""
    path = repository / ".ci" / "srsdk.cdx.json"
    before = path.read_bytes()
    made = runpy.run_path(str(repository / ".ci" / "sbom.py"))["bill"]()
    assert json.loads(before) == made, "python .ci/sbom.py writes it again"
    names = {each["name"] for each in made["components"]}
    assert {each.name for each in (repository / "srsdk" / "models").glob("*.onnx")} <= names
    assert {"numpy", "pillow", "openvino", "onnxruntime"} <= names
