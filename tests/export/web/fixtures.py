"""An installed JavaScript package, an exported folder, and pictures with Python's results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import srsdk
from export.targets.web.library import SOURCES, library_files
from export.targets.web.site import write_site
from tests.conftest import make_picture

Levels = npt.NDArray[np.uint8]
ROOT = SOURCES.parents[1]
MODELS = (("gan_x2", "fp32"), ("gan_x2", "int8"), ("realtime_x2", "fp32"), ("realtime_x2", "int8"))
TIMEOUT_S = 300


@dataclass(frozen=True)
class Case:
    """A picture, enlarged by one model in one precision."""

    name: str
    """Of the files: NAME.rgba, NAME.python, NAME.json."""
    model: str
    """Name of the model."""
    precision: str
    """`fp32` or `int8`."""
    height: int
    """Of the picture."""
    width: int
    """Of the picture."""


def npm() -> str:
    """Return npm's program, or skip the test."""
    found = shutil.which("npm")
    if found is None or shutil.which("node") is None:
        pytest.skip("needs Node and npm")
    return found


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `export/web` with its dependencies; skipped where they are not installed."""
    npm()
    if not (SOURCES / "node_modules").is_dir():
        pytest.skip("needs the packages of export/web: npm ci --prefix export/web")
    folder = tmp_path_factory.mktemp("package") / "web"
    # tests and type checks write caches beside their modules
    ignored = shutil.ignore_patterns("types", "*.tgz")
    shutil.copytree(SOURCES, folder, ignore=ignored, symlinks=True)
    return folder


@pytest.fixture(scope="session")
def library(package: Path) -> Path:
    """The installed onnxruntime-web."""
    folder = package / "node_modules" / "onnxruntime-web"
    library_files(folder)
    return folder


@pytest.fixture(scope="session")
def site(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder with gan_x2 and realtime_x2."""
    folder = tmp_path_factory.mktemp("web") / "site"
    write_site(["gan_x2"], folder, onnxruntime_web=library)
    return folder


def pictures() -> dict[str, Levels]:
    """Return a photograph, a drawing with odd sides, and a picture with transparency."""
    with Image.open(ROOT / "samples" / "astronaut.png") as image:
        photo = np.asarray(image.convert("RGB"))
    y, x = np.mgrid[0:61, 0:83]
    alpha = np.clip(200 - 9 * np.hypot(y - 30, x - 40), 0, 255).astype(np.uint8)
    return {
        "photo": np.ascontiguousarray(photo[40:168, 60:220]),
        "odd": make_picture(67, 101),
        "transparent": np.dstack([make_picture(61, 83, 4), alpha]),
    }


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    """A folder of pictures and results as RGBA levels, and their list."""
    folder, cases = tmp_path_factory.mktemp("expected"), []
    for model, precision in MODELS:
        with srsdk.Upscaler(model, backend="onnxruntime", precision=_precision(precision)) as up:
            for name, picture in pictures().items():
                case = Case(f"{name}-{model}-{precision}", model, precision, *picture.shape[:2])
                rgba(picture).tofile(folder / f"{case.name}.rgba")
                rgba(up(picture)).tofile(folder / f"{case.name}.python")
                (folder / f"{case.name}.json").write_text(json.dumps(asdict(case)))
                cases.append(case)
    return folder, cases


def _precision(name: str) -> srsdk.options.Precision:
    return "int8" if name == "int8" else "fp32"


def rgba(picture: Levels) -> Levels:
    """Return (H, W, 4) of (H, W, 3 or 4)."""
    if picture.shape[2] == 4:
        return picture
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])


def run_npm(package: Path, *arguments: str, **variables: str) -> str:
    """Run npm in the package and return what it wrote; a failure shows it."""
    done = subprocess.run(
        [npm(), *arguments],
        cwd=package,
        env={**os.environ, "NO_COLOR": "1", **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
