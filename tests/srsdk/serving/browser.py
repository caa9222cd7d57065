"""A real Chromium, and pages of other sites that attack this machine."""

from __future__ import annotations

import base64
import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.loopback import serving

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EVIL = "evil.example"
"""Resolves to 127.0.0.1 in the browser, as a name does after DNS rebinding."""
DROP = """
([data, name]) => {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    return transfer;
}
"""


@contextmanager
def window() -> Iterator[Any]:
    """Open a window, or skip the test."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: one of {', '.join(BROWSERS)}")
    names = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=program, args=["--no-sandbox", names])
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


class _Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer an empty page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title>")

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def another_site() -> Iterator[int]:
    """Serve an empty page of another site, and yield its port."""
    with serving(_Empty) as port:
        yield port


UPLOAD = """
async ([address, mode]) => {
    const form = new FormData();
    form.append("files", new Blob(["x".repeat(100000)]), "stored.png");
    try {
        const answer = await fetch(address + "gradio_api/upload",
                                   { method: "POST", body: form, mode });
        return answer.type + " " + answer.status;
    } catch (error) { return "failed"; }
}
"""
"""Upload with fetch."""
FORM = """
([address]) => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.name = "target";
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", enctype: "multipart/form-data", target: "target",
                          action: address + "gradio_api/upload" });
    const input = document.createElement("input");
    Object.assign(input, { type: "file", name: "files" });
    const transfer = new DataTransfer();
    transfer.items.add(new File(["x".repeat(100000)], "stored.png", { type: "image/png" }));
    input.files = transfer.files;
    form.append(input);
    document.body.append(form);
    frame.addEventListener("load", () => done("loaded"));
    form.submit();
})
"""
"""Upload with a form, which needs no permission of the other side."""
SOCKET = """
([address]) => new Promise((done) => {
    const socket = new WebSocket(address.replace("http", "ws") + "gradio_api/queue/join");
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
})
"""
IMAGE = """
([address]) => new Promise((done) => {
    const image = new Image();
    image.onload = () => done("loaded");
    image.onerror = () => done("refused");
    image.src = address;
})
"""
