"""The page of the interface in a real Chromium: it works offline and upscales."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.conftest import make_picture
from tests.srsdk.serving.browser import EVIL, window
from tests.srsdk.serving.clients import encoded
from tests.srsdk.serving.running import Running, running

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Run a server that has another name, too."""
    with running("--model", "gan_x2", "--allow-host", EVIL) as found:
        yield found
    gc.collect()


@pytest.fixture
def page() -> Iterator[Any]:
    """Open a window of a real Chromium."""
    with window() as found:
        yield found


@pytest.mark.parametrize("name", ["127.0.0.1", EVIL])
def test_the_page_asks_nobody_else(server: Running, page: Any, name: str) -> None:
    """Under a name of this machine and under another one: scripts, styles and icon are its own."""
    hosts, failed = set(), []
    messages: list[Any] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("console", lambda message: messages.append(message))
    page.goto(f"http://{name}:{server.port}/")
    page.locator(".opblock-summary-post").wait_for()
    assert page.url == f"http://{name}:{server.port}/docs"
    for path in ("/", "/healthz", "/readyz", "/info", "/metrics"):
        page.locator(f'[data-path="{path}"]').first.wait_for()
    page.wait_for_load_state("networkidle")
    assert hosts <= {name, None}
    assert failed == []
    assert [each.text for each in messages if each.type == "error"] == []


def test_trying_it(server: Running, page: Any) -> None:
    """A picture that is chosen on the page is upscaled and shown."""
    page.goto(f"http://127.0.0.1:{server.port}/docs")
    page.locator(".opblock-summary-post").click()
    page.locator(".try-out__btn").click()
    photo = encoded(Image.fromarray(make_picture(20, 24)))
    file = {"name": "photo.png", "mimeType": "image/png", "buffer": photo}
    page.locator(".opblock-post input[type=file]").set_input_files(file)
    page.locator(".execute").click()
    shown = page.locator(".opblock-post .responses-inner img")
    shown.wait_for()
    size = shown.evaluate("async image => { await image.decode(); return image.naturalWidth; }")
    assert size == 48
