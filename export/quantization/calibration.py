"""INT8 calibration: measure the range of every convolution's input on crops of real pictures.

The range reaches to the largest value and nothing is clipped: the maximum costs hundredths of a dB,
and entropy and percentile calibration were measured to cost up to three times as much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from PIL import UnidentifiedImageError

from export.errors import ExportError
from export.graph.layers import Layer
from export.graph.session import open_session
from export.quantization.rounding import Moments
from export.quantization.rounding import divided as divided_moments
from training.data.color import in_channels
from training.data.pictures import find_pictures, read_rgb
from training.data.resize import Picture, imresize

CROPS, CROPS_OF_LARGE = 96, 24
"""Number of calibration crops; networks of more than `LARGE` weights take seconds for each."""
LARGE = 4_000_000
CROP_PX = 64
"""Side of a crop in input pixels, at most that of the picture."""
SMALLEST_PX = 16
MIN_PICTURES = 8
REDUCED = ("ReduceMin", "ReduceMax", "ReduceMean")
MIN_CONTRAST = 4.0
"""Least mean standard deviation of useful crops, in levels of 255."""


@dataclass(frozen=True)
class Crops:
    """Low-resolution crops, as the network's input."""

    pixels: tuple[Picture, ...]
    """Each (H, W, 3) uint8."""
    sha256: tuple[str, ...]
    """Hash of each crop's bytes."""
    files: tuple[str, ...]
    """File names of the source pictures."""
    seed: int
    """Random seed."""

    @property
    def digest(self) -> str:
        """One hash over all crops, in order."""
        return hashlib.sha256("".join(self.sha256).encode()).hexdigest()


Channels = Mapping[str, npt.NDArray[np.float64]]
"""One value for each channel of a convolution's input, by layer name."""


@dataclass(frozen=True)
class Calibration:
    """Input statistics of every layer, valid for every graph of the same network."""

    lows: Channels
    """Smallest values."""
    highs: Channels
    """Largest values."""
    means: Channels
    """Means."""
    crops: Crops
    """Calibration pictures."""
    moments: Moments = field(default_factory=dict)
    """Input moments for `rounding`; weights of layers without them are rounded to the nearest."""

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each convolution's input, by layer name."""
        pairs = ((name, low, self.highs[name]) for name, low in self.lows.items())
        return {name: (float(low.min()), float(high.max())) for name, low, high in pairs}

    @property
    def peaks(self) -> dict[str, npt.NDArray[np.float64]]:
        """Largest absolute values, as `Channels`."""
        pairs = ((name, low, self.highs[name]) for name, low in self.lows.items())
        return {name: np.maximum(np.abs(low), np.abs(high)) for name, low, high in pairs}

    def divided(self, divisors: Mapping[str, npt.NDArray[np.float32]]) -> Calibration:
        """Return the calibration of the equalized network, without running it again.

        Args:
            divisors: result of `equalization.factors`, above 0.
        """

        def by_layer(values: Channels) -> Channels:
            return {name: v / divisors.get(name, np.float32(1)) for name, v in values.items()}

        return Calibration(
            by_layer(self.lows),
            by_layer(self.highs),
            by_layer(self.means),
            self.crops,
            divided_moments(self.moments, divisors),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        return {
            "method": "max",
            "crops": len(self.crops.pixels),
            "pictures": len(set(self.crops.files)),
            "seed": self.crops.seed,
            "digest": self.crops.digest,
            "sha256": list(self.crops.sha256),
            "ranges": {name: [round(v, 6) for v in pair] for name, pair in self.ranges.items()},
        }


@dataclass(frozen=True)
class Shape:
    """Inputs that the network accepts."""

    scale: int
    """Output size over input size."""
    channels: int = 3
    """3 or 1."""
    multiple_px: int = 1
    """Sizes are multiples of this."""
    size_px: tuple[int, int] | None = None
    """The only input size; None: any."""


def draw_crops(
    folder: Path,
    shape: Shape,
    *,
    seed: int = 0,
    count: int = CROPS,
    without: Container[Path] = (),
) -> Crops:
    """Draw random crops of the pictures in a folder, reduced with MATLAB's bicubic.

    Args:
        folder: folder of pictures.
        shape: inputs that the network accepts.
        seed: random seed.
        count: number of crops.
        without: pictures to exclude.

    Raises:
        DataError: the folder is missing or holds no picture.
        ExportError: there are too few pictures, or they have too little contrast.
    """
    random = np.random.default_rng(seed)
    paths = [path for path in find_pictures(folder) if path not in without]
    random.shuffle(paths)
    crops: list[tuple[Picture, str]] = []
    while len(crops) < count:
        found = [crop for p in paths[: count - len(crops)] if (crop := _cut(p, shape, random))]
        crops += found
        paths = paths[len(found) :] + paths[: len(found)]
        if not found:
            break
    pixels = tuple(crop for crop, _ in crops)
    result = Crops(
        pixels,
        tuple(hashlib.sha256(crop.tobytes()).hexdigest() for crop in pixels),
        tuple(name for _, name in crops),
        seed,
    )
    _check(folder, result)
    return result


def calibrate(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    crops: Crops,
    patches: Sequence[npt.NDArray[np.uint8]] = (),
) -> Calibration:
    """Run the float32 graph on the crops and record the input range of each layer.

    Args:
        model: a graph with one uint8 NHWC or float NHWC/NCHW input, before any quantization.
        layers: layers to calibrate.
        crops: calibration pictures.
        patches: (N, H, W, C) batches of flat colors, so that every range includes white and
            saturated colors; measured on gan_x2 and gan_x4, they change the loss by at most
            0.004 dB in either direction.

    Raises:
        ExportError: there is no layer to calibrate.
    """
    if not layers:
        raise ExportError("INT8: the network has no convolution that can be quantized")
    sources = list(dict.fromkeys(layer.source for layer in layers))
    session = open_session(_reduced(model, sources))
    name = session.get_inputs()[0].name
    found: list[list[npt.NDArray[np.float64]]] = []
    for batch in (*(crop[None] for crop in crops.pixels), *patches):
        values = [v.astype(np.float64)[:, :, 0, 0] for v in session.run(None, {name: batch})]
        lows, highs, means = (values[kind :: len(REDUCED)] for kind in range(len(REDUCED)))
        found.append([*(v.min(axis=0) for v in lows), *(v.max(axis=0) for v in highs)])
        found[-1] += [v.mean(axis=0) for v in means]
    count = len(sources)
    of_crops = found[: len(crops.pixels)]
    lows = [np.min([f[i] for f in found], axis=0) for i in range(count)]
    highs = [np.max([f[i] for f in found], axis=0) for i in range(count, 2 * count)]
    # flat colors are rare in real pictures: they count for the ranges, not for the means
    means = [np.mean([f[i] for f in of_crops], axis=0) for i in range(2 * count, 3 * count)]

    def by_layer(values: Sequence[npt.NDArray[np.float64]]) -> Channels:
        of_source = dict(zip(sources, values, strict=True))
        return MappingProxyType({layer.name: of_source[layer.source] for layer in layers})

    return Calibration(by_layer(lows), by_layer(highs), by_layer(means), crops)


def _reduced(model: onnx.ModelProto, sources: Sequence[str]) -> onnx.ModelProto:
    """Return a graph that outputs minimum, maximum and mean of each channel, (N, C, 1, 1) each.

    The full tensors of a network with hundreds of layers would take a gigabyte.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "watched.axes"))
    for source in sources:
        for kind in REDUCED:
            result = f"{source}.{kind}"
            graph.node.append(helper.make_node(kind, [source, "watched.axes"], [result]))
            graph.output.append(onnx.ValueInfoProto(name=result))
    return watched


def _cut(path: Path, shape: Shape, random: np.random.Generator) -> tuple[Picture, str] | None:
    """Cut one crop out of a file; None: it cannot be decoded or is too small."""
    try:
        picture = read_rgb(path)
    except (UnidentifiedImageError, OSError):
        return None
    sides = _sides(picture, shape)
    if min(sides) < min(SMALLEST_PX, *(shape.size_px or (SMALLEST_PX,))):
        return None
    large = [side * shape.scale for side in sides]
    top, left = (
        int(random.integers(have - want + 1))
        for have, want in zip(picture.shape[:2], large, strict=True)
    )
    crop = picture[top : top + large[0], left : left + large[1]]
    small = crop if shape.scale == 1 else imresize(crop, 1 / shape.scale)
    return np.ascontiguousarray(in_channels(small, shape.channels)), path.name


def _sides(picture: Picture, shape: Shape) -> tuple[int, int]:
    """Return height and width of a crop in input pixels; 0: the picture is too small."""
    available = [side // shape.scale for side in picture.shape[:2]]
    if shape.size_px is not None:
        fits = all(a >= s for a, s in zip(available, shape.size_px, strict=True))
        return shape.size_px if fits else (0, 0)
    height, width = (
        min(CROP_PX, side) // shape.multiple_px * shape.multiple_px for side in available
    )
    return height, width


def _check(folder: Path, crops: Crops) -> None:
    pictures = len(set(crops.files))
    if pictures < MIN_PICTURES:
        raise ExportError(
            f"{folder}: {pictures} usable pictures, calibration needs at least {MIN_PICTURES}; "
            "name a larger folder with --data"
        )
    contrast = float(np.mean([crop.std() for crop in crops.pixels]))
    different = len(set(crops.sha256))
    if contrast < MIN_CONTRAST or different < MIN_PICTURES:
        raise ExportError(
            f"{folder}: the pictures are too flat for calibration (mean contrast {contrast:.1f} of "
            f"255, expected at least {MIN_CONTRAST}; {different} different crops, expected at "
            f"least {MIN_PICTURES}); name a folder of photographs with --data"
        )
