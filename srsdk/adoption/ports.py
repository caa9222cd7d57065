"""Choose the picture's input and output among a graph's ports, and read layout and channels."""

from __future__ import annotations

from dataclasses import dataclass

from srsdk.adoption.form import Form, Number
from srsdk.adoption.graph import Graph, Port, Shape
from srsdk.adoption.io import IO
from srsdk.errors import ModelError, UsageError

PICTURE_DTYPES = ("float32", "float16", "bfloat16", "float64", "uint8")
NUMBER_DTYPES = (*PICTURE_DTYPES, "int32", "int64")
AXES = {"NCHW": (1, 2, 3), "NHWC": (3, 1, 2)}
"""Axes of channels, height and width."""
COLOR_CHANNELS = (1, 3, 4)
_SHOWN = 8


@dataclass(frozen=True)
class Chosen:
    """What the ports say; the rest of a `Form` needs a run, or `IO`."""

    form: Form
    """With the range 0 to 1, RGB."""
    assumed: tuple[str, ...]
    """What the ports leave open and was assumed, in words."""


def choose_ports(source: str, graph: Graph, io: IO) -> Chosen:
    """Return the form that a graph's ports and `IO` give.

    Raises:
        ModelError: no image-to-image network, or several inputs or outputs that could be the
            picture's.
        UsageError: `io` names what the graph does not have.
    """
    entry = _input(source, graph, io)
    if 0 in entry.shape:
        raise ModelError(
            f"{source} is not an image model: its input is {_described((entry,))}, expected sizes "
            "above 0"
        )
    assumed = list[str]()
    layout, channels = _axes(source, graph, entry, io, assumed)
    output = _output(source, graph, io, layout)
    out_channels = _channels(output.shape, layout) or min(channels, 3 if channels == 4 else 4)
    numbers = _numbers(source, graph, entry, io)
    is_float = entry.dtype != "uint8"
    if is_float and channels - out_channels == 1 and out_channels in (1, 3) and io.alpha is None:
        # FFDNet, DRUNet: the noise level is the last channel, in every pixel
        numbers = (_last_channel(io, numbers), *numbers)
        channels = out_channels
    if channels not in COLOR_CHANNELS or out_channels not in COLOR_CHANNELS:
        raise ModelError(
            f"{source} is not an image model: it maps {channels} channels to {out_channels}, "
            "expected 1, 3 or 4"
        )
    if out_channels < (3 if channels == 4 else channels):
        raise ModelError(
            f"{source} maps {channels} channels to {out_channels}, expected as many: name another "
            f"output with io=srsdk.IO(output=...), it has {_names(graph.outputs)}"
        )
    alpha = io.alpha or ("apart" if out_channels < channels else "network")
    size = tuple(entry.shape[axis] for axis in AXES[layout][1:])
    form = Form(
        input=entry.name,
        output=output.name,
        dtypes=(entry.dtype, output.dtype),
        layout=layout,
        channels=channels,
        output_channels=out_channels,
        size_px=None if None in size else size,  # type: ignore[arg-type]
        batch=entry.shape[0],
        alpha=alpha,
        numbers=numbers,
    )
    _check_keywords(source, io, form)
    return Chosen(form, tuple(assumed))


def _input(source: str, graph: Graph, io: IO) -> Port:
    if io.input is not None:
        return _named(source, "input", io.input, graph.inputs)
    pictures = [port for port in graph.inputs if _is_picture(port)]
    several = [port for port in pictures if port.shape[1] != 1 and port.shape[3] != 1]
    found = several or pictures
    if not found:
        raise ModelError(
            f"{source} is not an image model: its inputs are {_described(graph.inputs)}, expected "
            "a picture of four dimensions with 1, 3 or 4 channels, of float or uint8 type"
        )
    return found[0]


def _output(source: str, graph: Graph, io: IO, layout: str) -> Port:
    if io.output is not None:
        return _named(source, "output", io.output, graph.outputs)
    found = [
        port
        for port in graph.outputs
        if port.dtype in PICTURE_DTYPES
        and len(port.shape) in (0, 4)
        and (not port.shape or _channels(port.shape, layout) in (None, *COLOR_CHANNELS))
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(
            f"{source} is not an image model: its outputs are {_described(graph.outputs)}, "
            "expected a picture of four dimensions with 1, 3 or 4 channels"
        )
    raise ModelError(
        f"{source} has {len(found)} outputs that could be the result: name one of "
        f"{_names(tuple(found))} with io=srsdk.IO(output=...)"
    )


def _named(source: str, what: str, name: str, ports: tuple[Port, ...]) -> Port:
    for port in ports:
        if port.name == name:
            if port.dtype not in PICTURE_DTYPES or len(port.shape) not in (0, 4):
                raise ModelError(
                    f"{source}: {what} {name!r} is {_described((port,))}, expected a picture of "
                    "four dimensions, of float or uint8 type"
                )
            return port
    raise UsageError(f"{source} has no {what} {name!r}: expected one of {_names(ports)}")


def _is_picture(port: Port) -> bool:
    return (
        port.dtype in PICTURE_DTYPES
        and len(port.shape) == 4
        and any(port.shape[axes[0]] in (None, 1, 2, 3, 4, 5) for axes in AXES.values())
    )


def _axes(source: str, graph: Graph, entry: Port, io: IO, assumed: list[str]) -> tuple[str, int]:
    """Return layout and channels of the input."""
    known = [io.layout] if io.layout else list(AXES)
    for layout in known:
        channels = _channels(entry.shape, layout)
        if channels is not None and channels <= 5:
            return layout, channels
    if all(_channels(entry.shape, layout) is not None for layout in known):
        raise ModelError(
            f"{source} is not an image model: its input is {_described((entry,))}, expected 1, 3 "
            "or 4 channels, NCHW or NHWC"
        )
    layout = io.layout or "NCHW"
    channels = _first_convolution(graph, entry.name)
    if channels is None:
        channels = 3
        assumed.append("3 channels")
    if io.layout is None:
        assumed.append(layout)
    return layout, channels


def _channels(shape: Shape, layout: str) -> int | None:
    return shape[AXES[layout][0]] if len(shape) == 4 else None


def _first_convolution(graph: Graph, name: str) -> int | None:
    """Return the input channels of the convolution that reads the picture, perhaps after casts."""
    names = {name}
    for node in graph.nodes:
        if not names & set(node.inputs):
            continue
        dims = graph.weights.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if node.op == "Conv" and dims and len(dims) == 4:
            group = node.ints("group") or (1,)
            return dims[1] * group[0]
        if node.op in ("Cast", "Identity", "Sub", "Div", "Mul", "Add", "Pad"):
            names.update(node.outputs)
    return None


def _numbers(source: str, graph: Graph, entry: Port, io: IO) -> tuple[Number, ...]:
    """Return the further inputs."""
    others = [port for port in graph.inputs if port.name != entry.name]
    by_name = {_keyword(port.name): port for port in others}
    renamed = dict(zip((_keyword(port.name) for port in others), io.inputs, strict=False))
    is_by_name = any(name in by_name for name in io.inputs)
    found = []
    for keyword, port in by_name.items():
        if port.dtype not in NUMBER_DTYPES or len(port.shape) > 4:
            raise ModelError(
                f"{source}: its further input {_described((port,))} is neither a number nor a map "
                "of numbers: export the network without it"
            )
        name = keyword if is_by_name else renamed.get(keyword, keyword)
        default, divisor = _declared(io, name)
        found.append(Number(name, default, divisor, port.name, port.dtype, port.shape))
    return tuple(found)


def _last_channel(io: IO, numbers: tuple[Number, ...]) -> Number:
    taken = {number.keyword for number in numbers}
    free = [name for name in io.inputs if name not in taken]
    name = free[0] if free else "noise"
    return Number(name, *_declared(io, name), "", "float32", ())


def _declared(io: IO, name: str) -> tuple[float, float]:
    found = io.inputs.get(name, 0.0)
    return found if isinstance(found, tuple) else (float(found), 1.0)


def _check_keywords(source: str, io: IO, form: Form) -> None:
    known = [number.keyword for number in form.numbers]
    for name in io.inputs:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it takes a picture alone"
            raise UsageError(f"{source} has no input {name!r}: {has}")


def _keyword(name: str) -> str:
    """Return a tensor's name as the keyword of a call."""
    text = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return text if text.isidentifier() else f"input_{text}"


def _names(ports: tuple[Port, ...]) -> str:
    shown = ", ".join(repr(port.name) for port in ports[:_SHOWN])
    return shown + (f" and {len(ports) - _SHOWN} more" if len(ports) > _SHOWN else "")


def _described(ports: tuple[Port, ...]) -> str:
    texts = []
    for port in ports[:_SHOWN]:
        sides = ", ".join("?" if side is None else str(side) for side in port.shape)
        texts.append(f"{port.name!r} {port.dtype} ({sides})")
    return ", ".join(texts) or "none"
