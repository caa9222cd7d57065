"""Open one URL: https, or http of this machine; no other scheme, no credentials, few redirects."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit

from srsdk.errors import ModelError, UsageError
from srsdk.system.text import plain

MAX_REDIRECTS = 5
TIMEOUT_S = 30.0
"""Longest wait for a connection, and for the next bytes."""
BLOCK_BYTES = 1 << 18


class Body:
    """The body of an answer, read in blocks and held against the size that was announced."""

    def __init__(self, response: HTTPResponse, url: str) -> None:
        self._response, self._url = response, url
        self.final_url = response.geturl()
        """After redirects."""
        self.file_name = response.headers.get_filename() or ""
        """What the server calls the file."""
        self.is_page = response.headers.get_content_type() == "text/html"
        """Whether it is a web page, and so no model."""
        length = response.headers.get("Content-Length", "")
        self.size_bytes = int(length) if length.isascii() and length.isdigit() else 0
        """Announced size; 0: not announced."""

    def blocks(self) -> Iterator[bytes]:
        """Yield the content.

        Raises:
            ModelError: the connection failed, nothing came for `TIMEOUT_S`, or bytes are missing.
        """
        received = 0
        while True:
            try:
                block = self._response.read1(BLOCK_BYTES)
            except TimeoutError as error:
                raise ModelError(
                    f"{self._url} has sent nothing for {TIMEOUT_S:g} s, after {received:,} bytes: "
                    "try again"
                ) from error
            except (OSError, HTTPException) as error:
                raise ModelError(
                    f"{self._url} failed after {received:,} bytes: {_reason(error)}: try again"
                ) from error
            if not block:
                break
            received += len(block)
            yield block
        if received < self.size_bytes:
            raise ModelError(
                f"{self._url} ended after {received:,} of {self.size_bytes:,} bytes: try again"
            )


@contextmanager
def open_url(url: str) -> Iterator[Body]:
    """Open a URL; proxies are those of `https_proxy` and `no_proxy`, as urllib reads them.

    Raises:
        UsageError: another scheme, or credentials in the URL.
        ModelError: no connection, an error of the server, or a redirect that is not followed.
    """
    parts = check_url(url)
    handlers: list[request.BaseHandler] = [
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _Redirects(),
    ]
    if not is_loopback(parts):
        handlers.append(request.ProxyHandler())
    # not `build_opener`, which adds file, ftp and data
    opener = request.OpenerDirector()
    for handler in handlers:
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "srsdk"), ("Accept", "*/*")]
    try:
        response = opener.open(url, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()
        raise ModelError(plain(f"{url} answers {error.code} {error.reason}")) from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise ModelError(f"{url} cannot be opened: {_reason(error)}") from error
    if response is None:
        raise ModelError(f"{url} cannot be opened")
    with response:
        yield Body(response, url)


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that may be opened.

    Raises:
        UsageError: neither https nor http of this machine, or with credentials.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise UsageError(f"{url!r} is not a URL: {error}") from error
    if any(c.isspace() or not c.isprintable() for c in url) or not host:
        raise UsageError(f"{url!r} is not a URL such as https://example.com/model.onnx")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "a URL with a user or a password is not opened, because it is stored and shown: "
            "download the file, then pass it with --from FILE"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts)):
        raise UsageError(
            f"{url} begins with {parts.scheme}://, expected https:// (http:// only of this machine)"
        )
    return parts


def is_loopback(parts: SplitResult) -> bool:
    """Return whether a URL names this machine."""
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Redirects(request.HTTPRedirectHandler):
    """Follows few redirects, and none that leaves https."""

    def redirect_request(
        self,
        req: request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> request.Request | None:
        """Check where a redirect leads."""
        try:
            target = check_url(newurl)
        except UsageError as error:
            raise URLError(f"it redirects to a URL that is not opened: {error}") from error
        if req.type == "https" and target.scheme != "https":
            raise URLError(f"it redirects from https to {newurl}")
        visited = getattr(req, "redirect_dict", {})
        if len(visited) >= MAX_REDIRECTS or newurl in visited:
            raise URLError(f"it redirects more than {MAX_REDIRECTS} times, or in a circle")
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            # meant for the proxy; the new host may be one that needs none
            new.remove_header("Proxy-authorization")
        return new


def _reason(error: BaseException) -> str:
    cause: Any = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    return str(cause) or type(cause).__name__
