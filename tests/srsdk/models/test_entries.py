"""Test entries of openmodeldb: what is taken from them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from srsdk.errors import ModelError, UsageError
from srsdk.models.entries import read_entry
from srsdk.models.fetching import fetch
from srsdk.models.wanted import wanted
from tests.srsdk.models.packages import short
from tests.srsdk.models.server import Server


def entry(path: Path, *resources: dict[str, Any], **changes: Any) -> Path:
    """Write an entry with the fields of openmodeldb's schema."""
    values = {
        "name": "Foliage",
        "author": ["botanist", "gardener"],
        "license": "CC-BY-NC-SA-4.0",
        "tags": ["photo"],
        "description": "Leaves and grass.\n\nMore text.",
        "date": "2026-01-02",
        "architecture": "compact",
        "size": ["64nf"],
        "scale": 2,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": list(resources),
        "images": [],
        **changes,
    }
    path.write_text(json.dumps(values))
    return path


def resource(kind: str, digest: str | None, *urls: str) -> dict[str, Any]:
    """Return one file of an entry."""
    platform = "onnx" if kind == "onnx" else "pytorch"
    return {"platform": platform, "type": kind, "size": 100, "sha256": digest, "urls": list(urls)}


def test_an_entry_brings_hash_and_license(
    home: Path, model: Path, server: Server, tmp_path: Path
) -> None:
    """The ONNX file is taken, from its direct link; the card keeps what the entry says."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    path = entry(
        tmp_path / "2x-Foliage.json",
        resource("pth", "1" * 64, "https://example.com/a.pth"),
        resource("onnx", digest, "https://mega.nz/file/x", server.url("model.onnx")),
    )
    card = fetch(wanted("foliage", str(path), None))
    assert (card.license, card.author) == ("CC-BY-NC-SA-4.0", "botanist, gardener")
    assert (card.description, card.architecture) == ("Leaves and grass.", "compact")
    assert (card.scale, card.channels, card.sha256) == (2, 3, digest)
    assert card.source == server.url("model.onnx")
    assert (home / "foliage.onnx").read_bytes() == model.read_bytes()


def test_a_hash_that_disagrees(tmp_path: Path) -> None:
    """It is an error that shows both, not a choice."""
    path = entry(tmp_path / "a.json", resource("onnx", "1" * 64, "https://example.com/a.onnx"))
    with pytest.raises(UsageError, match=r"--sha256 is 2{64}, but .* says 1{64}"):
        wanted("foliage", str(path), "2" * 64)
    assert wanted("foliage", str(path), "1" * 64).sha256 == "1" * 64


def test_an_entry_without_hash(tmp_path: Path) -> None:
    """The hash is required all the same."""
    path = entry(tmp_path / "a.json", resource("onnx", None, "https://example.com/a.onnx"))
    with pytest.raises(UsageError, match="--sha256 is required and nothing was fetched"):
        wanted("foliage", str(path), None)
    assert wanted("foliage", str(path), "2" * 64).sha256 == "2" * 64


def test_links_to_pages(tmp_path: Path) -> None:
    """They are not opened: the command for the downloaded file is shown."""
    links = ("https://drive.google.com/file/d/1", "https://mega.nz/file/x")
    path = entry(tmp_path / "a.json", resource("pth", "1" * 64, *links))
    expected = r"fetch foliage --from FILE --sha256 1{64} --license CC-BY-NC-SA-4\.0$"
    with pytest.raises(ModelError, match=expected):
        wanted("foliage", str(path), None)


@pytest.mark.parametrize("url", ["http://example.com/a.onnx", "file:///a.onnx", "https://a@b/c"])
def test_links_that_are_not_opened(tmp_path: Path, url: str) -> None:
    """What an entry names is checked as what a user names."""
    path = entry(tmp_path / "a.json", resource("onnx", "1" * 64, url))
    with pytest.raises(UsageError):
        wanted("foliage", str(path), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "it has no list of resources"),
        (b'{"resources": []}', "offers no files, expected onnx, pth, safetensors"),
        (b'{"resources": [{"type": "param", "urls": ["https://a/b"]}]}', "offers param, expected"),
        (b'{"resources": [3, null, {"type": {}, "urls": 3}]}', "offers"),
        (b"[" * 30_000, "is not JSON"),
        (b" " * (2 << 20), "expected at most 1,048,576"),
    ],
    ids=short,
)
def test_files_that_are_no_entries(tmp_path: Path, content: bytes, message: str) -> None:
    """Each is one sentence."""
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_entry(path)


def test_values_of_other_types(tmp_path: Path) -> None:
    """They count as not stated."""
    path = entry(
        tmp_path / "a.json",
        resource("onnx", "short", "https://example.com/a.onnx"),
        **{"license": None, "author": 3, "scale": "2", "inputChannels": 99, "description": []},
    )
    found = read_entry(path)
    assert (found.license, found.author, found.scale, found.channels) == ("", "", None, None)
    assert (found.sha256, found.description) == ("", "")
