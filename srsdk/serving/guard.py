"""Refuse what web pages of others send: foreign `Host` and `Origin` headers.

A page on any site can make the visitor's browser send requests to this machine. The browser says
where they come from in `Origin` and `Sec-Fetch-Site`, which a page cannot change (Fetch standard;
W3C Fetch Metadata). A page whose name was made to resolve to 127.0.0.1 (DNS rebinding) is of the
same origin, but its name is in `Host`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from srsdk.serving.asgi import Answer, App, Receive, Scope, Send, refusal, send_answer, values

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PORTS = {"http": 80, "https": 443}
_AUTHORITY = r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?"
_HOST = re.compile(_AUTHORITY, re.ASCII)
_ORIGIN = re.compile(rf"(https?)://{_AUTHORITY}", re.ASCII)


class Rules:
    """Which requests may pass: those under our name and from our own pages.

    Args:
        hosts: names in `Host` that are served, with `:PORT` or for any port; None: all.
        same_port: whether the port in `Host` must be the one that the server listens on.
        origins: pages on other hosts that may use the service, such as `https://example.com`.
    """

    def __init__(
        self,
        *,
        hosts: Collection[str] | None = None,
        same_port: bool = False,
        origins: Collection[str] = (),
    ) -> None:
        self._same_port = same_port
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def check(self, scope: Scope) -> Answer | None:
        """Return the answer to a request that is refused, or None."""
        found = values(scope, b"host")
        host = _HOST.fullmatch(found[0].lower()) if len(found) == 1 else None
        if host is None:
            return refusal(400, "expected one Host header with a host name", connection="close")
        if not self._serves(host, scope):
            return refusal(421, self._misdirected(found[0], scope), connection="close")
        trusted = False
        for origin in values(scope, b"origin"):
            trusted = origin.lower() in self._origins
            if not trusted and not _is_same(origin.lower(), host):
                return _foreign(f"from a page of {origin[:200]}")
        sites = [site.lower() for site in values(scope, b"sec-fetch-site")]
        if trusted or set(sites) <= {"same-origin", "none"} or _is_navigation(scope):
            return None
        return _foreign("from a page of another site")

    def _serves(self, host: re.Match[str], scope: Scope) -> bool:
        if self._hosts is not None and not {host[0], host[1]} & self._hosts:
            return False
        port = (scope.get("server") or (None, None))[1]
        return not self._same_port or port is None or int(host[2] or PORTS["http"]) == port

    def _misdirected(self, host: str, scope: Scope) -> str:
        port = (scope.get("server") or (None, None))[1]
        suffix = f":{port}" if self._same_port else ""
        names = ", ".join(f"{name}{suffix}" for name in sorted(self._hosts or ("any name",)))
        return f"the Host header is {host[:200]}, expected one of: {names}"


class Guard:
    """ASGI middleware that answers what the rules refuse, WebSockets included."""

    def __init__(self, app: App, rules: Rules) -> None:
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        answer = None if scope["type"] == "lifespan" else self._rules.check(scope)
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            # before the handshake is accepted, servers turn this into status 403
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send_answer(send, answer)


def _foreign(where: str) -> Answer:
    sentence = f"the request comes {where}; only pages of this server may send requests to it"
    return refusal(403, sentence, connection="close")


def _is_same(origin: str, host: re.Match[str]) -> bool:
    """Compare an Origin with Host. A proxy that ends TLS hides the scheme from us."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    usual = PORTS[found[1]]
    return found[2] == host[1] and int(found[3] or usual) == int(host[2] or usual)


def _is_navigation(scope: Scope) -> bool:
    """Whether the visitor follows a link to the first page, which neither reads nor changes it."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and scope["path"] == "/"
        and values(scope, b"sec-fetch-mode") == ["navigate"]
        and values(scope, b"sec-fetch-dest") == ["document"]
    )
