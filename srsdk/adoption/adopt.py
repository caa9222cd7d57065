"""Adopt an ONNX file without a manifest: find its form, and write srsdk's boundary around it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from srsdk.adoption import remembered, values
from srsdk.adoption.boundary import wrapped
from srsdk.adoption.form import Form
from srsdk.adoption.graph import Graph, read_graph, with_weights_inside
from srsdk.adoption.io import IO
from srsdk.adoption.ports import choose_ports
from srsdk.adoption.sizes import find_multiple
from srsdk.adoption.tiles.operators import static_radius
from srsdk.adoption.trial import Floats, Trial, first_sizes, shapes
from srsdk.engines.foreign import DEFAULT_RADIUS_PX
from srsdk.engines.protocol import SAMPLING_PORTS, Engine
from srsdk.errors import BackendError, ModelError, OutOfMemoryError
from srsdk.formats.files import opened
from srsdk.manifest import Manifest

log = logging.getLogger("srsdk")

MAX_SCALE = 16
EXACT_RADIUS_PX = 64
"""Largest receptive field for which tiles with all of it are worth their overlap."""

Open = Callable[[bytes], Engine]
"""Opens an ONNX graph on this machine."""


@dataclass(frozen=True)
class Adopted:
    """A network with srsdk's boundary."""

    graph: bytes
    """ONNX with uint8 NHWC RGB in and out, and the further input `srsdk.values`, if any."""
    manifest: Manifest
    """What it is."""
    form: Form
    """Input and output of the network within."""
    original: bytes
    """The file, its weights inside."""
    opset: int
    """Its opset."""
    told: tuple[str, ...]
    """What the graph and a run of it showed, in words."""
    assumed: tuple[str, ...]
    """What neither showed."""

    def sentence(self, path: Path) -> str:
        """Say what was found, what was assumed and how to overrule it."""
        m = self.manifest
        sizes = "one size" if m.size_px else f"sizes that are multiples of {m.multiple_px}"
        found = [f"x{m.scale}", *self.told, sizes if m.multiple_px > 1 or m.size_px else ""]
        text = f"{path} has no manifest; found: {', '.join(filter(None, found))}"
        if self.assumed:
            text += f"; assumed: {', '.join(self.assumed)}"
        return (
            f"{text}; to overrule: Upscaler(..., io=srsdk.IO(range=255, order='bgr', ...)), or "
            "once for all: srsdk adopt"
        )


def adopt(
    path: Path, io: IO, open_graph: Open, backend: str, content: bytes | None = None
) -> Adopted | None:
    """Adopt a file; what was found before on this machine is not found out again.

    Args:
        path: an ONNX file, whose metadata was read, and so its size checked.
        io: what is known of it.
        open_graph: opens a graph for the trial runs.
        backend: with which it does so.
        content: ONNX bytes instead of the file's: a form derived from it.

    Returns:
        None: a sampling network of srsdk, whose boundary is its own.

    Raises:
        ModelError: no image-to-image network, or more of it must be said in `io`.
        UsageError: `io` contradicts the graph.
        OutOfMemoryError: not enough memory for a trial run.
    """
    source = str(path)
    if content is None:
        with opened(path, "an ONNX model") as (file, _):
            content = file.read()
    model = with_weights_inside(content, path.resolve().parent, source)
    graph = read_graph(model, source)
    ports = [[port.name for port in each] for each in (graph.inputs, graph.outputs)]
    if tuple(ports) == SAMPLING_PORTS:
        return None
    name = remembered.key(model, io, backend)
    facts = remembered.load(name)
    if facts is None:
        facts = _found(source, model, graph, io, open_graph)
        remembered.store(name, facts)
    form, scale, multiple, told, assumed = facts
    manifest = _manifest(path, graph, form, scale, multiple)
    built = model if form.is_boundary else wrapped(model, form, graph.opset, scale)
    return Adopted(built, manifest, form, model, graph.opset, told, assumed)


def _found(source: str, model: bytes, graph: Graph, io: IO, open_graph: Open) -> remembered.Facts:
    chosen = choose_ports(source, graph, io)
    form, told = chosen.form, list[str]()
    with _trial(source, model, graph, form, open_graph) as trial:
        size, scale, margin = _first_scale(trial, io)
        if not margin:
            found = values.find_values(trial, graph, io, size, scale)
            multiple = _multiple(trial, found.form, scale, io)
    if margin:
        told.append(f"a border of {margin} px that it cuts off, mirrored before")
        form = replace(form, margin_px=margin)
        with _trial(source, model, graph, form, open_graph) as trial:
            found = values.find_values(trial, graph, io, form.tile_px or size, scale)
            multiple = _multiple(trial, found.form, scale, io)
    return found.form, scale, multiple, (*told, *found.told), (*chosen.assumed, *found.assumed)


@contextmanager
def _trial(
    source: str, model: bytes, graph: Graph, form: Form, open_graph: Open
) -> Iterator[Trial]:
    try:
        engine = open_graph(wrapped(model, form, graph.opset, 0, "raw"))
    except BackendError as error:
        raise ModelError(f"{source} is not an image model: {error}") from error
    try:
        yield Trial(source, engine, form)
    finally:
        engine.close()


def _first_output(trial: Trial, io: IO) -> tuple[tuple[int, int], Floats]:
    """Return the first size that works, and what the network makes of it."""
    refused = BackendError("it was not run")
    for height, width in first_sizes(trial.form, trial.source):
        if io.multiple is not None and trial.form.size_px is None:
            height, width = (-(-side // io.multiple) * io.multiple for side in (height, width))
        try:
            picture = shapes(height, width, trial.form.channels)
            return (height, width), trial.run(picture)
        except OutOfMemoryError:
            raise
        except BackendError as error:
            refused = error
    raise ModelError(
        f"{trial.source} is not an image model: a trial run on {height}x{width} failed: {refused}"
    ) from refused


def _first_scale(trial: Trial, io: IO) -> tuple[tuple[int, int], int, int]:
    """Return a size that works, the scale, and the width of the border that the network cuts off.

    Raises:
        ModelError: none works, or the output is no enlarged picture.
    """
    (height, width), output = _first_output(trial, io)
    large = output.shape[:2]
    scale, margin = -(-large[0] // height), 0
    if height != width and abs(large[0] - large[1]) % abs(height - width) == 0:
        scale = (large[1] - large[0]) // (width - height)
    cut = height * scale - large[0]
    if scale > 0 and cut > 0 and cut % (2 * scale) == 0:
        # waifu2x: convolutions without padding
        margin = cut // (2 * scale)
    inner = (height - 2 * margin) * scale, (width - 2 * margin) * scale
    if large != inner or not 1 <= scale <= MAX_SCALE or min(inner) < 1:
        raise ModelError(
            f"{trial.source} is not an image model: it maps {height}x{width} to "
            f"{large[0]}x{large[1]}, expected 1 to {MAX_SCALE} times height and width"
        )
    if output.shape[2] != trial.form.output_channels:
        raise ModelError(
            f"{trial.source} is not an image model: its output has {output.shape[2]} channels, "
            f"expected {trial.form.output_channels}; see io=srsdk.IO(layout=...)"
        )
    return (height, width), scale, margin


def _multiple(trial: Trial, form: Form, scale: int, io: IO) -> int:
    if form.size_px is not None:
        return 1
    return find_multiple(trial, scale, io.multiple)


def _manifest(path: Path, graph: Graph, form: Form, scale: int, multiple: int) -> Manifest:
    radius, tiling = DEFAULT_RADIUS_PX, "bounded"
    if form.layout == "NCHW":
        known = static_radius(graph, form.input, form.output)
        if known is not None and known <= EXACT_RADIUS_PX:
            # a block of pixels may depend on all of the block
            radius, tiling = known + multiple - 1, "exact"
    size = form.tile_px
    if size is not None and radius > min(size) // 4:
        radius, tiling = min(size) // 4, "bounded"
    return Manifest(
        name=path.stem,
        scale=scale,
        channels=form.boundary_channels,
        precision=precision_of(graph),
        radius_px=radius,
        radius_measured=tiling != "exact",
        tiling=tiling,
        multiple_px=multiple,
        size_px=size,
        profiles=_profiles(form),
        inputs=MappingProxyType({n.keyword: n.default for n in form.numbers}),
        io=MappingProxyType(described(form)),
    )


def precision_of(graph: Graph) -> str:
    """Return `int8` for a quantized graph, else the type of its weights."""
    if any(node.op in ("QuantizeLinear", "QLinearConv", "ConvInteger") for node in graph.nodes):
        return "int8"
    floats = {"float16": "fp16", "float32": "fp32"}
    found = [floats[dtype] for dtype in sorted(graph.weight_dtypes) if dtype in floats]
    return found[0] if found else "unknown"


def _profiles(form: Form) -> tuple[tuple[int, int, int], ...]:
    """Return the only input of a network with one size and a batch of several pictures."""
    size = form.tile_px
    return () if size is None or form.batch in (None, 1) else ((form.batch or 1, *size),)


def described(form: Form) -> dict[str, str]:
    """Return a form in words, for the manifest."""
    texts = {
        "type": "/".join(dict.fromkeys(form.dtypes)),
        "layout": form.layout,
        "range": values.shown(form.range),
        "order": form.order if form.channels >= 3 else "",
        "input": form.input,
        "output": form.output,
        "mean": ", ".join(f"{value:g}" for value in form.mean) if any(form.mean) else "",
        "std": ", ".join(f"{value:g}" for value in form.std) if set(form.std) != {1.0} else "",
        "output_range": values.shown(form.output_range) if form.output_range else "",
        "output_order": form.output_order if form.output_order != form.order else "",
        "alpha": form.alpha if form.channels == 4 else "",
    }
    for number in form.numbers:
        where = number.tensor or "last channel"
        texts[f"inputs.{number.keyword}"] = f"{where}, divided by {number.divisor:g}"
    return {name: text for name, text in texts.items() if text}
