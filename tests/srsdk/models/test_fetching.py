"""Test `fetch`: what is kept, what is refused, and that nothing is left of what failed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from http.client import HTTPMessage
from pathlib import Path
from urllib import request
from urllib.error import URLError

import numpy as np
import pytest

import srsdk
from srsdk.errors import ModelError, OutputError, TargetExistsError, UsageError
from srsdk.models import download, store
from srsdk.models.cards import Card
from srsdk.models.fetching import fetch
from srsdk.models.wanted import wanted
from tests.conftest import make_picture
from tests.disks import small_disk
from tests.srsdk.models.packages import short
from tests.srsdk.models.server import Server


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetched(source: str | Path, digest: str, name: str = "mine", **options: object) -> Card:
    """Fetch a model."""
    return fetch(wanted(name, str(source), digest), **options)  # type: ignore[arg-type]


def left(home: Path) -> list[str]:
    """Return the files in the folder of models."""
    return sorted(os.listdir(home)) if home.exists() else []


@pytest.mark.parametrize("path", ["model.onnx", "to/1", "to/5", "named"])
def test_a_model_from_a_url(home: Path, model: Path, server: Server, path: str) -> None:
    """It opens by its name and computes what the file computes; the card says where it is from."""
    url = server.url(path)
    card = fetched(url, sha256(model).upper(), license_text="MIT", author="A. Botanist")
    assert left(home) == ["mine.json", "mine.onnx"]
    assert (home / "mine.onnx").read_bytes() == model.read_bytes()
    assert card == srsdk.models.card("mine")
    about = (card.source, card.license, card.author, card.sha256, card.size_bytes)
    assert about == (url, "MIT", "A. Botanist", sha256(model), model.stat().st_size)
    picture = make_picture(12, 16)
    with srsdk.Upscaler("mine") as up:
        assert np.array_equal(up(picture), picture.repeat(2, 0).repeat(2, 1))
        assert (up.manifest.name, up.manifest.licence) == ("mine", "MIT")


def test_files_are_private(home: Path, model: Path) -> None:
    """Folder, model and card are for this user only."""
    if os.name != "posix":
        pytest.skip("modes mean nothing on Windows")
    fetched(model, sha256(model))
    modes = [path.stat().st_mode & 0o777 for path in (home, *sorted(home.iterdir()))]
    assert modes == [0o700, 0o600, 0o600]


def test_no_credentials_are_sent(home: Path, model: Path, server: Server) -> None:
    """Requests carry no cookie and no authorization, and go to this machine without a proxy."""
    fetched(server.url("to/2"), sha256(model))
    assert [path for path, _ in server.requests] == ["/to/2", "/to/1", "/model.onnx"]
    for _, headers in server.requests:
        assert not {"cookie", "authorization", "proxy-authorization"} & {
            name.lower() for name in headers
        }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("model.onnx", r"has SHA-256 [0-9a-f]{64} \([\d,]+ bytes\), expected 0{64}: nothing was"),
        ("page.onnx", "it is a web page: download the file in a browser$"),
        ("short.onnx", r"ended after [\d,]+ of [\d,]+ bytes: try again"),
        ("large.onnx", "has 3,000,000,000 bytes or more, expected at most 2,000,000,000: raise"),
        ("gone.onnx", "answers 404 Not Found"),
        ("to/6", "redirects more than 5 times, or in a circle"),
        ("to/http://192.0.2.1/a.onnx", "redirects to a URL that is not opened: http://192.0.2.1"),
        ("to/file:///a.onnx", "is not allowed"),
        ("to/https://a:b@192.0.2.1/a.onnx", "a URL with a user or a password is not opened"),
        ("plain", "does not say what kind of file it is"),
    ],
)
def test_bad_answers(home: Path, server: Server, path: str, message: str) -> None:
    """Each costs one sentence, and nothing is kept."""
    with pytest.raises(ModelError, match=message):
        fetched(server.url(path), "0" * 64)
    assert left(home) == []


def test_an_answer_without_end(home: Path, server: Server) -> None:
    """The limit holds while bytes arrive, not only for an announced size."""
    with pytest.raises(ModelError, match="expected at most 1,000,000: raise the limit"):
        fetched(server.url("endless.onnx"), "0" * 64, max_bytes=1_000_000)
    assert left(home) == []


def test_a_server_that_stalls(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after the timeout, and nothing is kept."""
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with pytest.raises(ModelError, match=r"has sent nothing for 0\.2 s, after 100 bytes"):
        fetched(server.url("stall.onnx"), "0" * 64)
    assert left(home) == []


def test_no_server(home: Path, server: Server) -> None:
    """A connection that is refused is one sentence."""
    url = server.url("model.onnx")
    server.stop()
    with pytest.raises(ModelError, match=r"cannot be opened: .*refused"):
        fetched(url, "0" * 64)
    assert left(home) == []


def test_https_is_not_left() -> None:
    """A redirect from https leads to https, even where http of this machine may be opened."""
    follow = download._Redirects().redirect_request
    start = request.Request("https://example.com/a.onnx")
    start.add_header("Proxy-authorization", "Basic secret")

    def redirected(url: str) -> object:
        return follow(start, None, 302, "Found", HTTPMessage(), url)  # type: ignore[arg-type]

    new = redirected("https://example.org/b.onnx")
    assert isinstance(new, request.Request)
    assert new.full_url == "https://example.org/b.onnx"
    assert not new.has_header("Proxy-authorization")
    with pytest.raises(URLError, match="redirects from https to http://127"):
        redirected("http://127.0.0.1/b.onnx")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_fetch_that_is_stopped(
    home: Path, model: Path, server: Server, stop: type[BaseException]
) -> None:
    """Ctrl-C while bytes arrive leaves no file, and the next attempt works."""

    def report(done: int, total: int) -> None:
        assert 0 < done <= total == model.stat().st_size
        raise stop

    with pytest.raises(stop):
        fetched(server.url("model.onnx"), sha256(model), report=report)
    assert left(home) == []
    fetched(server.url("model.onnx"), sha256(model))


@pytest.mark.parametrize("broken", ["rename", "remove"])
def test_a_fetch_that_is_stopped_at_its_end(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Also between the file and its card: there is a whole model or none."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, broken, stop)
        with pytest.raises(KeyboardInterrupt):
            fetched(model, sha256(model))
    assert left(home) == []


def test_a_full_disk(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs one sentence that names the folder, and nothing is kept."""
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("SRSDK_MODELS", str(disk / "models"))
        for source in (server.url("endless.onnx"), None):
            if source is None:
                (tmp_path / "big.onnx").write_bytes(bytes(1 << 18))
                source = str(tmp_path / "big.onnx")
            with pytest.raises(OutputError, match=r"models cannot be written: No space left"):
                fetched(source, "0" * 64)
            assert left(disk / "models") == []


def test_a_model_that_is_there(home: Path, model: Path) -> None:
    """It is replaced by --force only, and then completely."""
    fetched(model, sha256(model))
    with pytest.raises(TargetExistsError, match="there is a model 'mine' already: force=True"):
        fetched(model, sha256(model))
    weights = model.with_name("weights.pth")
    weights.write_bytes(b"weights")
    fetched(weights, sha256(weights), force=True)
    assert left(home) == ["mine.json", "mine.pth"]
    with pytest.raises(ModelError, match=r"expected 0{64}"):
        fetched(model, "0" * 64, force=True)
    assert left(home) == ["mine.json", "mine.pth"]


def test_two_at_once(home: Path, model: Path) -> None:
    """A second fetch of one name is refused while the first runs."""
    messages: list[str] = []

    def report(_: int, __: int) -> None:
        def second() -> None:
            try:
                fetched(model, sha256(model), force=True)
            except OutputError as error:
                messages.append(str(error))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    fetched(model, sha256(model), report=report)
    assert messages[0] == "another process is fetching 'mine': wait for it, then try again"
    assert left(home) == ["mine.json", "mine.onnx"]


def test_a_file_that_is_no_model(home: Path, tmp_path: Path) -> None:
    """A matching hash is not enough; the message names the user's file."""
    path = tmp_path / "text.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(ModelError, match=r"text\.onnx is not an ONNX model"):
        fetched(path, sha256(path))
    assert left(home) == []


def test_weights_are_kept_and_explained(home: Path, tmp_path: Path) -> None:
    """A checkpoint is stored; opening it says how to export it."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    fetched(path, sha256(path), license_text="CC-BY-NC-4.0")
    with pytest.raises(ModelError, match=r"python -m export \S+mine\.safetensors -o models"):
        srsdk.Upscaler("mine")
    (info,) = (each for each in srsdk.list_models() if each.name == "mine")
    assert (info.scale, info.license, info.origin) == (None, "CC-BY-NC-4.0", "fetched")


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_every_open_verifies_the_hash(home: Path, model: Path, damage: str) -> None:
    """A file that was changed or removed after it was fetched does not open."""
    fetched(model, sha256(model))
    target = home / "mine.onnx"
    if damage == "missing":
        target.unlink()
    else:
        target.write_bytes(target.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"it was changed; srsdk fetch mine|cannot be read"):
        srsdk.Upscaler("mine")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.com/a.onnx", r"nothing was fetched: .*GitHub.*--sha256 HEX$"),
        ("nearest.onnx", r"nearest\.onnx has ([0-9a-f]{64}); .*--sha256 \1$"),
    ],
)
def test_the_hash_is_required(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    """Without it the command to copy is shown: of a file with the hash that it has."""
    monkeypatch.chdir(model.parent)
    with pytest.raises(UsageError, match=message):
        wanted("mine", source, None)
    assert left(home) == []


@pytest.mark.parametrize(
    "source",
    [
        *("http://example.com/a.onnx", "ftp://example.com/a.onnx", "file:///a.onnx"),
        *("https://a:b@example.com/a.onnx", "https://a@example.com/a.onnx", "https:///a.onnx"),
        *("https://[::1/a.onnx", "https://example.com/a b.onnx", "http://127.0.0.1.example.com/a"),
        *("http://localhost.example.com/a.onnx", "https://example.com/\n/a.onnx"),
    ],
)
def test_urls_that_are_not_opened(source: str) -> None:
    """Other schemes, http of other machines, credentials, and what is no URL."""
    with pytest.raises(UsageError):
        wanted("mine", source, "0" * 64)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a\\b", "-a", "a b", "ä", "x" * 101])
def test_names(model: Path, name: str) -> None:
    """A name is no path and no option."""
    with pytest.raises(UsageError, match="the name is"):
        wanted(name, str(model), sha256(model))


@pytest.mark.parametrize("name", ["gan_x4", "GAN_X4", "gan_x4.int8", "mine.onnx", "mine.PTH"])
def test_names_that_are_taken(model: Path, name: str) -> None:
    """No model takes the name of a shipped one, in whatever case, or that of a file."""
    with pytest.raises(UsageError, match=r"of a shipped model|without suffix: mine"):
        wanted(name, str(model), sha256(model))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 20_000,
        json.dumps({"name": "other", "path": "mine.onnx"}).encode(),
        json.dumps({"name": "mine", "path": "../mine.onnx"}).encode(),
        json.dumps({"name": "mine", "path": "mine.sh"}).encode(),
        b" " * 70_000,
    ],
    ids=short,
)
def test_damaged_cards(home: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """They cost the model that they are of, one sentence, and no other model."""
    home.mkdir()
    (home / "mine.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"mine\.json is damaged: .*srsdk remove mine"):
        srsdk.Upscaler("mine")
    assert all(each.name != "mine" for each in srsdk.list_models())
    assert "mine.json is damaged" in caplog.text
    assert store.remove("mine")
    assert left(home) == []


def test_a_folder_that_everybody_may_write(home: Path, model: Path) -> None:
    """Its models are not opened."""
    if os.name != "posix":
        pytest.skip("modes mean nothing on Windows")
    fetched(model, sha256(model))
    home.chmod(0o777)
    with pytest.raises(ModelError, match="every user can write there; chmod o-w"):
        srsdk.Upscaler("mine")


def test_no_folder(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty `SRSDK_MODELS` means none, and a file in its place is one sentence."""
    monkeypatch.setenv("SRSDK_MODELS", "")
    assert store.names() == []
    with pytest.raises(OutputError, match="set SRSDK_MODELS=FOLDER"):
        fetched(model, sha256(model))
    monkeypatch.setenv("SRSDK_MODELS", str(model))
    with pytest.raises(OutputError, match="SRSDK_MODELS to another folder"):
        fetched(model, sha256(model))


def test_an_engine_has_its_hash_beside_it(home: Path, tmp_path: Path) -> None:
    """So that what opens engines finds it."""
    path = tmp_path / "plan.engine"
    path.write_bytes(b"ptrt" + bytes(1000))
    fetched(path, sha256(path))
    assert left(home) == ["mine.engine", "mine.engine.sha256", "mine.json"]
    assert (home / "mine.engine.sha256").read_text() == f"{sha256(path)}  mine.engine\n"
    store.remove("mine")
    assert left(home) == []
