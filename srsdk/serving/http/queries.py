"""What a request may ask for, in its query or in the fields of its form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srsdk.errors import UsageError
from srsdk.options import Fit, PictureOptions
from srsdk.serving.asgi import Refused, refusal

MAX_SIDE_PX = 65_535
"""Longest side that can be asked for: a JPEG ends there."""
MAX_QUOTED = 60
"""Characters of a wrong value that the answer repeats."""


class Query(BaseModel):
    """Format and size of one result."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[
        Literal["png", "jpeg", "jpg", "webp", "avif"] | None,
        Field(description="Format of the result. Without it: the `Accept` header's, else PNG."),
    ] = None
    quality: Annotated[
        Annotated[int, Field(ge=1, le=100)] | Literal["lossless"] | None,
        Field(description="JPEG, WebP, AVIF: 1 to 100; `lossless` for WebP. Default 95, AVIF 90."),
    ] = None
    scale: Annotated[
        float | None,
        Field(gt=0, le=16, description="Output size over input size. Default: the model's."),
    ] = None
    width: Annotated[
        int | None,
        Field(ge=1, le=MAX_SIDE_PX, description="Output width in pixels; alone keeps the aspect."),
    ] = None
    height: Annotated[
        int | None,
        Field(ge=1, le=MAX_SIDE_PX, description="Output height in pixels; alone keeps the aspect."),
    ] = None
    fit: Annotated[
        Fit | None,
        Field(description="With both sides: contain (default), cover (crops) or fill (stretches)."),
    ] = None

    def with_fields(self, fields: Mapping[str, str]) -> Query:
        """Return this query with the fields of a form added.

        Raises:
            Refused: a field is unknown, wrong, or in the query too.
        """
        given = self.model_dump(exclude_none=True)
        twice = sorted(given.keys() & fields.keys())
        if twice:
            raise Refused(refusal(422, f"{twice[0]} is both in the query and in the form"))
        try:
            return Query.model_validate({**given, **fields})
        except ValidationError as error:
            raise Refused(refusal(422, sentence_of(error.errors()))) from error

    def options(self, default: str) -> PictureOptions:
        """Return the options of the result; `default`: its format where the query names none.

        Raises:
            Refused: they contradict each other.
        """
        values = self.model_dump(exclude={"format"}, exclude_none=True)
        name = "jpeg" if self.format == "jpg" else self.format or default
        try:
            return PictureOptions(format=name, **values)
        except UsageError as error:
            raise Refused(refusal(422, str(error))) from error


def sentence_of(errors: Iterable[Any]) -> str:
    """Return one sentence about what pydantic found wrong."""
    found = [error for error in errors if error["loc"]]
    # a union reports one error for each of its members: the first is of the value as most know it
    names = dict.fromkeys(str(_name(error)) for error in found)
    first = [next(error for error in found if str(_name(error)) == name) for name in names]
    return "; ".join(map(_described, first)) or "the request is not valid"


def _name(error: Any) -> Any:
    inner = [part for part in error["loc"] if part not in ("query", "body")]
    return inner[0] if inner else error["loc"][0]


def _described(error: Any) -> str:
    name = str(_name(error))[:MAX_QUOTED]
    if error["type"] == "extra_forbidden":
        return f"{name!r} is not an option; expected {', '.join(Query.model_fields)}"
    got = str(error.get("input"))[:MAX_QUOTED]
    message = str(error["msg"])
    return f"{name} is {got!r}: {message[:1].lower()}{message[1:]}"
