"""Test the demo page in a real browser: drop, wait, slide, download; other sites are refused."""

from __future__ import annotations

import gc
import io
import os
import tempfile
import time
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
def all_models() -> Iterator[str]:
    """Serve the page with all shipped models."""
    pytest.importorskip("gradio", reason="needs srsdk[demo]: pip install 'srsdk[demo]'")
    from srsdk.serving import demo

    with demo.serve() as found:
        yield found
    gc.collect()


@pytest.fixture
def browser_page() -> Iterator[Any]:
    """Open a window of a real Chromium."""
    with window() as page:
        yield page


SHOWN = """
() => {
    const images = [...document.querySelectorAll("#slider img")];
    return images.length >= 2 && images.every((each) => each.complete && each.naturalWidth)
        && document.querySelector("#slider").clientHeight > 100;
}
"""
"""Both pictures are loaded and have their place."""


def finished(page: Any) -> str:
    """Wait for a result, and return the sentence that comes with it."""
    page.wait_for_function("document.querySelector('#message').innerText.trim().endsWith(' ms')")
    page.wait_for_function(SHOWN)
    return str(page.locator("#message").inner_text())


def png(height: int, width: int) -> bytes:
    """Return a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(make_picture(height, width)).save(buffer, "PNG")
    return buffer.getvalue()


def downloaded(page: Any, path: Path) -> str:
    """Save the result, and return its name."""
    with page.expect_download() as waiting:
        page.locator("#result").click()
    waiting.value.save_as(path)
    return str(waiting.value.suggested_filename)


def shoot(page: Any, name: str) -> None:
    """Write a picture for the documentation, if `SRSDK_SCREENSHOTS` names its folder."""
    folder = os.environ.get("SRSDK_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / name), type="jpeg", quality=85)


@pytest.mark.slow
def test_drop_wait_slide_download(address: str, browser_page: Any, tmp_path: Path) -> None:
    """The download equals an Upscaler's result; the page contacts this machine only."""
    page, hosts = browser_page, set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(address)
    drop(page, png(90, 120), "photo.png")
    assert "120×90 to 240×180" in finished(page)
    handle = page.locator("#slider .outer").first
    before = handle.bounding_box()
    middle = (before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 120, middle[1], steps=8)
    page.mouse.up()
    after = handle.bounding_box()
    assert after["x"] < before["x"] - 60
    assert downloaded(page, tmp_path / "result.png") == "photo_x2.png"
    with srsdk.Upscaler("gan_x2") as up, Image.open(tmp_path / "result.png") as result:
        np.testing.assert_array_equal(np.asarray(result), up(make_picture(90, 120)))
    assert hosts <= {"127.0.0.1", None}


@pytest.mark.slow
def test_models_and_scales(all_models: str, browser_page: Any, tmp_path: Path) -> None:
    """Kinds of picture have their models; another choice computes the same picture again."""
    page = browser_page
    page.goto(all_models)
    drop(page, png(60, 80), "photo.png")
    assert "80×60 to 320×240" in finished(page)
    for scale, size in (("×3", "240×180"), ("×2", "160×120")):
        page.locator("#scale label", has_text=scale).click()
        page.locator("#message", has_text=f"to {size}").wait_for()
    for label, kind in (("compressed", "compressed"), ("drawings", "drawing")):
        page.locator("#kind input").click()
        page.get_by_role("option", name=label).click()
        finished(page)
        with srsdk.Chain.of(kind, 2 if kind == "compressed" else 4) as chain:
            expected = chain(make_picture(60, 80), options=srsdk.PictureOptions(scale=2))
        wait_for_download(page, tmp_path / f"{kind}.png", expected)


def wait_for_download(page: Any, path: Path, expected: Any) -> None:
    """Download until the result is the expected one: the page shows no other sign of it."""
    until_s = time.monotonic() + 60
    while True:
        assert downloaded(page, path) == "photo_x2.png"
        with Image.open(path) as result:
            if np.array_equal(np.asarray(result), expected):
                return
        assert time.monotonic() < until_s
        page.wait_for_timeout(200)


@pytest.mark.slow
def test_the_example_on_a_desktop(all_models: str, browser_page: Any) -> None:
    """One click shows the slider, whole; this is the picture in the documentation."""
    page = browser_page
    page.set_viewport_size({"width": 1120, "height": 760})
    page.goto(all_models)
    page.locator("#example button").click()
    assert "192×192 to 768×768" in finished(page)
    assert in_view(page, "#slider")
    shoot(page, "demo.jpg")


@pytest.mark.slow
def test_the_example_on_a_phone(all_models: str, browser_page: Any) -> None:
    """The result stands above the fold of a screen of 390x844 pixels, with its download."""
    page = browser_page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(all_models)
    page.locator("#example button").wait_for()
    for part in ("#kind", "#scale", "#picture", "#example", "#message"):
        assert in_view(page, part)
    page.locator("#example button").click()
    finished(page)
    for part in ("#slider", "#message", "#result"):
        assert in_view(page, part)
    assert page.evaluate("[scrollX, scrollY]") == [0, 0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(page, "demo-phone.jpg")


def in_view(page: Any, part: str) -> bool:
    """Whether a part of the page is seen whole without scrolling."""
    box, view = page.locator(part).first.bounding_box(), page.viewport_size
    inside = box["x"] >= 0 and box["y"] >= 0
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    return bool(inside and right <= view["width"] and bottom <= view["height"])


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
    page = browser_page
    for name in ("127.0.0.1", "localhost"):
        page.goto(address.replace("127.0.0.1", name))
        drop(page, png(20, 30), "photo.png")
        finished(page)
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
def test_a_bad_picture_shows_one_message(address: str, browser_page: Any) -> None:
    """The error stands once on the page, which keeps working."""
    page = browser_page
    page.goto(address)
    drop(page, png(20, 30), "good.png")
    finished(page)
    page.locator("#picture button[aria-label='Remove Image']").click()
    drop(page, png(64, 64)[:2000], "cut.png")
    alert = page.locator("[role=alert]", has_text="cut.png is damaged")
    alert.wait_for()
    page.wait_for_timeout(500)
    assert alert.count() == 1
    assert page.locator("body").inner_text().lower().count("damaged") == 1
    assert page.locator(".toast-body, .error:not([role=alert])").count() == 0
    assert page.locator("#slider img").count() == 0
    page.locator("#example button").click()
    assert "192×192 to 384×384" in finished(page)


def test_without_gradio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the extra to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo"]) == 1
    assert "srsdk[demo]" in capsys.readouterr().err
