"""Test models of installed packages: entry points of the group `srsdk.models`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import srsdk
from srsdk.errors import ModelError
from tests.conftest import make_picture

CODE = "from pathlib import Path\nHERE = Path(__file__).parent\n"


def install(folder: Path, package: str, points: dict[str, str], code: str = "") -> None:
    """Write a package with its metadata, as pip would install it.

    Args:
        folder: a folder on `sys.path`.
        package: name of the package, version 1.0, and of its module.
        points: values of its entry points, by name.
        code: of its module, after `CODE`.
    """
    (folder / f"{package}.py").write_text(CODE + code)
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[srsdk.models]", *lines]))


@pytest.fixture
def site(home: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on `sys.path`, with a model file in it."""
    monkeypatch.syspath_prepend(str(model.parent))
    return model.parent


@pytest.mark.parametrize(
    "code",
    [
        "model = HERE / 'nearest.onnx'",
        "model = str(HERE / 'nearest.onnx')",
        "def model(): return HERE / 'nearest.onnx'",
        "def model(): return {'path': HERE / 'nearest.onnx'}",
    ],
)
def test_a_model_of_a_package(site: Path, code: str) -> None:
    """It opens by its name, whether the value is a path, a mapping or a function."""
    name = f"theirs{abs(hash(code))}"
    install(site, name, {"theirs_x2": f"{name}:model"}, code)
    with srsdk.Upscaler("theirs_x2") as up:
        assert up(make_picture(8, 9)).shape == (16, 18, 3)
    card = srsdk.models.card("theirs_x2")
    assert card is not None
    assert (card.origin, card.source) == ("package", f"{name} 1.0")


def test_it_is_listed(site: Path) -> None:
    """After the shipped models, with its package and license."""
    code = (
        "def model(): return {'path': HERE / 'nearest.onnx', 'license': 'MIT', 'author': 'A. B.'}"
    )
    install(site, "listed", {"theirs_x2": "listed:model"}, code)
    info = srsdk.list_models()[-1]
    assert (info.name, info.origin, info.source) == ("theirs_x2", "package", "listed 1.0")
    assert (info.license, info.precisions) == ("MIT", ())
    assert "theirs_x2" in srsdk.models.names()


def test_import_loads_no_package(site: Path) -> None:
    """Neither `import srsdk` nor opening another model imports a package that brings models."""
    install(site, "eager", {"theirs_x2": "eager:model"}, "raise RuntimeError")
    code = (
        "import sys; import srsdk; assert 'srsdk.models.plugins' not in sys.modules; "
        "srsdk.models.find('gan_x4'); srsdk.models.names(); assert 'eager' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=site)


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        ("missing_module:model", "", "ModuleNotFoundError: No module named 'missing_module'"),
        ("broken{}:other", "", "AttributeError"),
        ("broken{}:model", "def model(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("broken{}:model", "def model(): raise SystemExit(3)", "SystemExit: 3"),
        ("broken{}:model", "model = 3", "is 3, expected a path or a mapping with path"),
        ("broken{}:model", "model = {'file': 'a'}", "expected a path or a mapping with path"),
        ("broken{}:model", "model = {'path': 'a', 'licence': 'MIT'}", "it says licence, expected"),
        ("broken{}:model", "model = {'path': 3}", "its path is 3, expected a path"),
        ("broken{}:model", "model = 'nearest.onnx'", "expected an absolute one ending in .onnx"),
        ("broken{}:model", "model = HERE / 'a.txt'", "expected an absolute one ending in .onnx"),
        ("broken{}:model", "model = HERE / 'a.onnx'", r"a\.onnx: no such model file"),
        ("broken{}:model", "model = {'path': HERE / 'nearest.onnx', 'license': 3}", "license is 3"),
        ("broken{}:model", "model = {'path': HERE / 'nearest.onnx', 'sha256': 'a'}", "64 hexadeci"),
    ],
)
def test_broken_packages(
    site: Path, value: str, code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is one sentence with the package's name; a list goes on without it, and says so."""
    name = f"broken{abs(hash((value, code)))}"
    install(site, name, {"theirs_x2": value.replace("broken{}", name)}, code)
    with pytest.raises(ModelError, match=f"package {name} 1.0 brings the model .*{message}"):
        srsdk.Upscaler("theirs_x2")
    assert "theirs_x2" not in [info.name for info in srsdk.list_models()]
    assert f"the package {name} 1.0 brings the model" in caplog.text


def test_the_hash_of_a_package(site: Path) -> None:
    """A file that is not the one that the package describes does not open."""
    code = "model = {'path': HERE / 'nearest.onnx', 'sha256': '0' * 64}"
    install(site, "hashed", {"theirs_x2": "hashed:model"}, code)
    with pytest.raises(ModelError, match=r"expected 0{64}: it was changed; install hashed 1\.0"):
        srsdk.Upscaler("theirs_x2")


def test_shipped_models_are_not_shadowed(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A package cannot replace a shipped model; a list says that its model is not used."""
    install(site, "shadow", {"gan_x4": "shadow:model"}, "model = HERE / 'nearest.onnx'")
    assert srsdk.models.find("gan_x4").parent == srsdk.models.FOLDER
    assert [info.origin for info in srsdk.list_models() if info.name == "gan_x4"] == ["shipped"]
    assert "'gan_x4' of shadow 1.0 is not used" in caplog.text


def test_two_packages_of_one_name(site: Path) -> None:
    """The error names both."""
    for package in ("one", "two"):
        install(site, package, {"theirs_x2": f"{package}:model"}, "model = HERE / 'nearest.onnx'")
    with pytest.raises(ModelError, match=r"is brought by one 1\.0 and two 1\.0: uninstall one"):
        srsdk.Upscaler("theirs_x2")


@pytest.mark.slow
def test_the_package_of_the_docs(
    home: Path, model: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that the docs show are a package that pip installs and srsdk opens."""
    text = (repository / "docs" / "your-models.md").read_text(encoding="utf-8")
    blocks = re.findall(r'```\w+ title="(.*?)"\n(.*?)```', text, re.DOTALL)
    assert len(blocks) == 2
    for name, content in blocks:
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    model.rename(tmp_path / "project" / "foliage_models" / "foliage_x2.onnx")
    command = "-m pip install --quiet --no-deps --no-index --no-build-isolation --target"
    call = [sys.executable, *command.split(), str(tmp_path / "site"), str(tmp_path / "project")]
    subprocess.run(call, check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with srsdk.Upscaler("foliage_x2") as up:
        assert up(make_picture(8, 9)).shape == (16, 18, 3)
    info = srsdk.list_models()[-1]
    about = (info.name, info.license, info.purpose, info.source)
    assert about == ("foliage_x2", "CC-BY-4.0", "leaves and grass", "foliage-models 1.0")
