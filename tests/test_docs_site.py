"""The documentation site builds without a warning, is complete, and opens without a network."""

from __future__ import annotations

import argparse
import functools
import http.server
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import srsdk
from benchmarks.publish.site import commands, hooks
from srsdk.cli.main import make_parser
from tests.loopback import serving
from tests.srsdk.serving import browser

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as CI does."""
    for name in ("material", "mkdocstrings"):
        pytest.importorskip(name, reason="pip install 'srsdk[docs]'")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site on the loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(site))
    with serving(handler) as port:
        yield f"http://127.0.0.1:{port}/"


def test_the_reference_is_complete(site: Path) -> None:
    """It has every name of `srsdk.__all__`, and every public method of the public classes."""
    page = (site / "api.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="(srsdk\.[\w.]+)"', page))
    names = {f"srsdk.{name}" for name in srsdk.__all__}
    assert names <= shown, sorted(names - shown)
    for name in srsdk.__all__:
        thing = getattr(srsdk, name)
        if inspect.isclass(thing) and not issubclass(thing, (Exception, dict)):
            own = {f"srsdk.{name}.{member}" for member in vars(thing) if member[0] != "_"}
            assert own <= shown, sorted(own - shown)
    shared = {member for member in dir(srsdk.BaseUpscaler) if member[0] != "_"}
    assert {f"srsdk.BaseUpscaler.{member}" for member in shared} <= shown
    assert {"srsdk.models.find", "srsdk.models.chain", "srsdk.video.upscale"} <= shown


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a parser and of its commands."""
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings:
            yield from action.option_strings
    for command in commands.commands(parser).values():
        yield from options(command)


def test_the_command_line_is_complete(site: Path) -> None:
    """It has a section for each command, and a line for each of its options."""
    page = (site / "cli.html").read_text(encoding="utf-8")
    for name in commands.commands(make_parser()):
        assert f'<h2 id="{name}">' in page
    for option in options(make_parser()):
        assert f"<code>{option}</code>" in page, option


def test_the_width_of_the_terminal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is the same wherever it is generated."""
    pages = []
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        pages.append(commands.reference(make_parser(), "Command line", "About."))
    assert pages[0] == pages[1]


def test_links_lead_to_pages_of_the_site() -> None:
    """A link to a page elsewhere in the repository gets its address; one to a file becomes text."""
    text = (
        "[a](../SECURITY.md#pictures) [b](../training/weights/gan_x4.md) [c](../export/ci.yml) "
        "[d](gpu.md) [`e`](../README.md)\n```\n[f](../export/ci.yml)\n```\n"
    )
    assert hooks.linked(text, "docs/models.md", "models.md") == (
        "[a](security.md#pictures) [b](cards/gan_x4.md) c [d](gpu.md) [`e`](index.md)\n"
        "```\n[f](../export/ci.yml)\n```\n"
    )
    card = "[a](../../docs/models.md) [b](gan_x4.md)"
    assert hooks.linked(card, "training/weights/gan_x2.md", "cards/gan_x2.md") == (
        "[a](../models.md) [b](gan_x4.md)"
    )


def test_pages_make_no_request_elsewhere(site: Path, address: str) -> None:
    """Every page, in Chromium: nothing but its own files, no error, and it fits on a phone."""
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    asked: list[str] = []
    errors: list[str] = []
    with browser.window() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("response", lambda got: errors.append(got.url) if got.status >= 400 else None)
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        for index, name in enumerate(pages):
            page.emulate_media(color_scheme="dark" if index % 2 else "light")
            page.set_viewport_size({"width": 390, "height": 844})
            page.goto(address + name, wait_until="load")
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, f"{name} is {wide} px wider than a phone"
        page.goto(address + "gallery.html", wait_until="load")
        page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
        page.wait_for_load_state("networkidle")
        sizes = page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert min(sizes) > 0
    assert len(asked) > len(pages)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []


def test_pages_open_from_a_folder(site: Path) -> None:
    """Without a server, too: styles and pictures load, and nothing else is asked for."""
    asked: list[str] = []
    with browser.window() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri(), wait_until="load")
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        assert page.evaluate("document.styleSheets.length") > 0
        page.get_by_role("link", name="Gallery").first.click()
        assert page.title().startswith("Gallery")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
