"""Hooks of mkdocs: pages that lie elsewhere in the repository, and links between all of them."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from benchmarks.machine import ROOT
from benchmarks.publish.site import commands
from srsdk.cli.main import make_parser

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
    "training/experiments.md": "experiments.md",
    "training/small.md": "small.md",
}
"""Pages outside of `docs`, by the address that they get; the README's place is the start page."""
CARDS = "training/weights"
ABOUT = (
    "Generated from the program itself. Exit codes: 0 success, 1 something failed (the rest of a "
    "batch is still processed), 2 usage error, 130 Ctrl-C, 143 SIGTERM."
)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the command-line reference, the pages of `ELSEWHERE` and the model cards."""
    from mkdocs.structure.files import File

    made = {"cli.md": commands.reference(make_parser(), "Command line", ABOUT)}
    for source, address in pages().items():
        if address != "index.md":
            made[address] = (ROOT / source).read_text(encoding="utf-8")
    for address, text in made.items():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the site's pages; a link to any other file of the repository becomes text."""
    address = page.file.src_uri
    source = {there: here for here, there in pages().items()}.get(address, f"docs/{address}")
    if address == "index.md":
        source = "docs/index.md"
    return linked(markdown, source, address)


def pages() -> dict[str, str]:
    """Return the addresses of all pages outside of `docs`, by path in the repository."""
    cards = {
        path.relative_to(ROOT).as_posix(): f"cards/{path.name}"
        for path in sorted((ROOT / CARDS).glob("*.md"))
    }
    return {**ELSEWHERE, **cards}


def linked(markdown: str, source: str, address: str) -> str:
    """Return a page whose relative links lead to pages of the site.

    Args:
        markdown: text of the page.
        source: its path in the repository, which its links are relative to.
        address: its path in the site, which the new links are relative to.
    """
    known = pages()

    def replaced(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = known.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there is None:
            return text
        return f"[{text}]({posixpath.relpath(there, posixpath.dirname(address) or '.')}{anchor})"

    parts = re.split(r"(```.*?```)", markdown, flags=re.DOTALL)
    return "".join(
        part if index % 2 else LINK.sub(replaced, part) for index, part in enumerate(parts)
    )
