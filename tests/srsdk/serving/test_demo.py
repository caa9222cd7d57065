"""Test the demo page in a real browser: drop, wait, slide, download; loopback traffic only."""

from __future__ import annotations

import base64
import gc
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import main
from tests.conftest import make_picture

# gradio and playwright themselves leave resources open and call deprecated functions
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DROP = """
([data, name]) => {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    return transfer;
}
"""


@pytest.fixture
def address() -> Iterator[str]:
    """Serve the page."""
    pytest.importorskip("gradio", reason="needs srsdk[demo]: pip install 'srsdk[demo]'")
    from srsdk.serving import demo

    with demo.serve("gan_x2") as found:
        yield found
    gc.collect()


@pytest.fixture
def browser_page() -> Iterator[Any]:
    """Open a window of a real Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: one of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        yield page
        browser.close()
    gc.collect()


def drop(page: Any, data: bytes, name: str) -> None:
    """Drop a file on the page, as a user does."""
    transfer = page.evaluate_handle(DROP, [base64.b64encode(data).decode(), name])
    target = page.locator("#picture button").first
    target.wait_for()
    for event in ("dragenter", "dragover", "drop"):
        target.dispatch_event(event, {"dataTransfer": transfer})


@pytest.mark.slow
def test_drop_wait_slide_download(address: str, browser_page: Any, tmp_path: Path) -> None:
    """The download equals an Upscaler's result; the page contacts this machine only."""
    page, hosts = browser_page, set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(address)
    picture, buffer = make_picture(90, 120), io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    drop(page, buffer.getvalue(), "photo.png")
    page.wait_for_function("document.querySelector('#time textarea').value.includes('ms')")
    assert "120×90 to 240×180" in page.locator("#time textarea").input_value()
    page.wait_for_function("document.querySelectorAll('#slider img').length >= 2")
    handle = page.locator("#slider .outer").first
    before = handle.bounding_box()
    middle = (before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 120, middle[1], steps=8)
    page.mouse.up()
    after = handle.bounding_box()
    assert after["x"] < before["x"] - 60
    shots = os.environ.get("SRSDK_SCREENSHOTS")
    if shots:
        page.screenshot(path=str(Path(shots) / "demo.png"))
    with page.expect_download() as waiting:
        page.locator("#result a").first.click()
    waiting.value.save_as(tmp_path / "result.png")
    with srsdk.Upscaler("gan_x2") as up, Image.open(tmp_path / "result.png") as result:
        np.testing.assert_array_equal(np.asarray(result), up(picture))
    assert waiting.value.suggested_filename == "photo_x2.png"
    assert hosts <= {"127.0.0.1", None}


@pytest.mark.slow
def test_a_bad_picture_shows_a_message(address: str, browser_page: Any) -> None:
    """The page shows the error and keeps working."""
    page, buffer = browser_page, io.BytesIO()
    page.goto(address)
    Image.fromarray(make_picture(64, 64)).save(buffer, "PNG")
    drop(page, buffer.getvalue()[:2000], "cut.png")
    toast = page.locator(".toast-body").first
    toast.wait_for()
    assert "cut.png is damaged" in toast.inner_text()
    page.goto(address)
    drop(page, buffer.getvalue(), "whole.png")
    page.wait_for_function("document.querySelector('#time textarea').value.includes('ms')")


def test_without_gradio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the extra to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo"]) == 1
    assert "srsdk[demo]" in capsys.readouterr().err
