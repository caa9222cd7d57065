"""What is asked of a picture beside being larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from srsdk.errors import UsageError

Fit = Literal["contain", "cover", "fill"]
AlphaBy = Literal["model", "lanczos"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0", "keep"]


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How large the result becomes, how alpha is treated, how it is encoded, what it may cost.

    Raises:
        UsageError: a value outside of what its field says.
    """

    scale: float | None = None
    """Output size over input size, over 0 and up to 16. None: the model's own."""
    width: int | None = None
    """Width of the result in pixels; alone it keeps the aspect. Excludes `scale`."""
    height: int | None = None
    """Height of the result in pixels; alone it keeps the aspect. Excludes `scale`."""
    fit: Fit = "contain"
    """With both sides given: `contain` fits into the box, `cover` fills it and cuts off what stands
    out on two sides, `fill` stretches."""
    alpha: AlphaBy = "model"
    """How alpha is enlarged: by the `model`, as sharp as the picture, or by `lanczos`, which is
    free."""
    quality: int | Literal["keep", "lossless"] | None = None
    """Of JPEG, WebP and AVIF: 1 to 100; `keep`: a JPEG source's own tables and subsampling in a
    JPEG; `lossless`: WebP. None: 95, AVIF 90."""
    subsampling: Subsampling | None = None
    """Of the colours in JPEG and AVIF. None: 4:4:4, none at all."""
    max_memory_bytes: int | None = None
    """Memory that one picture may take. None: four fifths of what is available now."""

    def __post_init__(self) -> None:
        if self.scale is not None:
            if not _is_number(self.scale) or not 0 < self.scale <= 16:
                raise UsageError(f"scale is {self.scale!r}, expected over 0 and up to 16")
            if self.width is not None or self.height is not None:
                raise UsageError("scale excludes width and height: each says how large")
        for name in ("width", "height", "max_memory_bytes"):
            value = getattr(self, name)
            if value is not None and (not _is_whole(value) or value < 1):
                raise UsageError(f"{name} is {value!r}, expected a positive whole number")
        _choice("fit", self.fit, get_args(Fit))
        _choice("alpha", self.alpha, get_args(AlphaBy))
        if self.subsampling is not None:
            _choice("subsampling", self.subsampling, get_args(Subsampling))
        if _is_whole(self.quality) and not 1 <= int(self.quality or 0) <= 100:
            raise UsageError(f"quality is {self.quality}, expected 1 to 100")
        if not _is_whole(self.quality) and self.quality is not None:
            _choice("quality", self.quality, ("keep", "lossless", "1 to 100"))

    @property
    def resizes(self) -> bool:
        """Whether a size is asked for."""
        return not (self.scale is None and self.width is None and self.height is None)


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
