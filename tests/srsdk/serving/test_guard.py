"""Requests under a foreign name or from pages of other sites are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsdk.serving.guard import LOOPBACK, Guard, Rules
from tests.srsdk.serving.clients import LOCAL, Headers, ask, scope_of

DEMO = Rules(hosts=LOOPBACK, same_port=True)
SERVER = Rules()
OURS = ("Origin", "http://127.0.0.1:7860")
FETCH = ("Sec-Fetch-Site", "cross-site")
LINK = (FETCH, ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer 200."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST:7860", "[::1]:7860"]
)
def test_our_names_pass(host: str) -> None:
    """With a page of our own as origin, and without any."""
    for headers in ([], [("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin")]):
        assert ask(Guard(app, DEMO), scope_of(headers=[("Host", host), *headers])).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example:7860", 421),
        ("evil.example", 421),
        ("127.0.0.1", 421),
        ("127.0.0.1:7861", 421),
        ("localhost.evil.example:7860", 421),
        ("localhost.:7860", 421),
        ("127.1:7860", 421),
        ("127.0.0.1:99999", 421),
        ("127.0.0.1:7860@evil.example", 400),
        ("127.0.0.1:7860, evil.example", 400),
        ("127.0.0.1:", 400),
        ("127.0.0.1:٧٨٦٠".encode().decode("latin-1"), 400),
        ("", 400),
    ],
)
def test_foreign_names_are_refused(host: str, status: int) -> None:
    """Whatever a page's name resolves to (DNS rebinding)."""
    answer = ask(Guard(app, DEMO), scope_of(headers=[("Host", host)]))
    assert answer.status == status
    assert "expected one" in answer.error


def test_one_host() -> None:
    """No Host, or two of them, is ambiguous."""
    for headers in ([], [LOCAL, ("Host", "evil.example")], [LOCAL, LOCAL]):
        assert ask(Guard(app, DEMO), scope_of(headers=headers)).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://evil.example")],
        [("Origin", "http://127.0.0.1:9000")],
        [("Origin", "http://localhost:7860")],
        [("Origin", "null")],
        [("Origin", "")],
        [("Origin", "http://127.0.0.1:7860.evil.example")],
        [("Origin", "chrome-extension://abcdef")],
        [OURS, ("Origin", "http://evil.example")],
        [FETCH],
        [OURS, FETCH],
        [("Sec-Fetch-Site", "same-site")],
        [FETCH, ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        [FETCH, ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
    ],
)
@pytest.mark.parametrize("path", ["/", "/gradio_api/upload", "/gradio_api/file=/etc/passwd"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_foreign_pages_are_refused(headers: Headers, path: str, method: str) -> None:
    """For each path and method; the answer says why."""
    answer = ask(Guard(app, DEMO), scope_of(path, [LOCAL, *headers], method))
    assert answer.status == 403
    assert "only pages of this server" in answer.error


def test_a_link_to_the_page_works() -> None:
    """A visitor may follow one from anywhere; nothing but the page itself is opened that way."""
    assert ask(Guard(app, DEMO), scope_of("/", [LOCAL, *LINK], "GET")).status == 200
    assert (
        ask(Guard(app, DEMO), scope_of("/gradio_api/file=x", [LOCAL, *LINK], "GET")).status == 403
    )
    assert ask(Guard(app, DEMO), scope_of("/", [LOCAL, *LINK], "POST")).status == 403


def test_websockets_are_refused() -> None:
    """Before the handshake, which servers answer with 403; from our own pages they pass."""
    scope = scope_of(headers=[LOCAL, ("Origin", "http://evil.example")], kind="websocket")
    assert ask(Guard(app, DEMO), scope).sent == [{"type": "websocket.close", "code": 1008}]
    assert ask(Guard(app, DEMO), scope_of(headers=[LOCAL, OURS], kind="websocket")).status == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("example.com", "https://example.com"),
        ("example.com:443", "https://example.com"),
        ("example.com", "http://example.com"),
        ("example.com:8443", "https://example.com:8443"),
        ("Example.COM", "https://example.com"),
    ],
)
def test_a_server_behind_a_proxy(host: str, origin: str) -> None:
    """The scheme is the proxy's; name and port must agree."""
    assert SERVER.check(scope_of(headers=[("Host", host), ("Origin", origin)])) is None
    refused = SERVER.check(scope_of(headers=[("Host", host), ("Origin", "https://example.org")]))
    assert refused is not None
    assert refused.status == 403


def test_named_hosts_and_origins() -> None:
    """A deployment may name the hosts that it serves and the pages that may use it."""
    rules = Rules(hosts=["example.com", "api.example.com:8000"], origins=["https://app.example/"])
    for host, passes in [
        ("example.com", True),
        ("example.com:9000", True),
        ("api.example.com:8000", True),
        ("api.example.com", False),
        ("127.0.0.1", False),
    ]:
        assert (rules.check(scope_of(headers=[("Host", host)])) is None) is passes
    page = [("Host", "example.com"), ("Origin", "https://app.example"), FETCH]
    assert rules.check(scope_of(headers=page)) is None
    assert rules.check(scope_of(headers=[page[0], FETCH])) is not None


@given(st.lists(st.tuples(st.sampled_from(["Host", "Origin", "Sec-Fetch-Site"]), st.binary())))
def test_any_bytes(headers: list[tuple[str, bytes]]) -> None:
    """Whatever stands in the headers, the answer is one of the four."""
    scope = scope_of(headers=[(name, text.decode("latin-1")) for name, text in headers])
    for rules in (DEMO, SERVER):
        answer = rules.check(scope)
        assert answer is None or answer.status in (400, 403, 421)
