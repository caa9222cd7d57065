"""The Python in the docs runs, their commands parse, and their links resolve."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import make_parser
from tests.conftest import make_picture
from tests.srsdk.adoption.nets import Net
from tests.srsdk.video import clips

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def examples() -> Iterator[object]:
    """Yield every Python block of the docs but the files of `examples`, which have their tests."""
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for number, block in enumerate(blocks):
            if not block.startswith("--8<--"):
                yield pytest.param(block, id=f"{page.stem}-{number}")


def commands() -> Iterator[object]:
    """Yield every `srsdk` command of the README and the docs."""
    for page in (ROOT / "README.md", *PAGES):
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^\$ srsdk (.*?)(?:\s+#.*)?$", text, re.MULTILINE):
            yield pytest.param(line, id=f"{page.stem}-{line[:30]}")


@pytest.mark.parametrize("code", list(examples()))
def test_examples_run(code: str, tmp_path: Path) -> None:
    """Each runs in a folder with pictures and foreign networks; warnings are errors."""
    Image.fromarray(make_picture(90, 120)).save(tmp_path / "photo.jpg")
    clips.make(tmp_path / "film.mkv", clips.Clip())
    Net(white=255.0, bgr=True).save(tmp_path / "theirs.onnx")
    Net(noise="channel", scale=1).save(tmp_path / "denoiser.onnx")
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    call = [sys.executable, "-W", "error", "example.py"]
    result = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("line", list(commands()))
def test_commands_parse(line: str) -> None:
    """Every documented option exists. What follows a pipe is another program's."""
    make_parser().parse_args(shlex.split(line.partition(" | ")[0]))


def tools() -> Iterator[object]:
    """Yield program and arguments of every command of the tools."""
    pattern = r"^\$ python -m (benchmarks|export|training) ((?:.*\\\n)*.*?)(?:\s+#.*|\s+[>|] .*)?$"
    for page in (ROOT / "README.md", *PAGES):
        text = page.read_text(encoding="utf-8")
        for program, line in re.findall(pattern, text, re.MULTILINE):
            plain = line.replace("\\\n", " ").replace(" $ALL", " -o models")
            if "..." not in plain:
                yield pytest.param(program, plain, id=f"{page.stem}-{program} {plain[:30]}")


@pytest.mark.parametrize(("program", "line"), list(tools()))
def test_tool_commands_parse(program: str, line: str) -> None:
    """Every documented command and option of `benchmarks`, `export` and `training` exists."""
    pytest.importorskip("torch", reason="pip install 'srsdk[train]'")
    from benchmarks import cli as benchmarks_cli
    from export import arguments as export_arguments
    from training.cli import commands, entry

    words = shlex.split(line)
    if program == "benchmarks":
        benchmarks_cli._parser().parse_args(words)
    elif program == "export":
        export_arguments.make_parser().parse_args(words)
    elif words[0] == "evaluate":
        commands._evaluate_parser().parse_args(words[1:])
    elif words[0] not in entry.COMMANDS:
        entry._parser().parse_args(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_linked(page: Path) -> None:
    """The README or another page links to each page, and its own links resolve."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *PAGES)]
    assert any(re.search(rf"\b{page.name}[)#]", text) for text in texts)
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        # the command line's page exists on the site alone: it is generated
        assert link == "cli.md" or (page.parent / link).exists(), link


def rows(path: Path) -> dict[str, list[str]]:
    """Return the cells of all rows of a page's tables, by the first cell; of two, the first."""
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^\| (.+) \|$", path.read_text(encoding="utf-8"), re.MULTILINE):
        name, *cells = line.split(" | ")
        found.setdefault(name, cells)
    return found


def test_figures_of_the_readme_are_those_of_the_docs() -> None:
    """Each row on speed or a model is part of a row of the generated tables."""
    speed, scores = rows(ROOT / "docs" / "performance.md"), rows(ROOT / "docs" / "models.md")
    seen = 0
    for name, cells in rows(ROOT / "README.md").items():
        if name == "model":
            continue
        if name in speed and len(cells) == 2:
            ms, db = cells
            assert speed[name][0].startswith(f"{ms} ("), name
            assert speed[name][3] == db, name
        elif name in scores and len(cells) == 2:
            purpose, db = cells
            assert scores[name][0] == purpose
            assert scores[name][1].startswith(f"{db} /"), name
        else:
            assert not re.search(r"\d\d\.\d", " ".join(cells)), f"{name} is in no table"
            continue
        seen += 1
    assert seen > 8


def test_the_citation_is_of_this_version() -> None:
    """CITATION.cff names the version, license and address that pyproject.toml does."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    fields = dict(re.findall(r"^([\w-]+): \"?([^\"\n]+)\"?$", text, re.MULTILINE))
    assert fields["version"] == srsdk.__version__
    assert fields["license"] == table["license"]
    assert fields["repository-code"] == table["urls"]["Repository"]
    assert fields["cff-version"] == "1.2.0"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_pages_name_exist(page: Path) -> None:
    """A path of the repository in backticks leads to a file or folder."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    tops = "benchmarks|docs|examples|export|samples|srsdk|tests|training"
    for name in re.findall(rf"`((?:{tops})/[\w./-]+)(?:::\w+)?`", text):
        assert (ROOT / name).exists(), name


def test_every_example_is_in_the_guide() -> None:
    """docs/python.md shows or names each program of `examples`, and no other."""
    guide = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    named = set(re.findall(r"examples/(\w+\.py)", guide))
    assert named == {path.name for path in (ROOT / "examples").glob("*.py")}
