"""`python -m export --target web`: what is written, what is refused, and the package in Node."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx
import pytest

import srsdk
from export.cli import main
from export.errors import ExportError
from export.graph.onnx_file import attach
from export.targets.web import library as web_library
from export.targets.web.models import open_models
from export.targets.web.site import write_site
from srsdk.manifest import read_manifest
from tests.export.web import values
from tests.export.web.fixtures import Case, run_npm
from tests.export.web.fixtures import expected as expected
from tests.export.web.fixtures import library as library
from tests.export.web.fixtures import package as package
from tests.export.web.fixtures import site as site


def test_the_folder_is_complete(site: Path, library: Path) -> None:
    """The models with their INT8 form, the module, the library, the page; the index names all."""
    index = json.loads((site / "models" / "index.json").read_text())
    assert index["default"] == "gan_x2"
    assert [entry["forms"] for entry in index["models"]] == [
        {"fp32": "gan_x2", "int8": "gan_x2.int8"},
        {"fp32": "realtime_x2", "int8": "realtime_x2.int8"},
    ]
    for name in ("gan_x2", "gan_x2.int8", "realtime_x2", "realtime_x2.int8"):
        facts = json.loads((site / "models" / f"{name}.json").read_text())
        manifest = read_manifest(srsdk.models.find(name))
        assert manifest is not None
        assert facts["radius_px"] == manifest.radius_px
        assert (site / "models" / facts["file"]).read_bytes() == srsdk.models.find(
            name
        ).read_bytes()
    for name in ("index.html", "_headers", "srsdk/browser.js", "srsdk/worker.js", "demo/demo.js"):
        assert (site / name).is_file(), name
    assert not (site / "srsdk" / "node.js").exists()
    for name in web_library.FILES:
        assert (site / "ort" / name).stat().st_size == (library / "dist" / name).stat().st_size


def test_a_second_run_writes_nothing(
    site: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that was changed is replaced with --force only."""
    call = ["gan_x2", "--target", "web", "-o", f"{site}/", "--onnxruntime-web", str(library)]
    before = (site / "index.html").stat().st_mtime_ns
    size = srsdk.models.find("gan_x2").stat().st_size
    assert main(call) == 0
    assert "is up to date" in capsys.readouterr().out
    assert (site / "index.html").stat().st_mtime_ns == before
    page = (site / "index.html").read_text()
    (site / "index.html").write_text("mine")
    assert main(call) == 1
    assert "index.html exists and differs; --force replaces it" in capsys.readouterr().err
    assert main([*call, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"]["models/gan_x2.onnx"] == size
    assert (site / "index.html").read_text() == page
    assert not [path for path in site.rglob("*") if ".tmp" in path.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiling": "none"}, "sees the whole picture (tiling 'none')"),
        ({"tiling": "bounded"}, "sees the whole picture (tiling 'bounded')"),
        ({"family": "vae"}, "it draws samples"),
        ({"inputs": {"noise": 0.1}}, "it takes noise beside the picture"),
        ({"precision": "fp16"}, "it is float16"),
        ({"flavour": "gpu", "precision": "int8"}, "in the form of TensorRT"),
        ({"dtype": "float32"}, "it takes float32 NHWC with 3 channels"),
        ({"channels": 4}, "with 4 channels, expected uint8 NHWC with 1 or 3"),
    ],
)
def test_what_browsers_cannot_run_is_refused(
    tmp_path: Path,
    changes: dict[str, object],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one sentence, before onnxruntime-web is looked for and before a folder is made."""
    model = onnx.load(srsdk.models.find("gan_x2"))
    manifest = read_manifest(srsdk.models.find("gan_x2"))
    assert manifest is not None
    attach(model, dataclasses.replace(manifest, **changes, probe=None))  # type: ignore[arg-type]
    path = tmp_path / "mine.onnx"
    onnx.save(model, path)
    assert main([str(path), "--target", "web", "-o", f"{tmp_path}/site/"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("export: mine.onnx cannot run in a browser: ")
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["w.safetensors"], "w.safetensors holds weights, and --target web takes finished models"),
        (["gan_x2", "--precision", "int8"], "--precision is not for --target web"),
        (["gan_x2", "--target", "onnx"], "--target web copies finished models"),
        (["gan_x2", "-o", "site.html"], "--target web writes a folder, such as -o site/"),
    ],
)
def test_wrong_words_are_usage_errors(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each says what is expected."""
    assert main(["-o", "site", *words, "--target", "web"]) == 2
    assert message in capsys.readouterr().err


def test_models_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no model has, and two files of one name."""
    assert main(["gan_x3", "--target", "web", "-o", f"{tmp_path}/site"]) == 1
    assert "'gan_x3' is not a shipped model" in capsys.readouterr().err
    other = tmp_path / "gan_x2.onnx"
    other.write_bytes(srsdk.models.find("gan_x4").read_bytes())
    with pytest.raises(ExportError, match="have the same name: rename one of them"):
        open_models(["gan_x2", str(other)])


def test_the_library_must_be_of_the_pinned_version(tmp_path: Path, site: Path) -> None:
    """Missing, of another version, or incomplete: the error has the command."""
    command = f"npm install onnxruntime-web@{web_library.version()}"
    with pytest.raises(ExportError, match=f"which is not in {tmp_path}: `{command}`"):
        write_site(["gan_x2"], tmp_path / "site", onnxruntime_web=tmp_path)
    description = tmp_path / "package.json"
    description.write_text('{"name": "onnxruntime-web", "version": "1.0.0"}')
    with pytest.raises(ExportError, match=r"holds onnxruntime-web 1\.0\.0, expected"):
        write_site(["gan_x2"], tmp_path / "site", onnxruntime_web=tmp_path)
    version = web_library.version()
    description.write_text(json.dumps({"name": "onnxruntime-web", "version": version}))
    with pytest.raises(ExportError, match=r"lacks ort\.wasm\.min\.mjs, "):
        write_site(["gan_x2"], tmp_path / "site", onnxruntime_web=tmp_path)
    assert not (tmp_path / "site").exists()


def test_the_values_for_javascript_are_those_of_python() -> None:
    """`python -m tests.export.web.values --write` renews them."""
    assert values.FILE.read_text(encoding="utf-8") == values.text()


def test_the_package_in_node(package: Path, site: Path, expected: tuple[Path, list[Case]]) -> None:
    """vitest: the same values as in Python, and real models within 1 level of it."""
    folder, cases = expected
    said = run_npm(package, "test", SRSDK_WEB_SITE=str(site), SRSDK_WEB_PICTURES=str(folder))
    assert "skipped" not in said
    assert len(cases) == 12


def test_the_package_packs_with_types(package: Path) -> None:
    """`npm pack` checks the types and packs the module, its types and nothing else."""
    packed = json.loads(run_npm(package, "pack", "--json", "--silent"))
    # npm 10 lists the packages, npm 11 has them by name
    (packed,) = packed if isinstance(packed, list) else packed.values()
    names = {entry["path"] for entry in packed["files"]}
    sources = {f"srsdk/{path.name}" for path in (package / "srsdk").glob("*.js")}
    types = {name.replace("srsdk/", "types/").replace(".js", ".d.ts") for name in sources}
    assert names == sources | types | {"package.json", "README.md", "LICENSE"}
    text = (package / "types" / "browser.d.ts").read_text()
    assert "upscale(source: Source" in text
    assert "Promise<ImageData>" in text


def test_no_registry_is_named(package: Path) -> None:
    """The lock file holds hashes, not addresses of packages."""
    lock = json.loads((package / "package-lock.json").read_text())
    assert not [name for name, value in lock["packages"].items() if "resolved" in value]
