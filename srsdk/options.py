"""Options of an `Upscaler`, and of one picture: output size, alpha, encoding, memory limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, get_args

from srsdk.adoption.io import IO
from srsdk.budget import Budget
from srsdk.errors import UsageError

Backend = Literal["auto", "openvino", "onnxruntime", "tensorrt"]
Provider = Literal["cpu", "cuda", "coreml", "directml", "openvino", "tensorrt-rtx", "webgpu"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Optimize = Literal["latency", "throughput"]
Order = Literal["rgb", "bgr"]
Fit = Literal["contain", "cover", "fill"]
AlphaBy = Literal["model", "lanczos"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0", "keep"]


class UpscalerOptions(TypedDict, total=False):
    """The keyword arguments of `Upscaler` but `scale`, for functions that pass them on."""

    device: str
    devices: Sequence[int] | None
    backend: Backend
    provider: Provider | None
    tile: int | tuple[int, int] | Literal["auto"]
    slots: int | Literal["auto"]
    batch: int | Literal["auto"]
    threads: int | None
    optimize: Optimize
    max_memory: int | str | None
    precision: Precision
    tune: bool
    texture: float | None
    health: bool
    self_test: bool
    io: IO | None
    cache: bool
    budget: Budget | None


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Output size, channel order, treatment of alpha, encoding and memory limit of one picture.

    Raises:
        UsageError: a value is out of the range of its field.
    """

    scale: float | None = None
    """Output size over input size, above 0 and up to 16. None: the model's own scale."""
    width: int | None = None
    """Output width in pixels; without `height` the aspect ratio is kept. Not with `scale`."""
    height: int | None = None
    """Output height in pixels; without `width` the aspect ratio is kept. Not with `scale`."""
    fit: Fit = "contain"
    """With both width and height: `contain` fits into the box, `cover` fills it and crops what
    overflows, `fill` stretches."""
    alpha: AlphaBy = "model"
    """How alpha is enlarged: by the `model`, as sharp as the picture, or by `lanczos`, at almost no
    cost."""
    quality: int | Literal["keep", "lossless"] | None = None
    """Quality of JPEG, WebP and AVIF: 1 to 100; `keep`: a JPEG source's own tables and subsampling
    in a JPEG; `lossless`: WebP. None: 95, AVIF 90."""
    subsampling: Subsampling | None = None
    """Chroma subsampling in JPEG and AVIF. None: 4:4:4, no subsampling."""
    format: str | None = None
    """Format of a target that is an open file: `png`, `jpeg`, `webp`, `avif`, `tiff`, `gif` or
    another of Pillow's. None: the suffix of the target's path."""
    order: Order = "rgb"
    """Order of the color channels in arrays, given and returned: `bgr` is that of OpenCV. Files and
    PIL images have an order of their own."""
    inputs: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Numbers that the network takes beside the picture, such as a noise level, by name; those left
    out are the manifest's (`Manifest.inputs`)."""
    max_memory_bytes: int | None = None
    """Memory that one picture may use. None: four fifths of the memory available now."""

    def __post_init__(self) -> None:
        if self.scale is not None:
            if not _is_number(self.scale) or not 0 < self.scale <= 16:
                raise UsageError(f"scale is {self.scale!r}, expected above 0 and up to 16")
            if self.width is not None or self.height is not None:
                raise UsageError("scale cannot be combined with width or height")
        for name in ("width", "height", "max_memory_bytes"):
            value = getattr(self, name)
            if value is not None and (not _is_int(value) or value < 1):
                raise UsageError(f"{name} is {value!r}, expected a positive whole number")
        check_inputs(self.inputs)
        _choice("fit", self.fit, get_args(Fit))
        _choice("alpha", self.alpha, get_args(AlphaBy))
        _choice("order", self.order, get_args(Order))
        if self.format is not None and not isinstance(self.format, str):
            raise UsageError(f"format is {self.format!r}, expected a name such as 'png'")
        if self.subsampling is not None:
            _choice("subsampling", self.subsampling, get_args(Subsampling))
        if _is_int(self.quality) and not 1 <= int(self.quality or 0) <= 100:
            raise UsageError(f"quality is {self.quality}, expected 1 to 100")
        if not _is_int(self.quality) and self.quality is not None:
            _choice("quality", self.quality, ("keep", "lossless", "1 to 100"))

    @property
    def resizes(self) -> bool:
        """Whether an output size is requested."""
        return not (self.scale is None and self.width is None and self.height is None)


def check_inputs(inputs: Any) -> None:
    """Check numbers for a network by name.

    Raises:
        UsageError: not finite numbers by name.
    """
    if not isinstance(inputs, Mapping):
        raise UsageError(f"inputs is {inputs!r}, expected numbers by name, such as {{'noise': 15}}")
    for name, value in inputs.items():
        if not _is_number(value) or not math.isfinite(value):
            raise UsageError(f"input {name} is {value!r}, expected a finite number")


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
