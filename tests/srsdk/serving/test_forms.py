"""Pictures in forms and raw bodies, and what else a client may send there."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srsdk.serving.app import make_app
from srsdk.serving.http.door import Door
from srsdk.serving.http.forms import FIELD_BYTES, MAX_FIELDS
from tests.conftest import make_picture
from tests.srsdk.serving.clients import LOCAL, Connection, Headers, ask, encoded, form, scope_of

PHOTO = encoded(Image.fromarray(make_picture(20, 24)))


@pytest.fixture(scope="module")
def service() -> Iterator[Door]:
    """Open one service."""
    app = make_app("gan_x2")
    yield app
    app.close()


def send(service: Door, body: bytes, *headers: tuple[str, str], path: str = "/") -> Connection:
    """Send a body in three parts."""
    third = len(body) // 3
    parts = [body[:third], body[third : 2 * third], body[2 * third :]]
    return ask(service, scope_of(path, [LOCAL, *headers]), Connection(parts))


@pytest.mark.parametrize("name", ["image", "file", ""])
def test_a_form(service: Door, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one file is the picture, whatever its field is called; nothing is written to a disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    noise = encoded(Image.effect_noise((1500, 1500), 90))
    for photo in (PHOTO, noise[: 2 << 20]):
        body, header = form((name, photo, "photo.png"))
        answer = send(service, body, header)
        assert answer.status == (200 if photo is PHOTO else 422)
    with Image.open(io.BytesIO(send(service, PHOTO).body)) as image:
        assert image.size == (48, 40)


@pytest.mark.parametrize(
    ("query", "kind", "size"),
    [
        ("", "PNG", (48, 40)),
        ("format=jpeg&quality=50", "JPEG", (48, 40)),
        ("format=jpg", "JPEG", (48, 40)),
        ("format=webp&quality=lossless", "WEBP", (48, 40)),
        ("format=avif", "AVIF", (48, 40)),
        ("scale=3.5", "PNG", (84, 70)),
        ("width=60", "PNG", (60, 50)),
        ("height=10", "PNG", (12, 10)),
        ("width=60&height=60", "PNG", (60, 50)),
        ("width=60&height=60&fit=cover", "PNG", (60, 60)),
    ],
)
def test_options(service: Door, query: str, kind: str, size: tuple[int, int]) -> None:
    """In the query of a raw body, in that of a form, and in its fields, they mean the same."""
    fields = [tuple(each.split("=")) for each in query.split("&") if each]
    photo = ("image", PHOTO, "photo.png")
    with_fields, header = form(*((name, text.encode()) for name, text in fields), photo)
    plain, _ = form(photo)
    answers = [
        send(service, PHOTO, path=f"/?{query}"),
        send(service, plain, header, path=f"/?{query}"),
        send(service, with_fields, header),
    ]
    for answer in answers:
        assert answer.status == 200
        with Image.open(io.BytesIO(answer.body)) as image:
            assert (image.format, image.size) == (kind, size)
    assert len({answer.body for answer in answers}) == 1


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("format=bmp", "format is 'bmp'"),
        ("quality=101", "quality is '101': input should be less than or equal to 100"),
        ("quality=best", "quality is 'best'"),
        ("scale=0", "scale is '0'"),
        ("scale=nan", "scale is 'nan'"),
        ("width=-1", "width is '-1'"),
        ("width=65536", "width is '65536'"),
        ("width=1e9", "width is '1e9'"),
        ("model=gan_x4", "'model' is not an option; expected format, quality, scale"),
        ("url=http://example.com/a.png", "'url' is not an option"),
        ("scale=2&width=9", "scale cannot be combined with width or height"),
        ("width=" + "9" * 5000, "width is '9999"),
        ("width=65535&height=65535&fit=fill", "the result would have 4,294,836,225 pixels"),
    ],
)
def test_wrong_options(service: Door, query: str, sentence: str) -> None:
    """Each is named in one short sentence, from the query and from a form."""
    fields = [each.partition("=") for each in query.split("&")]
    parts = [(name, text.encode()) for name, _, text in fields]
    body, header = form(*parts, ("image", PHOTO, "photo.png"))
    for answer in (send(service, PHOTO, path=f"/?{query}"), send(service, body, header)):
        assert answer.status in (400, 422)
        assert len(answer.error) < 300
        if answer.status == 422:
            assert sentence in answer.error


def test_an_option_twice(service: Door) -> None:
    """In query and form it would be unclear which one counts."""
    body, header = form(("format", b"webp"), ("image", PHOTO, "photo.png"))
    answer = send(service, body, header, path="/?format=png")
    assert (answer.status, answer.error) == (422, "format is both in the query and in the form")


FILE = ("image", PHOTO, "photo.png")
FORMS = [
    (form()[0], 422, "the form has no file"),
    (form(("image", b"photo.png"))[0], 422, "-F image=@photo.jpg"),
    (form(FILE, FILE)[0], 400, "more than one file"),
    (form(*[(f"f{n}", b"x") for n in range(1000)])[0], 400, f"more than {MAX_FIELDS} fields"),
    (form(*[("image", b"x", "x.png")] * 1000)[0], 400, "more than one file"),
    (form(("format", b"x" * FIELD_BYTES), FILE)[0], 400, f"more than {FIELD_BYTES:,} bytes"),
    (form(FILE)[0][:-9], 400, "breaks off"),
    (form(FILE)[0][:60], 400, "breaks off"),
    (b"", 400, "breaks off"),
    (b"no form", 400, "the form is broken"),
    (form(FILE)[0].replace(b'name="image"; ', b""), 400, "the form is broken"),
    (form(("x" * 100_000, PHOTO, "a.png"))[0], 400, "the form is broken"),
    (form(("image", b"https://example.com/a.png", "a.png"))[0], 422, "a URL is not fetched"),
    (form(("image", b"not a picture", "a.png"))[0], 422, "not a picture"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), FORMS)
def test_broken_forms(service: Door, body: bytes, status: int, sentence: str) -> None:
    """Each is answered with one sentence that says what to send."""
    answer = send(service, body, form()[1])
    assert answer.status == status
    assert sentence in answer.error


@pytest.mark.parametrize("header", ["multipart/form-data", "multipart/form-data; boundary="])
def test_forms_without_a_boundary(service: Door, header: str) -> None:
    """They cannot be read, and it is said."""
    answer = send(service, form(FILE)[0], ("Content-Type", header))
    assert answer.status == 400
    assert "the form is broken" in answer.error


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Type", "application/json")],
        [("Content-Type", "text/plain; charset=utf-8")],
        [("Content-Type", "multipart/mixed; boundary=B")],
        [("Content-Encoding", "gzip")],
    ],
)
def test_bodies_that_hold_no_picture(service: Door, headers: Headers) -> None:
    """They are refused by their type, before they are read, with a command that works."""
    connection = Connection([b'{"url": "https://example.com/a.png"}'])
    answer = ask(service, scope_of(headers=[LOCAL, *headers]), connection)
    assert answer.status == 415
    assert "curl -F image=@photo.jpg" in answer.error
    assert connection.received == 0


def test_an_address_as_body(service: Door) -> None:
    """Nothing is fetched, and it is said."""
    answer = send(service, b"HTTPS://example.com/a.png")
    assert (answer.status, "a URL is not fetched" in answer.error) == (422, True)


def test_any_form(service: Door) -> None:
    """Whatever is cut or changed in a form, the answer is a picture or a sentence."""
    whole, header = form(("format", b"png"), FILE)

    @given(st.integers(0, len(whole)), st.binary(max_size=20))
    def check(at: int, other: bytes) -> None:
        answer = send(service, whole[:at] + other + whole[at + len(other) :], header)
        assert answer.status in (200, 400, 422)
        assert answer.status == 200 or answer.error

    check()
