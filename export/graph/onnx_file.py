"""Export a torch module to a single ONNX file with an embedded manifest."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import nn

from export.errors import ExportError
from export.graph.torch_errors import translated
from export.graph.wrapper import CONFIDENCE, EPS, INPUT, OUTPUT
from srsdk.engines.protocol import VALUES
from srsdk.manifest import METADATA_KEY, Manifest

OPSET = 20
# with batch 2; height and width differ from each other and from every layer's width: the exporter
# takes a dimension that equals a constant of the network for that constant
EXAMPLE_PX = (52, 68)


def build_onnx(
    graph: nn.Module,
    scale: int,
    *,
    channels: int = 3,
    dtype: torch.dtype = torch.uint8,
    multiple_px: int = 1,
    latent: int = 0,
    size_px: tuple[int, int] | None = None,
    values: int = 0,
) -> onnx.ModelProto:
    """Export with dynamic batch, height and width, and without paths of this machine.

    Args:
        graph: maps (N, H, W, C) to (N, H * scale, W * scale, C).
        scale: output size over input size.
        channels: C.
        dtype: type of the input.
        multiple_px: H and W are multiples of this.
        latent: channels of the second input `eps`, (N, latent, H, W) float32; the second output is
            then `confidence`. 0: neither exists.
        size_px: the only (H, W), with a batch of 1; None: all three are dynamic.
        values: numbers in the second input `srsdk.values`, (values,) float32; 0: there is none.

    Raises:
        ExportError: torch cannot export it, or a dimension that should be dynamic is fixed.
    """
    height, width = size_px or example_px(multiple_px)
    batch = 1 if size_px else 2
    example = torch.zeros((batch, height, width, channels), dtype=dtype)
    inputs: tuple[torch.Tensor, ...] = (example,)
    names, results = [INPUT], [OUTPUT]
    shapes: tuple[dict[int, str], ...] = ({0: "batch", 1: "height", 2: "width"},)
    if latent:
        inputs = (example, torch.zeros((batch, latent, height, width)))
        names, results = [INPUT, EPS], [OUTPUT, CONFIDENCE]
        shapes = (*shapes, {0: "batch", 2: "height", 3: "width"})
    elif values:
        inputs, names = (example, torch.zeros(values)), [INPUT, VALUES]
        shapes = (*shapes, {})
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # torch's exporter warns about itself
        try:
            program = torch.onnx.export(
                graph.eval(),
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                output_names=results,
                dynamic_shapes=None if size_px else shapes,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise translated(error) from error
    assert program is not None
    model = program.model_proto
    _strip(model)
    _shape_from_cast(model.graph)
    if not size_px:
        _check_dimensions(model, scale, channels, exact=multiple_px == 1)
    return model


def build_traced(
    graph: nn.Module,
    scale: int,
    *,
    channels: int = 3,
    dtype: torch.dtype = torch.uint8,
    multiple_px: int = 1,
    size_px: tuple[int, int] | None = None,
) -> onnx.ModelProto:
    """Export with torch's older exporter, which records one run.

    What depends on values or on Python's integers in that run is constant in the file, without a
    word: the caller must compare the file with the network at other sizes. Arguments and result
    are those of `build_onnx`.

    Raises:
        ExportError: torch cannot export it.
    """
    height, width = size_px or example_px(multiple_px)
    # random: what is recorded for a black picture may hold for black pictures only
    random = torch.Generator().manual_seed(0)
    shape = (1 if size_px else 2, height, width, channels)
    example = torch.randint(0, 256, shape, generator=random).to(dtype)
    if dtype.is_floating_point:
        example = example / 255
    axes = {} if size_px else {INPUT: {0: "batch", 1: "height", 2: "width"}}
    file = io.BytesIO()
    with warnings.catch_warnings(), _quiet(), _silent_log():
        warnings.simplefilter("ignore")  # it is deprecated, and warns of each Python integer
        try:
            torch.onnx.export(
                graph.eval(),
                (example,),
                cast(Any, file),  # the older exporter writes to files, too
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            raise translated(error) from error
    model = onnx.load_from_string(file.getvalue())
    model.ir_version = max(model.ir_version, 10)
    _strip(model)
    move_constants(model.graph)
    _shape_from_cast(model.graph)
    _name_dimensions(model.graph, scale, shape if size_px else None, channels)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from printing graphs and stacks on stderr: errors are raised, too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextmanager
def _silent_log() -> Iterator[None]:
    """Keep the older exporter from printing the whole network on stdout when it fails."""
    printed = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = printed


def example_px(multiple_px: int) -> tuple[int, int]:
    """Return the (height, width) of the picture that is traced; they differ."""
    height, width = (-(-side // multiple_px) * multiple_px for side in EXAMPLE_PX)
    return (height, width if width != height else width + multiple_px)


def move_constants(graph: onnx.GraphProto) -> None:
    """Move constants from nodes to the initializers, where the quantization looks for them."""
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)


def _name_dimensions(
    graph: onnx.GraphProto, scale: int, fixed: tuple[int, ...] | None, channels: int
) -> None:
    """Declare the output's shape, which the older exporter leaves open."""
    times = "" if scale == 1 else f"{scale}*"
    dims: list[int | str] = ["batch", f"{times}height", f"{times}width", channels]
    if fixed is not None:
        dims = [fixed[0], fixed[1] * scale, fixed[2] * scale, channels]
    kind = graph.output[0].type.tensor_type.elem_type
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, kind, dims))


def attach(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Store the manifest in the model's metadata."""
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})


def write(model: onnx.ModelProto, path: Path) -> None:
    """Validate and write the model.

    Raises:
        ExportError: the graph is not valid ONNX.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph is not valid ONNX: {' '.join(str(error).split())}") from error
    path.write_bytes(model.SerializeToString())


def _shape_from_cast(graph: onnx.GraphProto) -> None:
    """Read the input's shape behind the first Cast, not from the uint8 picture.

    TensorRT allows only a Cast to read uint8, but some networks (SAFMN) need their input's shape.
    """
    cast = next((n for n in graph.node if n.op_type == "Cast" and n.input[0] == INPUT), None)
    shapes = [n for n in graph.node if n.op_type == "Shape" and n.input[0] == INPUT]
    if cast is None or not shapes:
        return
    for node in shapes:
        node.input[0] = cast.output[0]
    rest = [node for node in graph.node if node is not cast]
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (cast, *rest)]
    del graph.node[:]
    graph.node.extend(ordered)


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes on the source: absolute paths and lines of code."""
    model.producer_version = ""
    model.doc_string = ""
    graph = model.graph
    graph.name = "srsdk"
    graph.doc_string = ""
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    del graph.value_info[:]


def _check_dimensions(model: onnx.ModelProto, scale: int, channels: int, *, exact: bool) -> None:
    dims = [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    times = "" if scale == 1 else f"{scale}*"
    wanted = ["batch", f"{times}height", f"{times}width", channels]
    # if sizes are multiples, the expressions differ in form: require only that they are symbolic
    symbolic = len(dims) == 4 and all(isinstance(d, str) for d in dims[:3]) and dims[3] == channels
    if dims != wanted and (exact or not symbolic):
        raise ExportError(f"the exported output is {dims}, expected {wanted}")
