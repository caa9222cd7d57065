"""The kit: packed, carried part by part, verified, installed and started, with small files."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.gpu.packing import pack
from benchmarks.gpu.packing.pack import Payload
from tests.disks import small_disk

PART_BYTES = 20_000
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MAIN = """
import os, sys
import stand_in
print("arguments", *sys.argv[1:])
print("stand-in", stand_in.VALUE)
sys.exit(7)
"""


def write_wheel(folder: Path) -> Path:
    """Write a wheel of one module."""
    path = folder / "stand_in-1.0-py3-none-any.whl"
    info = "stand_in-1.0.dist-info"
    files = {
        "stand_in.py": "VALUE = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{info}/RECORD,,"]
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            raw = hashlib.sha256(text.encode()).digest()
            hash_ = base64.urlsafe_b64encode(raw).decode().rstrip("=")
            lines.append(f"{name},sha256={hash_},{len(text)}")
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "\n".join(lines) + "\n")
    return path


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """Return a kit of several parts: a wheel, sources, a picture, an engine."""
    made = tmp_path / "made"
    (made / "tree" / "benchmarks").mkdir(parents=True)
    (made / "tree" / "benchmarks" / "__init__.py").touch()
    (made / "tree" / "benchmarks" / "__main__.py").write_text(MAIN)
    with tarfile.open(made / "source.tar.gz", "w:gz") as archive:
        archive.add(made / "tree" / "benchmarks", arcname="benchmarks")
    pictures = tmp_path / "pictures" / "Set"
    pictures.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(pictures / "one.png")
    (made / "an.engine").write_bytes(bytes(range(256)) * 200)
    payloads = [
        Payload(write_wheel(made), "wheel", "stand-in"),
        Payload(made / "source.tar.gz", "source"),
        Payload(pack.archive_pictures(tmp_path / "pictures", made / "data.tar"), "data"),
        Payload(made / "an.engine", "engine"),
    ]
    pack.write_kit(payloads, tmp_path / "kit", PART_BYTES, HERE)
    return tmp_path / "kit"


def unpacked(
    kit: Path, *options: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the kit's own `unpack.py`, with a folder of modules before all others."""
    call = [sys.executable, str(kit / "unpack.py"), *options]
    env = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        call, cwd=kit.parent, env=env, capture_output=True, text=True, check=False
    )


def parts_of(kit: Path) -> list[Path]:
    """Return the parts."""
    return sorted(kit.glob("part-*"))


def test_a_kit_comes_part_by_part_and_starts_the_check(kit: Path, tmp_path: Path) -> None:
    """Parts are stored until the last is there; then everything is installed and run."""
    to, parts = tmp_path / "place", parts_of(kit)
    assert len(parts) >= 4
    assert all(part.stat().st_size <= PART_BYTES for part in parts)
    contents = {part: part.read_bytes() for part in parts}
    for part in parts:
        part.unlink()
    for part in parts[:-1]:
        part.write_bytes(contents[part])
        done = unpacked(kit, "--to", str(to))
        assert done.returncode == 3
        assert parts[-1].name in done.stdout
        part.unlink()
    parts[-1].write_bytes(contents[parts[-1]])
    done = unpacked(kit, "--to", str(to), "--", "--seconds", "9")
    assert done.returncode == 7, done.stdout + done.stderr
    assert "stand-in 42" in done.stdout
    engine = to / "files" / "an.engine"
    assert f"gpu-check --data {to / 'data'} --engine {engine} --out {to / 'gpu-check'} " in (
        done.stdout
    )
    assert "--seconds 9" in done.stdout
    assert (to / "data" / "Set" / "one.png").is_file()
    assert engine.read_bytes() == bytes(range(256)) * 200


def test_a_bare_python_is_told_what_it_lacks(kit: Path, tmp_path: Path) -> None:
    """What nothing runs without is looked for before the check starts."""
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "tqdm.py").write_text("raise ImportError\n", encoding="utf-8")
    done = unpacked(kit, "--to", str(tmp_path / "place"), path=lacking)
    assert done.returncode == 1
    assert "this Python lacks tqdm: install them, or pack with --package" in done.stdout


def test_a_damaged_part_is_named(kit: Path, tmp_path: Path) -> None:
    """Changed or cut: it is refused with its name, and nothing is installed."""
    part = parts_of(kit)[1]
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = unpacked(kit, "--to", str(tmp_path / "place"), "--no-run")
    assert done.returncode == 1
    assert f"{part} is damaged: SHA-256" in done.stdout
    part.write_bytes(content[:-1])
    done = unpacked(kit, "--to", str(tmp_path / "place"), "--no-run")
    assert done.returncode == 1
    assert f"{part} has {len(content) - 1:,} bytes, expected {len(content):,}" in done.stdout
    assert not (tmp_path / "place" / "site").exists()
    part.write_bytes(content)
    assert unpacked(kit, "--to", str(tmp_path / "place"), "--no-run").returncode == 0


def test_wheels_for_another_python_are_refused(kit: Path, tmp_path: Path) -> None:
    """Both versions and both ways out are named."""
    path = kit / "manifest.json"
    path.write_text(path.read_text().replace(f'"python": "{HERE}"', '"python": "3.99"'))
    done = unpacked(kit, "--to", str(tmp_path / "place"), "--no-run")
    assert done.returncode == 1
    assert f"this is Python {HERE}, the wheels are for 3.99: run unpack.py with python3.99" in (
        done.stdout
    )


def test_a_package_can_be_left_to_the_machine(kit: Path, tmp_path: Path) -> None:
    """`--without` installs all but it; a later call without the option installs it."""
    to = tmp_path / "place"
    assert unpacked(kit, "--to", str(to), "--no-run", "--without", "stand-in").returncode == 0
    assert not (to / "site" / "stand_in.py").exists()
    assert unpacked(kit, "--to", str(to), "--no-run").returncode == 0
    assert (to / "site" / "stand_in.py").is_file()


def test_the_manifest_names_every_file(kit: Path) -> None:
    """Parts and files have size and SHA-256; all parts are below 40 MiB by default."""
    manifest = json.loads((kit / "manifest.json").read_text())
    for part in manifest["parts"]:
        content = (kit / part["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            part["bytes"],
            part["sha256"],
        )
    assert [entry["kind"] for entry in manifest["files"]] == ["wheel", "source", "data", "engine"]
    assert pack.DEFAULT_MIB <= pack.MAX_MIB < 40


def test_only_committed_sources_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed checkout is refused: what is not committed would be left out."""
    tree = tmp_path / "tree"
    tree.mkdir()

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tree, check=True, capture_output=True)

    git("init")
    (tree / "a.txt").write_text("a")
    git("add", ".")
    git("commit", "-m", "a")
    monkeypatch.setattr(pack, "ROOT", tree)
    with tarfile.open(pack.archive_source(tmp_path / "source.tar.gz")) as archive:
        assert "a.txt" in archive.getnames()
    (tree / "b.txt").write_text("b")
    with pytest.raises(pack.PackError, match=r"has changes \(\?\? b.txt\): commit them"):
        pack.archive_source(tmp_path / "source.tar.gz")


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    """A folder that is not empty, parts that are too large, no pictures, two files of one name."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(pack.PackError, match="is not empty"):
        pack.run(argparse.Namespace(out=tmp_path / "full", part_mib=38))
    with pytest.raises(pack.PackError, match="expected 1 to 39"):
        pack.run(argparse.Namespace(out=tmp_path / "new", part_mib=40))
    with pytest.raises(pack.PackError, match="no pictures in"):
        pack.archive_pictures(tmp_path / "full", tmp_path / "data.tar")
    payload = Payload(tmp_path / "full" / "file", "engine")
    with pytest.raises(pack.PackError, match="two files are named file"):
        pack.write_kit([payload, payload], tmp_path / "new", PART_BYTES, "3.12")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is empty again, so that the same command can be repeated, and one sentence."""
    file = tmp_path / "a.engine"
    file.write_bytes(bytes(200_000))
    monkeypatch.setattr(pack, "gather", lambda *_: [Payload(file, "engine")])
    with small_disk(tmp_path / "disk", "128k") as disk:
        arguments = argparse.Namespace(out=disk / "kit", part_mib=1, python_version="3.12")
        with pytest.raises(pack.PackError, match=r"cannot write to .*kit: No space left"):
            pack.run(arguments)
        assert list((disk / "kit").iterdir()) == []


def test_packages_are_named_as_registries_do() -> None:
    """A wheel's file name has underscores, `--without` takes the registry's name."""
    assert pack.package_of(Path("onnxruntime_gpu-1.0-cp312-x.whl")) == "onnxruntime-gpu"
