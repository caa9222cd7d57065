"""The examples work, as far as this machine can run them."""

from __future__ import annotations

import importlib.util
import io
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from tests.conftest import make_picture
from tests.loopback import serving


def load(repository: Path, name: str) -> Any:
    """Import an example from its file."""
    spec = importlib.util.spec_from_file_location(name, repository / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_server(repository: Path) -> None:
    """Eight concurrent pictures come back right; an invalid request gets status 400."""
    example = load(repository, "server")
    pictures = [make_picture(20 + index, 30, index) for index in range(8)]
    answers: dict[int, Any] = {}
    with (
        srsdk.Upscaler("gan_x2") as up,
        serving(example.Handler) as port,
    ):
        example.Handler.up = up
        example.Handler.log_message = lambda *_: None
        url = f"http://127.0.0.1:{port}/"

        def ask(index: int) -> None:
            body = io.BytesIO()
            Image.fromarray(pictures[index]).save(body, "PNG")
            with urllib.request.urlopen(url, body.getvalue()) as answer:
                answers[index] = np.asarray(Image.open(io.BytesIO(answer.read())))

        askers = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(url, b"no picture")
        assert error.value.code == 400
        error.value.close()
        for index, picture in enumerate(pictures):
            np.testing.assert_array_equal(answers[index], up(picture))


def test_the_guide_names_what_exists(repository: Path) -> None:
    """The errors and methods that docs/gpu.md names exist."""
    text = (repository / "docs" / "gpu.md").read_text(encoding="utf-8")
    for name in ("EngineMismatch", "OutOfMemoryError", "HealthError", "Upscaler"):
        assert name in text
        assert hasattr(srsdk, name)
    for name in ("plan", "profile"):
        assert f"up.{name}(" in text
        assert hasattr(srsdk.Upscaler, name)
