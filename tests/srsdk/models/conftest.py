"""Fixtures of the tests of models from elsewhere: folders of their own, and a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import networks
from tests.srsdk.models.server import Server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a folder of fetched models, and a cache, of its own."""
    monkeypatch.setenv("SRSDK_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write a small ONNX model: nearest-neighbor, two times."""
    return networks.nearest(tmp_path / "nearest.onnx")


@pytest.fixture
def server(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve the model on this machine."""
    # what a proxy would do with these requests is not their subject
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Server(model.read_bytes()) as running:
        yield running
