"""`python -m benchmarks gpu-pack`: pack what `gpu-check` needs on a machine without a registry.

Writes parts of limited size, `manifest.json` with their SHA-256, and `unpack.py`, which needs the
standard library alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import srsdk
from benchmarks.gpu.job import PICTURE_SUFFIXES, ROOT, SAMPLES
from benchmarks.gpu.packing import unpack
from benchmarks.machine import commit
from srsdk import models
from srsdk.formats.tensorrt_plan import hash_file

PACKAGES = ("onnxruntime-gpu", "cuda-bindings", "cuda-pathfinder")
PLATFORMS = tuple(
    f"{name}_x86_64"
    for name in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17",
                 "manylinux2014", "manylinux1")
)  # fmt: skip
"""pip matches them exactly: a wheel for an older glibc needs its own name."""
DEFAULT_MIB = 38
MAX_MIB = 39
"""Below 40 MiB, so that a part and the sources travel together where 64 MiB are allowed."""
ENGINE = "gan_x2"
ENGINE_PROFILE = "1x64x64"


class PackError(RuntimeError):
    """The kit cannot be packed; the message says why and what to do."""


@dataclass(frozen=True)
class Payload:
    """A file in the kit."""

    path: Path
    """The file here."""
    kind: str
    """`wheel`, `source`, `data`, `train`, `engine`, or `hash` of an engine."""
    package: str = ""
    """The package of a wheel."""

    def entry(self) -> dict[str, Any]:
        """Return its entry in the manifest."""
        size, sha256 = self.path.stat().st_size, unpack.digest(self.path)
        return {"name": self.path.name, "kind": self.kind, "package": self.package,
                "bytes": size, "sha256": sha256}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A piece of the kit."""

    name: str
    """File name."""
    bytes: int
    """Size."""
    sha256: str
    """Hash, as hex."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpu-pack`."""
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the kit; new or empty")
    add("--python-version", default="3.12", help="of the other machine (default: 3.12)")
    add(
        "--package",
        action="append",
        default=[],
        metavar="NAME[==VERSION]",
        help=f"another package to bring; repeatable (always: {', '.join(PACKAGES)})",
    )
    add(
        "--wheel",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a wheel to bring as it is; repeatable",
    )
    add("--no-wheels", action="store_true", help="bring no packages from the registry")
    add("--no-source", action="store_true", help="bring no sources: they are there already")
    add(
        "--data",
        type=Path,
        default=SAMPLES,
        metavar="DIR",
        help="test pictures, such as Set5 (default: samples)",
    )
    add("--train-data", type=Path, metavar="DIR", help="pictures to train on")
    add(
        "--engine",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a TensorRT engine to bring; repeatable (default: one is built, where possible)",
    )
    add("--part-mib", type=int, default=DEFAULT_MIB, help=f"size of parts (default: {DEFAULT_MIB})")
    parser.set_defaults(run=run)  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Pack the kit and print what is in it."""
    out = arguments.out
    if not 0 < arguments.part_mib <= MAX_MIB:
        raise PackError(f"--part-mib is {arguments.part_mib}, expected 1 to {MAX_MIB}")
    if out.exists() and any(out.iterdir()):
        raise PackError(f"{out} is not empty: choose another --out, or delete it")
    with tempfile.TemporaryDirectory(prefix="gpu-pack-") as folder:
        payloads = gather(arguments, Path(folder))
        with _emptied_on_failure(out):
            manifest = write_kit(payloads, out, arguments.part_mib << 20, arguments.python_version)
    for entry in manifest["files"]:
        sys.stdout.write(f"{entry['kind']:<7} {entry['bytes']:>12,} bytes  {entry['name']}\n")
    parts = manifest["parts"]
    sys.stdout.write(f"wrote {len(parts)} part(s), {sum(part['bytes'] for part in parts):,} bytes, "
                     f"and unpack.py to {out}\n")  # fmt: skip
    return 0


@contextmanager
def _emptied_on_failure(folder: Path) -> Iterator[None]:
    """Remove what was written into an empty folder if not all of it could be.

    Raises:
        PackError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except BaseException as error:
        for path in folder.glob("*"):
            path.unlink()
        if isinstance(error, OSError):
            raise PackError(f"cannot write to {folder}: {error.strerror}: choose --out") from error
        raise


def gather(arguments: argparse.Namespace, folder: Path) -> list[Payload]:
    """Make or find all files of the kit.

    Raises:
        PackError: one cannot be made.
    """
    wheels = list(arguments.wheel)
    if not arguments.no_wheels:
        wheels += download((*PACKAGES, *arguments.package), arguments.python_version, folder)
    payloads = [Payload(path, "wheel", package_of(path)) for path in wheels]
    if not arguments.no_source:
        payloads.append(Payload(archive_source(folder / "source.tar.gz"), "source"))
    for kind, data in (("data", arguments.data), ("train", arguments.train_data)):
        if data is not None:
            payloads.append(Payload(archive_pictures(data, folder / f"{kind}.tar"), kind))
    for path in arguments.engine or build_engine(folder):
        payloads.append(Payload(path, "engine"))
        if hash_file(path).is_file():
            payloads.append(Payload(hash_file(path), "hash"))
    return payloads


def download(packages: tuple[str, ...], python_version: str, folder: Path) -> list[Path]:
    """Download wheels for another machine with pip.

    Raises:
        PackError: pip failed; the message is its last line.
    """
    wheels = folder / "wheels"
    call = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
            "--no-deps", "--only-binary=:all:", "--implementation", "cp",
            "--python-version", python_version, "--dest", str(wheels)]  # fmt: skip
    for platform in PLATFORMS:
        call += ["--platform", platform]
    _called([*call, *packages], "pip cannot download the packages")
    return sorted(wheels.glob("*.whl"))


def package_of(wheel: Path) -> str:
    """Return the package of a wheel's file name, as registries write it."""
    return re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()


def archive_source(target: Path) -> Path:
    """Archive the committed files of this checkout, weights included.

    Raises:
        PackError: there is no checkout, or it has changes, which would be left out.
    """
    changed = _called(["git", "-C", str(ROOT), "status", "--porcelain"], "no git checkout")
    if changed.strip():
        first = changed.strip().splitlines()[0]
        raise PackError(f"the checkout has changes ({first}): commit them, or use --no-source")
    _called(["git", "-C", str(ROOT), "archive", "--format=tar.gz", "-o", str(target), "HEAD"],
            "git archive failed")  # fmt: skip
    return target


def archive_pictures(folder: Path, target: Path) -> Path:
    """Archive the pictures of a folder, with their places in it.

    Raises:
        PackError: there are none.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise PackError(f"no pictures in {folder}, expected {', '.join(PICTURE_SUFFIXES)}")
    with tarfile.open(target, "w") as archive:
        for path in files:
            archive.add(path.resolve(), arcname=path.relative_to(folder))
    return target


def build_engine(folder: Path) -> list[Path]:
    """Build a TensorRT for RTX engine, which needs no GPU; none if the library is not installed.

    Raises:
        PackError: the export failed.
    """
    if importlib.util.find_spec("tensorrt_rtx") is None:
        sys.stdout.write("no engine: TensorRT for RTX is not installed: pip install 'srsdk[rtx]'\n")
        return []
    target = folder / "engines" / f"{ENGINE}.fp32.engine"
    target.parent.mkdir()
    call = [sys.executable, "-m", "export", str(models.find(ENGINE)), "-o", str(target),
            "--target", "rtx", "--precision", "fp32", "--profiles", ENGINE_PROFILE]  # fmt: skip
    _called(call, "the engine cannot be built")
    return [target]


def write_kit(
    payloads: list[Payload], out: Path, part_bytes: int, python_version: str
) -> dict[str, Any]:
    """Write parts, manifest and `unpack.py`, and return the manifest.

    Raises:
        PackError: two files have one name.
    """
    names = [payload.path.name for payload in payloads]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PackError(f"two files are named {', '.join(twice)}: leave one out")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w") as archive:
            for payload in payloads:
                archive.add(payload.path, arcname=payload.path.name)
        whole.seek(0)
        parts = split(whole, out, part_bytes)
    manifest = {
        "srsdk": srsdk.__version__,
        "commit": commit(),
        "python": python_version,
        "parts": [asdict(part) for part in parts],
        "files": [payload.entry() for payload in payloads],
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (out / unpack.MANIFEST).write_text(text, encoding="utf-8")
    shutil.copyfile(Path(unpack.__file__), out / "unpack.py")
    return manifest


def split(whole: BinaryIO, out: Path, part_bytes: int) -> list[Part]:
    """Write a file as parts of at most `part_bytes` bytes."""
    parts: list[Part] = []
    while content := whole.read(part_bytes):
        path = out / f"part-{len(parts):02d}"
        path.write_bytes(content)
        parts.append(Part(path.name, len(content), unpack.digest(path)))
    return parts


def _called(call: list[str], what: str) -> str:
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise PackError(f"{what}: {lines[-1]}")
    return done.stdout
