"""Install a version of srsdk in its own environment, with the libraries of this one."""

from __future__ import annotations

import site
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT, folder_sha256


class BuildError(Exception):
    """A version that cannot be built or installed."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with one version of srsdk."""

    version: str
    """Requested version: a git reference, a folder or a wheel."""
    python: Path
    """Its interpreter."""
    package: Path
    """Folder of the installed `srsdk`."""

    @property
    def code_sha256(self) -> str:
        """SHA-256 of the installed code."""
        return folder_sha256(self.package)


def make(version: str, folder: Path) -> Environment:
    """Build and install a version of srsdk.

    Args:
        version: a folder with a checkout (`.` is this one), a `.whl` file, or a git reference.
        folder: target folder; must not exist.

    Raises:
        BuildError: there is no such version, or its build fails.
    """
    folder.mkdir(parents=True)
    wheel = _wheel(version, folder)
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    _run("pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel))
    asked = [str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout[:-1])
    # its own packages first, then those of this environment: both versions use the same libraries
    borrowed = "".join(f"{path}\n" for path in site.getsitepackages())
    (packages / "borrowed.pth").write_text(borrowed, encoding="utf-8")
    return Environment(version, python, packages / "srsdk")


def _wheel(version: str, folder: Path) -> Path:
    path = Path(version)
    if path.suffix == ".whl":
        if not path.is_file():
            raise BuildError(f"{path}: no such wheel")
        return path.resolve()
    source = path.resolve() if path.is_dir() else _checkout(version, folder / "source")
    if not (source / "pyproject.toml").is_file():
        raise BuildError(f"{source} contains no pyproject.toml, expected a checkout of srsdk")
    target = folder / "wheel"
    _run("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(target), str(source))
    return next(target.glob("*.whl"))


def _checkout(reference: str, folder: Path) -> Path:
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    call = ["git", "-C", str(ROOT), "archive", "-o", str(archive), "--end-of-options", reference]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(
            f"{reference!r} is neither a folder, nor a wheel, nor a git reference: "
            f"{done.stderr.strip()}"
        )
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _run(*arguments: str) -> None:
    call = [sys.executable, "-m", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no error output"]
        raise BuildError(f"{' '.join(arguments)} failed: {last[0]}")
