"""Answers and types of ASGI, the interface of Python's HTTP servers (asgi.readthedocs.io)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """A complete HTTP response."""

    status: int
    body: bytes
    kind: str = "application/json"
    """Its media type."""
    headers: tuple[tuple[str, str], ...] = ()
    pixels: tuple[int, int] | None = None
    """Of the picture and its result, where there is one."""

    @property
    def all_headers(self) -> dict[str, str]:
        """Headers by name; a browser must not guess another media type."""
        return {
            "content-type": self.kind,
            "content-length": str(len(self.body)),
            "x-content-type-options": "nosniff",
            **dict(self.headers),
        }


class Refused(Exception):  # noqa: N818 - says what happened to the request
    """Ends a request with an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Disconnected(Exception):  # noqa: N818 - says what happened to the request
    """The client has gone; nobody reads an answer."""


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """Return a JSON answer; underscores in header names become hyphens."""
    pairs = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    return Answer(status, json.dumps(value).encode(), headers=pairs)


def refusal(status: int, sentence: str, **headers: str) -> Answer:
    """Return the answer that says what was wrong with a request."""
    return json_answer({"error": sentence}, status, **headers)


def values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of all headers of a name, which is given in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a complete response."""
    headers = [(name.encode(), text.encode()) for name, text in answer.all_headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
