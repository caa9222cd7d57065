"""`IO`: what a network from elsewhere reads and writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from srsdk.errors import UsageError

Order = Literal["rgb", "bgr"]
Layout = Literal["NCHW", "NHWC"]
Alpha = Literal["network", "apart"]
Range: TypeAlias = float | tuple[float, float]
PerChannel: TypeAlias = float | tuple[float, ...]

MAX_MULTIPLE_PX = 256


@dataclass(frozen=True, kw_only=True)
class IO:
    """What a network from elsewhere reads and writes; None: found out when the file is opened.

    The network reads `(low + (high - low) * level / 255 - mean) / std` for levels of 0 to 255, and
    writes the same unless `output_range` says otherwise.

    Raises:
        UsageError: a value is out of the range of its field.
    """

    range: Range | None = None
    """Values of black and white before `mean` and `std`: 1 is (0, 1), 255 is (0, 255)."""
    mean: PerChannel | None = None
    """Subtracted, for all channels or for each, in the network's own order."""
    std: PerChannel | None = None
    """Divides after `mean`."""
    output_range: Range | None = None
    """Values of black and white in the output, without mean and std."""
    order: Order | None = None
    """Order of the color channels."""
    output_order: Order | None = None
    """Order of the color channels in the output, if it is another."""
    layout: Layout | None = None
    """Order of the axes: batch, channels, height, width, or batch, height, width, channels."""
    alpha: Alpha | None = None
    """Of networks with four channels: `network` feeds them color and alpha, `apart` color with an
    opaque alpha, and enlarges alpha like that of any picture."""
    multiple: int | None = None
    """Height and width must be multiples of this; pictures are mirrored up to it, and cut."""
    input: str | None = None
    """Name of the input that takes the picture, if there are several."""
    output: str | None = None
    """Name of the output with the picture, if there are several."""
    inputs: Mapping[str, float | tuple[float, float]] = field(default_factory=dict, hash=False)
    """Numbers that the network takes beside the picture, with their defaults, by the keyword of a
    call: {"noise": 15}. With (15, 255) a call gives 0 to 255 and the network reads value / 255. A
    keyword is the input's name; if none is, the keywords name the further inputs in their order."""

    @property
    def ranges(self) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        """Black and white in input and output."""
        return _range("range", self.range), _range("output_range", self.output_range)

    @property
    def normalization(self) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        """Mean and std, one value or one for each channel."""
        return _per_channel("mean", self.mean), _per_channel("std", self.std)

    def __post_init__(self) -> None:
        for name in ("range", "output_range"):
            object.__setattr__(self, name, _range(name, getattr(self, name)))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _per_channel(name, getattr(self, name)))
        for name, kind in (("order", Order), ("output_order", Order), ("layout", Layout),
                           ("alpha", Alpha)):  # fmt: skip
            value, allowed = getattr(self, name), get_args(kind)
            if value is not None and value not in allowed:
                raise UsageError(f"io: {name} is {value!r}, expected {' or '.join(allowed)}")
        if self.multiple is not None and not (
            type(self.multiple) is int and 1 <= self.multiple <= MAX_MULTIPLE_PX
        ):
            expected = f"a whole number from 1 to {MAX_MULTIPLE_PX}"
            raise UsageError(f"io: multiple is {self.multiple!r}, expected {expected}")
        for name in ("input", "output"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"io: {name} is {getattr(self, name)!r}, expected a name")
        # a plain dict: it goes to other processes
        object.__setattr__(self, "inputs", _inputs(self.inputs))


def _range(name: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    pair = (0, value) if _is_number(value) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(map(_is_number, pair)):
        raise UsageError(
            f"io: {name} is {value!r}, expected white's value, such as 1 or 255, or (black, white)"
        )
    if pair[0] == pair[1]:
        raise UsageError(f"io: {name} is {value!r}, expected two different values")
    return float(pair[0]), float(pair[1])


def _per_channel(name: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    values = (value,) if _is_number(value) else value
    if (
        not isinstance(values, (tuple, list))
        or len(values) not in (1, 3, 4)
        or not all(map(_is_number, values))
    ):
        raise UsageError(f"io: {name} is {value!r}, expected a number, or one for each channel")
    if name == "std" and not all(values):
        raise UsageError(f"io: std is {value!r}, expected numbers other than 0")
    return tuple(float(each) for each in values)


def _inputs(value: Any) -> dict[str, tuple[float, float]]:
    if not isinstance(value, Mapping):
        raise UsageError(f"io: inputs is {value!r}, expected numbers by name: {{'noise': 15}}")
    found = {}
    for name, number in value.items():
        pair = (number, 1) if _is_number(number) else number
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(f"io: input {name!r} cannot be a keyword of a call, such as 'noise'")
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
        if not is_pair or not all(map(_is_number, pair)) or not pair[1]:
            raise UsageError(f"io: input {name} is {number!r}, expected its default, or "
                             "(default, divisor)")  # fmt: skip
        found[name] = (float(pair[0]), float(pair[1]))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool and math.isfinite(value)
