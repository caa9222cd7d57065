"""Rules that hold for the whole repository."""

from __future__ import annotations

import ast
import hashlib
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import srsdk
from srsdk.manifest import read_manifest

PACKAGES = ("srsdk", "export", "training", "benchmarks")
HEAVY = (
    *("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "pycuda"),
    "pyvips",
)
FORBIDDEN = {
    "srsdk": {"export", "training", "benchmarks", "torch", "onnx", "onnxscript", "tests"},
    "training": {"export", "benchmarks", "tests", "srsdk"},
    "export": {"benchmarks", "tests"},
    "benchmarks": {"tests"},
}
CLEAN = {"Set5", "Set14", "BSD100"}
REPAIRED = {f"{name} {damage}" for name in CLEAN for damage in ("noise 25", "JPEG 10")}
SHIPPED = {
    "ae_x1": REPAIRED,
    "gan_x2": CLEAN,
    "gan_x2_quality": CLEAN,
    "gan_x2_texture": CLEAN,
    "gan_x4": CLEAN,
    "gan_x4_quality": CLEAN,
    "gan_x4_texture": CLEAN,
    "realtime_x2": CLEAN,
    "realtime_x4": CLEAN,
    "realworld_x2": CLEAN | {f"{name} realworld" for name in CLEAN},
    "realworld_x4": CLEAN | {f"{name} realworld" for name in CLEAN},
    "vae_x4": CLEAN,
}
"""The models of the wheel, and the test sets that each is scored on."""
FORMS = {
    "": ("fp32", "portable"),
    "fp16": ("fp16", "portable"),
    "int8": ("int8", "cpu"),
    "int8.gpu": ("int8", "gpu"),
}


def sources(repository: Path, package: str) -> list[Path]:
    """Return all Python files of a package."""
    return sorted((repository / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return all modules that a file imports, at any level."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(repository: Path, package: str) -> None:
    """The runtime imports neither its tools nor torch; training imports no other package."""
    for path in sources(repository, package):
        tops = {name.partition(".")[0] for name in imports(path)}
        assert not tops & FORBIDDEN[package], path


def test_import_loads_no_engine() -> None:
    """`import srsdk` loads none of the heavy libraries."""
    code = "import sys, srsdk; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert not loaded & set(HEAVY)
    assert "tqdm" not in loaded


def test_public_surface() -> None:
    """The public API is exactly this; everything else is private."""
    assert len(srsdk.__all__) == len(set(srsdk.__all__))
    assert set(srsdk.__all__) == {
        "BackendError",
        "BaseUpscaler",
        "Budget",
        "Chain",
        "DeadlineExceeded",
        "DeviceLostError",
        "EngineMismatch",
        "HealthError",
        "IO",
        "Hypotheses",
        "Manifest",
        "ManifestError",
        "ModelError",
        "ModelInfo",
        "OutOfMemoryError",
        "OutputError",
        "Picture",
        "PictureError",
        "PictureOptions",
        "Restorer",
        "Sampler",
        "SelfTestError",
        "SrsdkError",
        "Upscaler",
        "UpscalerOptions",
        "UsageError",
        "__version__",
        "list_models",
        "models",
    }
    for name in srsdk.__all__:
        assert getattr(srsdk, name) is not None


def test_every_error_is_ours() -> None:
    """`except SrsdkError` catches all of them."""
    for name in srsdk.__all__:
        thing = getattr(srsdk, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert issubclass(thing, srsdk.SrsdkError)


def test_no_absolute_paths(repository: Path) -> None:
    """No tracked file contains an absolute path, shipped models included."""
    pattern = re.compile(rb"/(home|work|root|Users|opt)/\w")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in filter(None, tracked):
        path = repository / name.decode()
        if path.is_file():
            assert not pattern.search(path.read_bytes()), path


def test_readme_has_two_commands_and_ci_runs_the_second(repository: Path) -> None:
    """Two commands set everything up; `.ci/run` calls the one that runs the tests."""
    readme = (repository / "README.md").read_text(encoding="utf-8")
    commands = [
        block.strip()
        for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
        if "venv" in block
    ]
    assert len(commands) == 2
    assert all("\n" not in command for command in commands)
    assert commands[1] in (repository / ".ci" / "run").read_text(encoding="utf-8")


def test_readme_python_runs(repository: Path, tmp_path: Path) -> None:
    """The README's Python lines work as they are."""
    readme = (repository / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes((repository / "samples" / "astronaut.png").read_bytes())
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "large.jpg").stat().st_size > 10_000


def test_manifests_of_shipped_models() -> None:
    """Each has scores on its test sets, its training data and licence, and a known form."""
    names = srsdk.models.shipped()
    whole = [name for name in names if "." not in name]
    assert whole == sorted(SHIPPED)
    assert sum(srsdk.models.find(name).stat().st_size for name in names) < 25_000_000
    for name in names:
        manifest = read_manifest(srsdk.models.find(name))
        assert manifest is not None
        base, _, form = name.partition(".")
        assert manifest.name == base
        assert (manifest.precision, manifest.flavour) == FORMS[form]
        assert set(manifest.scores) == SHIPPED[base]
        for score in manifest.scores.values():
            # limits of INT8: dB lost against the float32 network
            most = {"int8": 0.06 if manifest.scale == 2 else 0.03, "int8.gpu": 0.08}
            assert score.get("loss_db", 0.0) <= most.get(form, 0.02), name
        assert manifest.licence
        assert manifest.training_data
        assert manifest.built_with["torch"]
    for by_quality in srsdk.models.VIDEO.values():
        for scale, name in by_quality.items():
            found_manifest = read_manifest(srsdk.models.find(name))
            assert found_manifest is not None
            assert found_manifest.scale == scale
    for by_scale in srsdk.models.DEFAULTS.values():
        for scale, chain in by_scale.items():
            found = [read_manifest(srsdk.models.find(name)) for name in chain]
            assert math.prod(manifest.scale for manifest in found if manifest is not None) == scale


def test_shipped_files_come_from_tracked_weights(repository: Path) -> None:
    """Each matches the hash of tracked weights, which have a model card."""
    weights = repository / "training" / "weights"
    for name in srsdk.models.shipped():
        manifest = read_manifest(srsdk.models.find(name))
        assert manifest is not None
        file = weights / f"{manifest.name}.safetensors"
        assert manifest.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest(), name
        assert file.with_suffix(".md").is_file()
