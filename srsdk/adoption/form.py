"""`Form`: everything that is known of a network's input and output once it is opened."""

from __future__ import annotations

from dataclasses import dataclass

from srsdk.adoption.graph import Shape


@dataclass(frozen=True, slots=True)
class Number:
    """A number that the network takes beside the picture."""

    keyword: str
    """Its name in a call, and in the manifest."""
    default: float
    """Value in calls that do not give it."""
    divisor: float
    """The network reads the value divided by this."""
    tensor: str
    """Its input; "": it is the last channel of the picture's input, in every pixel."""
    dtype: str
    """Type of the input."""
    shape: Shape
    """Dimensions of the input; None: any."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """Input and output of a network, resolved from the graph, a run of it and `IO`."""

    input: str
    """Tensor that takes the picture."""
    output: str
    """Tensor with the result."""
    dtypes: tuple[str, str]
    """Types of input and output."""
    layout: str
    """`NCHW` or `NHWC`, of input and output."""
    channels: int
    """Color channels of the input: 1, 3 or 4."""
    output_channels: int
    """Channels of the output."""
    size_px: tuple[int, int] | None
    """The only (height, width); None: any."""
    batch: int | None
    """The only batch; None: any."""
    range: tuple[float, float] = (0.0, 1.0)
    """Values of black and white in the input."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted from the input, for each channel or for all."""
    std: tuple[float, ...] = (1.0,)
    """Divides the input after `mean`."""
    output_range: tuple[float, float] | None = None
    """Values of black and white in the output; None: as in the input, with mean and std."""
    order: str = "rgb"
    """Order of the colors in the input."""
    output_order: str = "rgb"
    """Order of the colors in the output."""
    alpha: str = "network"
    """Of four channels: `network`, or `apart`: alpha is opaque for the network."""
    numbers: tuple[Number, ...] = ()
    """Further inputs."""
    margin_px: int = 0
    """Border that the network cuts off: it is mirrored outwards by as much before."""

    @property
    def tile_px(self) -> tuple[int, int] | None:
        """The only (height, width) of pictures outside; None: any."""
        if self.size_px is None:
            return None
        height, width = self.size_px
        return height - 2 * self.margin_px, width - 2 * self.margin_px

    @property
    def is_bytes(self) -> bool:
        """Whether the network reads the picture's own levels."""
        return self.dtypes[0] == "uint8" and self.boundary_channels == self.channels

    @property
    def is_boundary(self) -> bool:
        """Whether it is srsdk's own boundary, so that nothing is written around it."""
        orders = (self.order, self.output_order)
        is_plain = self.layout == "NHWC" and orders == ("rgb", "rgb") and not self.numbers
        return is_plain and not self.margin_px and self.is_bytes and self.dtypes[1] == "uint8"

    @property
    def boundary_channels(self) -> int:
        """Channels of the picture outside: 1, 3, or 4 with alpha."""
        return 3 if self.channels == 4 and self.alpha == "apart" else self.channels
