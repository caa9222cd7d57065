"""Join the parts of a kit, verify and install them, and run `gpu-check`.

Usage: python3 unpack.py --to DIR [--parts DIR] [OPTION ...] [-- ARGUMENT OF gpu-check ...]

Needs the standard library and pip alone. Parts may come one by one: each call stores those that it
finds, and the last one goes on.

Exit codes: that of gpu-check; 1: a part is damaged or a step failed; 3: parts are still missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
EXIT_DAMAGED, EXIT_INCOMPLETE = 1, 3
BLOCK_BYTES = 1 << 20
NEEDED = {"numpy": "numpy", "pillow": "PIL", "tqdm": "tqdm"}
"""Packages without which nothing runs, and their modules. The section `tests` also needs pytest and
hypothesis; what others need, `gpu-check --dry-run` says."""


class KitError(RuntimeError):
    """A part is damaged, or a step failed; the message names it."""


def main(argv: list[str] | None = None) -> int:
    """Run the steps; see the module's docstring for the exit codes."""
    given = sys.argv[1:] if argv is None else argv
    ours, theirs = given, []
    if "--" in given:
        ours, theirs = given[: given.index("--")], given[given.index("--") + 1 :]
    arguments = _parser().parse_args(ours)
    parts, to = arguments.parts, arguments.to.absolute()
    try:
        manifest = read_manifest(parts)
        missing = store(parts, to / "parts", manifest)
        if missing:
            there, all_of_them = len(manifest["parts"]) - len(missing), len(manifest["parts"])
            say(f"{there} of {all_of_them} parts are in {to / 'parts'}; missing: "
                f"{', '.join(missing)}")  # fmt: skip
            return EXIT_INCOMPLETE
        join(to, manifest)
        install(to, manifest, tuple(arguments.without))
    except (KitError, OSError) as error:
        say(f"unpack: {error}")
        return EXIT_DAMAGED
    if arguments.no_run:
        say(f"installed in {to}")
        return 0
    return run(to, manifest, arguments.source, theirs)


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    here = Path(__file__).absolute().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR",
                        help="where to keep parts and install; stays between calls")  # fmt: skip
    parser.add_argument("--parts", type=Path, default=here, metavar="DIR",
                        help=f"folder of {MANIFEST} and parts (default: beside this)")  # fmt: skip
    parser.add_argument("--without", action="append", default=[], metavar="PACKAGE",
                        help="do not install it: use this machine's; repeatable")  # fmt: skip
    parser.add_argument("--source", type=Path, metavar="DIR",
                        help="a checkout to run (default: the packed one)")  # fmt: skip
    parser.add_argument("--no-run", action="store_true", help="install only")
    return parser


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a kit.

    Raises:
        KitError: it is missing or damaged.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        [(one["name"], one["bytes"], one["sha256"]) for one in manifest["parts"]]
        [(one["name"], one["kind"], one["sha256"]) for one in manifest["files"]]
        str(manifest["python"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path} cannot be read: {error!r}; copy it again") from error
    return manifest


def store(source: Path, target: Path, manifest: dict[str, Any]) -> list[str]:
    """Copy intact parts to `target`, and return the names of those that are in neither folder.

    Raises:
        KitError: a part is damaged; it is not stored.
    """
    target.mkdir(parents=True, exist_ok=True)
    missing = []
    for part in manifest["parts"]:
        kept, found = target / part["name"], source / part["name"]
        if kept.is_file() and digest(kept) == part["sha256"]:
            continue
        if not found.is_file():
            missing.append(part["name"])
            continue
        check(found, part)
        temporary = kept.with_name(f"{kept.name}.tmp")
        shutil.copyfile(found, temporary)
        temporary.replace(kept)
    return missing


def check(path: Path, expected: dict[str, Any]) -> None:
    """Compare a file with its entry in the manifest.

    Raises:
        KitError: its size or hash differs.
    """
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise KitError(f"{path} has {size:,} bytes, expected {expected['bytes']:,}: copy it again")
    found = digest(path)
    if found != expected["sha256"]:
        raise KitError(
            f"{path} is damaged: SHA-256 {found[:16]}..., expected {expected['sha256'][:16]}...: "
            "copy it again"
        )


def join(to: Path, manifest: dict[str, Any]) -> None:
    """Join the stored parts, and extract and verify the files in them; done once.

    Raises:
        KitError: a file in them is damaged.
    """
    files, packed = to / "files", to / "kit.tar"
    if _is_done(to / "joined", manifest):
        return
    with packed.open("wb") as whole:
        for part in manifest["parts"]:
            with (to / "parts" / part["name"]).open("rb") as piece:
                shutil.copyfileobj(piece, whole, BLOCK_BYTES)
    shutil.rmtree(files, ignore_errors=True)
    with tarfile.open(packed) as archive:
        archive.extractall(files, filter="data")
    packed.unlink()
    for entry in manifest["files"]:
        check(files / entry["name"], entry)
    (to / "joined").write_text(_identity(manifest), encoding="utf-8")


def install(to: Path, manifest: dict[str, Any], without: tuple[str, ...] = ()) -> None:
    """Install the wheels into `site`, and extract sources and pictures; done once.

    Raises:
        KitError: pip failed, or the wheels are for another Python.
    """
    state = _identity(manifest, *without)
    done = to / "installed"
    if done.is_file() and done.read_text(encoding="utf-8") == state:
        return
    wheels = []
    for entry in manifest["files"]:
        path = to / "files" / entry["name"]
        if entry["kind"] == "wheel" and entry["package"] not in without:
            wheels.append(str(path))
        elif entry["kind"] in ("source", "data", "train"):
            folder = to / entry["kind"]
            shutil.rmtree(folder, ignore_errors=True)
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
    shutil.rmtree(to / "site", ignore_errors=True)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wheels and manifest["python"] != here:
        raise KitError(
            f"this is Python {here}, the wheels are for {manifest['python']}: run unpack.py with "
            f"python{manifest['python']}, or pack with --python-version {here}"
        )
    if wheels:
        _pip(["install", "--no-index", "--no-deps", "--no-compile", "--target", str(to / "site"),
              *wheels])  # fmt: skip
    done.write_text(state, encoding="utf-8")


def run(to: Path, manifest: dict[str, Any], source: Path | None, theirs: list[str]) -> int:
    """Run `gpu-check` with what the kit brought, and return its exit code."""
    folder = (source or to / "source").absolute()
    if not (folder / "benchmarks").is_dir():
        say(f"unpack: no sources in {folder}: --source DIR, a checkout")
        return EXIT_DAMAGED
    # before the machine's own packages, whose versions may be others
    paths = [str(to / "site"), str(folder), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if lacking := [name for name in NEEDED.values() if not _has(name, env)]:
        names = " ".join(name for name, module in NEEDED.items() if module in lacking)
        say(f"unpack: this Python lacks {names}: install them, or pack with --package for each")
        return EXIT_DAMAGED
    call = [sys.executable, "-m", "benchmarks", "gpu-check"]
    defaults = {"--data": to / "data", "--train-data": to / "train"}
    for option, path in defaults.items():
        call += [option, str(path)] if path.is_dir() and option not in theirs else []
    for entry in manifest["files"]:
        if entry["kind"] == "engine":
            call += ["--engine", str(to / "files" / entry["name"])]
    if "--out" not in theirs:
        call += ["--out", str(to / "gpu-check")]
    return subprocess.run([*call, *theirs], cwd=folder, env=env, check=False).returncode


def _has(module: str, env: dict[str, str]) -> bool:
    call = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(call, env=env, capture_output=True, check=False).returncode == 0


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip(arguments: list[str]) -> None:
    call = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise KitError(f"pip failed: {lines[-1]}")


def _is_done(marker: Path, manifest: dict[str, Any]) -> bool:
    return marker.is_file() and marker.read_text(encoding="utf-8") == _identity(manifest)


def _identity(manifest: dict[str, Any], *more: str) -> str:
    text = json.dumps([manifest["parts"], manifest["files"], *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
