"""What the description of the interface says besides what FastAPI reads from the code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from srsdk.serving.answers import KINDS
from srsdk.serving.http.forms import FIELD

Responses: TypeAlias = dict[int | str, dict[str, Any]]
"""By status."""
DESCRIPTION = """Upscales pictures with the model `{model}`: each side grows by {scale}.

    curl -F image=@photo.jpg -o large.png 'http://127.0.0.1:8000/'
    curl --data-binary @photo.jpg -o large.jpg 'http://127.0.0.1:8000/?format=jpeg&quality=90'

Options stand in the query or in the form. URLs are never fetched. Every error is JSON:
`{{"error": "one sentence"}}`.
"""
_FILE = {"type": "string", "format": "binary"}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "One sentence."}},
}
_REFUSALS = {
    400: "The request or its form is broken.",
    403: "It comes from a page of another site.",
    408: "The body arrived too slowly.",
    413: "The body is too large.",
    415: "The body is of a type that holds no picture.",
    421: "The Host header names another server.",
    422: "The picture is damaged, unsupported or too large, or an option is wrong.",
    500: "An error of the server.",
    503: "Too many pictures are in work; the header Retry-After says when to try again.",
    504: "The picture was not finished in time.",
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {**_FILE, "description": "The picture file."}},
            }
        },
        **{kind: {"schema": _FILE} for kind in ("application/octet-stream", "image/*")},
    },
}


def _errors(*statuses: int) -> Responses:
    content = {"application/json": {"schema": _ERROR}}
    return {each: {"description": _REFUSALS[each], "content": content} for each in statuses}


def told(summary: str, responses: Responses) -> dict[str, Any]:
    """Return the description of a route that tells something of the server."""
    return {"tags": ["state"], "summary": summary, "responses": responses}


def probe(summary: str) -> dict[str, Any]:
    """Return the description of a route for probes."""
    return told(summary, {**JSON, **_errors(503)})


JSON: Responses = {200: {"description": "A JSON object.", "content": {"application/json": {}}}}
TEXT: Responses = {200: {"description": "Text.", "content": {"text/plain": {}}}}
PICTURE: Mapping[str, Any] = MappingProxyType(
    {
        "tags": ["pictures"],
        "summary": "Upscale one picture",
        "openapi_extra": {"requestBody": _BODY},
        "responses": {
            200: {
                "description": "The upscaled picture.",
                "content": {kind: {"schema": _FILE} for kind in KINDS.values()},
            },
            **_errors(*_REFUSALS),
        },
    }
)
"""The description of the route for pictures."""
