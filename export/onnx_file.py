"""From a torch module to one ONNX file that carries its manifest."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from export.graph import INPUT, OUTPUT
from srsdk.manifest import METADATA_KEY, Manifest

OPSET = 20
# batch 2, height and width unlike each other and unlike any width of a layer: a dimension that
# equals a constant of the network would be taken for that constant
EXAMPLE_SHAPE = (2, 52, 68, 3)


class ExportError(RuntimeError):
    """An export that must not be shipped; the message says what was found and expected."""


def build_onnx(graph: nn.Module, scale: int) -> onnx.ModelProto:
    """Export with dynamic batch, height and width, and nothing of this machine in it.

    Raises:
        ExportError: a dimension that should be dynamic came out fixed.
    """
    example = torch.zeros(EXAMPLE_SHAPE, dtype=torch.uint8)
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about itself
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch", 1: "height", 2: "width"},),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    _check_dimensions(model, scale)
    return model


def attach(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Put the manifest into the model's metadata."""
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})


def write(model: onnx.ModelProto, path: Path) -> None:
    """Check and write the model, under a temporary name first."""
    onnx.checker.check_model(model, full_check=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(model.SerializeToString())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter writes about the source: absolute paths and lines of code."""
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


def _check_dimensions(model: onnx.ModelProto, scale: int) -> None:
    dims = [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    wanted = ["batch", f"{scale}*height", f"{scale}*width", 3]
    if dims != wanted:
        raise ExportError(f"the exported output is {dims}, expected {wanted}")
