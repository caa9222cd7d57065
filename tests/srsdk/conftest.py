"""Shared fixtures of the runtime tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from srsdk import models
from srsdk.manifest import read_manifest


@pytest.fixture(scope="session")
def real_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gan_x2` built by the real TensorRT for RTX, which needs no GPU to build."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'srsdk[rtx]'")
    import onnx

    from export.targets.tensorrt import build_engine, open_library

    source, library = models.find("gan_x2"), open_library("rtx")
    manifest = read_manifest(source)
    assert manifest is not None
    described = dataclasses.replace(
        manifest,
        flavour="rtx",
        profiles=((1, 64, 64),),
        size_px=(64, 64),
        probe=None,  # the .onnx file's probe has another size
        sms=(86, 89, 120),
        library_version=library.version,
        parity_of="graph",
    )
    path = tmp_path_factory.mktemp("engine") / "gan_x2.fp32.engine"
    text, sizes = described.to_json(), described.profiles
    path.write_bytes(build_engine(library, onnx.load(source), text, profiles=sizes, sms=(86, 89)))
    return path
