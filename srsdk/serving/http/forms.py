"""Find the picture in a request: the raw body, or the one file of a form."""

from __future__ import annotations

from typing import Any, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser, parse_options_header

from srsdk.serving.asgi import Refused, Scope, refusal, values
from srsdk.serving.bodies import Incoming

MAX_FIELDS = 16
"""Fields of a form besides the picture."""
FIELD_BYTES = 1024
FIELD = "image"
"""Name of the picture's field in the documentation; any name will do."""
HINT = "curl -F image=@photo.jpg, or curl --data-binary @photo.jpg"


class Upload(NamedTuple):
    """A picture file, and the other fields of its form."""

    picture: bytes
    fields: dict[str, str]


async def read_upload(scope: Scope, incoming: Incoming) -> Upload:
    """Receive the picture of a request.

    Raises:
        Refused: it is of a type that holds no picture, or the form is broken or has no file.
        Disconnected: the client has gone.
    """
    header = next(iter(values(scope, b"content-type")), "")
    kind = header.partition(";")[0].strip().lower()
    encoding = next(iter(values(scope, b"content-encoding")), "identity").strip().lower()
    if encoding != "identity":
        raise _unsupported(f"Content-Encoding {encoding[:60]!r} is not supported: {HINT}")
    if kind == "multipart/form-data":
        return await _read_form(header, incoming)
    # curl says that every body is a form unless it is told otherwise
    if kind in ("application/json", "application/xml") or kind.startswith(("text/", "multipart/")):
        raise _unsupported(f"expected a picture file, got {kind[:60]}: {HINT}")
    return Upload(_checked(await incoming.read()), {})


async def _read_form(header: str, incoming: Incoming) -> Upload:
    form = _Form()
    try:
        parser = form.parser(parse_options_header(header)[1].get(b"boundary"))
        while not incoming.complete:
            parser.write((await incoming()).get("body", b""))
    except FormParserError as error:
        sentence = f"the form is broken: {error}"
        raise Refused(refusal(400, sentence, connection="close")) from error
    if not form.complete:
        raise Refused(refusal(400, "the form breaks off before its end"))
    if form.picture is None:
        raise Refused(refusal(422, _missing(form.fields)))
    return Upload(_checked(form.picture), form.fields)


class _Form:
    """The parts of a form, as they arrive."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.picture: bytes | None = None
        self.complete = False

    def parser(self, boundary: bytes | None) -> FormParser:
        # files stay in memory: their size is limited, and a container's root may be read-only
        config = {"MAX_MEMORY_FILE_SIZE": float("inf"), "UPLOAD_ERROR_ON_BAD_CTE": True}
        return FormParser(
            "multipart/form-data",
            self._add_field,
            self._add_file,
            self._end,
            boundary=boundary,
            config=config,
        )

    def _add_file(self, file: Any) -> None:
        if self.picture is not None:
            raise FormParserError("it has more than one file; send one picture a request")
        # in memory, it needs no close; the parser may still flush it
        self.picture = file.file_object.getvalue()

    def _add_field(self, field: Any) -> None:
        name, text = (field.field_name or b""), (field.value or b"")
        if len(self.fields) >= MAX_FIELDS:
            raise FormParserError(f"it has more than {MAX_FIELDS} fields besides the picture")
        if len(name) + len(text) > FIELD_BYTES:
            raise FormParserError(f"a field that is no file has more than {FIELD_BYTES:,} bytes")
        self.fields[name.decode("utf-8", "replace")] = text.decode("utf-8", "replace")

    def _end(self) -> None:
        self.complete = True


def _missing(fields: dict[str, str]) -> str:
    if FIELD in fields:
        return f"{FIELD} is text, expected a file; curl sends one after @: -F image=@photo.jpg"
    return f"the form has no file: {HINT}"


def _checked(picture: bytes) -> bytes:
    if picture[:8].lower().startswith((b"http://", b"https://")):
        raise Refused(refusal(422, f"a URL is not fetched; send the picture itself: {HINT}"))
    return picture


def _unsupported(sentence: str) -> Refused:
    return Refused(refusal(415, sentence, connection="close"))
