"""The rooms of the house: who uses whom, how many modules a folder holds, and no circles.

A room is a folder of a package. The docstring of its `__init__` says in one sentence what it is
for, and names the rooms that its modules may import: `Uses: errors, image.` A folder inside of a
room belongs to the room. Modules beside the rooms, which users name, are listed in `SURFACE`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

PACKAGES = ("srsdk", "export", "training", "benchmarks")
MAX_MODULES = 15
"""In one folder."""
SURFACE = {
    "srsdk": "adoption budget chain errors manifest models options sampler upscaler upscaling",
    "srsdk.budget": "errors system",
    "srsdk.chain": "errors models options scheduling upscaler upscaling",
    "srsdk.device_checks": "engines errors options upscaler",
    "srsdk.doctor": "device_checks engines errors models options srsdk system",
    "srsdk.errors": "",
    "srsdk.manifest": "errors formats",
    "srsdk.options": "adoption budget errors",
    "srsdk.sampler": "errors image inference options scheduling system upscaler upscaling",
    "srsdk.serve": "serving",
    "srsdk.opening": "adoption autotune engines errors formats inference manifest models options",
    "srsdk.upscaler": (
        "adoption budget engines errors formats image inference manifest models opening options "
        "scheduling upscaling"
    ),
    "srsdk.__main__": "cli",
}
"""What the modules beside the rooms of the runtime may import; those of the tools are commands and
what commands share, and may import all that makes no circle."""
LIBRARIES = {
    "openvino": "srsdk/engines/openvino.py srsdk/engines/compiled/openvino_tail.py "
    "srsdk/engines/compiled/openvino_fold.py "
    "srsdk/engines/compiled/openvino_graph.py",
    "onnxruntime": "srsdk/engines/",
    "tensorrt": "srsdk/engines/",
    "tensorrt_rtx": "srsdk/engines/",
    "cuda": "srsdk/engines/cuda/",
    "pycuda": "srsdk/engines/cuda/",
    "pyvips": "srsdk/image/ srsdk/upscaling/",
    "av": "srsdk/video/",
    **dict.fromkeys(("pillow_heif", "pi_heif", "pylibjxl"), "srsdk/image/plugins/"),
    "shtab": "srsdk/cli/",
    **dict.fromkeys(
        ("fastapi", "fastapi_offline", "gradio", "prometheus_client", "pydantic"), "srsdk/serving/"
    ),
    **dict.fromkeys(("python_multipart", "starlette", "uvicorn"), "srsdk/serving/"),
}
"""Of the runtime: where each library may be imported."""


def modules(root: Path, package: str) -> dict[str, Path]:
    """Return the files of a package by the names that they are imported by."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path) -> tuple[tuple[int, str], ...]:
    """Return line and name of all that a file imports, inside of functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return tuple(found)


def edges(files: dict[str, Path]) -> Iterator[tuple[str, str, int]]:
    """Yield (importing module, imported module, line) between the files of a package."""
    for module, path in files.items():
        for line, name in imports(path):
            target = name
            while target and target not in files:
                target = target.rpartition(".")[0]
            if target and target != module:
                yield module, target, line


def room_of(module: str, files: dict[str, Path]) -> str:
    """Return the room that a module lies in; a module beside the rooms is its own."""
    parts = module.split(".")
    is_folder = files[module].name == "__init__.py"
    return ".".join(parts[:2] if len(parts) > 2 or is_folder else parts)


def allowed(room: str, files: dict[str, Path]) -> set[str] | None:
    """Return the names that a room may use; None where nothing says so."""
    package = room.partition(".")[0]
    if room in SURFACE:
        return set(SURFACE[room].split())
    text = ast.get_docstring(ast.parse(files[room].read_text(encoding="utf-8"))) or ""
    said = re.search(r"^Uses: ([^.]*)\.", text, re.MULTILINE)
    if files[room].name != "__init__.py" or room == package or said is None:
        return None
    return set(re.split(r",\s*", said[1])) - {"nothing"}


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_use_only_what_they_say(repository: Path, package: str) -> None:
    """Each import between rooms is one that the importing room's docstring names."""
    files = modules(repository, package)
    wrong = []
    for module, target, line in edges(files):
        here, there = room_of(module, files), room_of(target, files)
        may = allowed(here, files)
        if may is None:
            if files[here].name == "__init__.py" and here != package:
                wrong.append(f"the docstring of {here} has no `Uses:`")
        elif here != there and there.removeprefix(f"{package}.") not in may:
            where = f"{files[module].relative_to(repository)}:{line}"
            wrong.append(f"{where}: {here} imports {target}; it may use {', '.join(sorted(may))}")
    assert not wrong, "\n" + "\n".join(sorted(set(wrong)))


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_say_no_more_than_they_use(repository: Path, package: str) -> None:
    """What a docstring or `SURFACE` allows is used, so that the list can be believed."""
    files = modules(repository, package)
    used: dict[str, set[str]] = {room_of(module, files): set() for module in files}
    for module, target, _ in edges(files):
        used[room_of(module, files)].add(room_of(target, files).removeprefix(f"{package}."))
    for room, found in used.items():
        idle = (allowed(room, files) or set()) - found
        assert not idle, f"{room} need not name {', '.join(sorted(idle))}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circles(repository: Path, package: str) -> None:
    """Neither between modules, nor between rooms."""
    files = modules(repository, package)
    pairs = [(module, target) for module, target, _ in edges(files)]
    rooms = [(room_of(a, files), room_of(b, files)) for a, b in pairs]
    for graph in (nx.DiGraph(pairs), nx.DiGraph(pair for pair in rooms if pair[0] != pair[1])):
        circles = [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1]
        assert not circles, f"import each other: {circles}"


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_are_small(repository: Path, package: str) -> None:
    """No folder holds more modules than one can look over."""
    for folder in {path.parent for path in modules(repository, package).values()}:
        names = sorted(path.stem for path in folder.glob("*.py"))
        where = folder.relative_to(repository)
        assert len(names) <= MAX_MODULES, f"{where} holds {len(names)}: {', '.join(names)}"


def test_libraries_stay_in_their_rooms(repository: Path) -> None:
    """What computes, decodes or serves is imported in one place each."""
    for path in modules(repository, "srsdk").values():
        where = path.relative_to(repository).as_posix()
        for line, name in imports(path):
            homes = LIBRARIES.get(name.partition(".")[0], "srsdk/").split()
            assert where.startswith(tuple(homes)), f"{where}:{line}: {name}"


def test_cuda_knows_the_protocol_alone(repository: Path) -> None:
    """Of the other engines: `engines.cuda` stands below them."""
    files = modules(repository, "srsdk")
    for module, target, line in edges(files):
        if module.startswith("srsdk.engines.cuda") and not target.startswith("srsdk.engines.cuda"):
            assert target in ("srsdk.engines.protocol", "srsdk.errors"), f"{module}:{line}"
