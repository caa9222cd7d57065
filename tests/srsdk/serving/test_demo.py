"""Test the demo page in a real browser: drop, wait, slide, download; other sites are refused."""

from __future__ import annotations

import gc
import io
import os
import tempfile
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
from tests.srsdk.serving.browser import (
    EVIL,
    FORM,
    IMAGE,
    SOCKET,
    UPLOAD,
    another_site,
    drop,
    window,
)

# gradio and playwright themselves leave resources open and call deprecated functions
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


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
    with window() as page:
        yield page


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


def stored() -> list[Path]:
    """Return the files that the demo keeps."""
    return [path for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file()]


@pytest.mark.slow
def test_pages_of_other_sites(address: str, browser_page: Any) -> None:
    """Neither fetch, form, WebSocket nor picture of another origin gets through; ours does."""
    page = browser_page
    with another_site() as port:
        for site in (
            f"http://127.0.0.1:{port}/",
            f"http://localhost:{port}/",
            f"http://{EVIL}:{port}/",
        ):
            page.goto(site)
            assert page.evaluate(UPLOAD, [address, "no-cors"]) in ("opaque 0", "failed")
            assert page.evaluate(UPLOAD, [address, "cors"]) in ("cors 403", "failed")
            assert page.evaluate(FORM, [address]) == "loaded"
            assert page.evaluate(SOCKET, [address]) == "refused"
            assert stored() == []
    page.goto(address)
    assert page.evaluate(UPLOAD, [address, "same-origin"]) == "basic 200"
    (upload,) = stored()
    Image.fromarray(make_picture(9, 9)).save(upload)
    file = f"{address}gradio_api/file={upload}"
    assert page.evaluate(IMAGE, [file]) == "loaded"
    with another_site() as port:
        page.goto(f"http://{EVIL}:{port}/")
        assert page.evaluate(IMAGE, [file]) == "refused"


@pytest.mark.slow
def test_a_rebound_name(address: str, browser_page: Any) -> None:
    """A page whose name now resolves to this machine is of the same origin, and is refused."""
    rebound = f"http://{EVIL}:{urlsplit(address).port}/"
    answer = browser_page.goto(rebound)
    assert answer.status == 421
    assert "expected one of: 127.0.0.1:" in answer.text()
    assert browser_page.evaluate(UPLOAD, [rebound, "same-origin"]) in ("basic 421", "failed")
    assert stored() == []


@pytest.mark.slow
def test_under_both_names(address: str, browser_page: Any) -> None:
    """The page works as localhost, too; a link on another site leads to it."""
    page, picture = browser_page, io.BytesIO()
    Image.fromarray(make_picture(20, 30)).save(picture, "PNG")
    for name in ("127.0.0.1", "localhost"):
        page.goto(address.replace("127.0.0.1", name))
        drop(page, picture.getvalue(), "photo.png")
        page.wait_for_function("document.querySelector('#time textarea').value.includes('ms')")
        page.wait_for_function("document.querySelectorAll('#slider img').length >= 2")
    with another_site() as port:
        page.goto(f"http://{EVIL}:{port}/")
        page.set_content(f'<a id="link" href="{address}">the demo</a>')
        page.click("#link")
        page.locator("#picture").wait_for()


@pytest.mark.slow
def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    """When the page closes, its folder goes, and gradio's variable is as before."""
    from srsdk.serving import demo

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.environ["GRADIO_TEMP_DIR"]
    with demo.serve("gan_x2"):
        assert os.environ["GRADIO_TEMP_DIR"].startswith(str(tmp_path))
    gc.collect()
    assert os.environ["GRADIO_TEMP_DIR"] == before
    assert list(tmp_path.glob("srsdk-*")) == []


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
