"""Export a torch module to a single ONNX file with an embedded manifest."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from export.errors import ExportError
from export.graph.wrapper import CONFIDENCE, EPS, INPUT, OUTPUT
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

    Raises:
        ExportError: torch cannot export it, or a dimension that should be dynamic is fixed.
    """
    height, width = (-(-side // multiple_px) * multiple_px for side in EXAMPLE_PX)
    example = torch.zeros((2, height, width, channels), dtype=dtype)
    inputs: tuple[torch.Tensor, ...] = (example,)
    names, results = [INPUT], [OUTPUT]
    shapes: tuple[dict[int, str], ...] = ({0: "batch", 1: "height", 2: "width"},)
    if latent:
        inputs = (example, torch.zeros((2, latent, height, width)))
        names, results = [INPUT, EPS], [OUTPUT, CONFIDENCE]
        shapes = (*shapes, {0: "batch", 2: "height", 3: "width"})
    for name in ("onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about itself
        try:
            program = torch.onnx.export(
                graph.eval(),
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                output_names=results,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise _translated(error) from error
    assert program is not None
    model = program.model_proto
    _strip(model)
    _shape_from_cast(model.graph)
    _check_dimensions(model, scale, channels, exact=multiple_px == 1)
    return model


def _translated(error: BaseException) -> BaseException:
    """Unwrap a KeyboardInterrupt from torch's exporter; turn other errors into one sentence."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    if any(isinstance(link, KeyboardInterrupt) for link in links):
        return KeyboardInterrupt()
    deepest = error.__cause__ or error
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(deepest)).strip().splitlines()
    reason = lines[0] if lines else type(deepest).__name__
    return ExportError(f"torch cannot export this network to ONNX: {reason}")


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
