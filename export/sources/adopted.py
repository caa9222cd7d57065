"""Other people's ONNX files: bring every form that the runtime opens to floats of 0 to 1."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from srsdk.adoption.adopt import Adopted, adopt
from srsdk.adoption.boundary import wrapped
from srsdk.adoption.form import Form
from srsdk.adoption.io import IO
from srsdk.engines.select import open_engine
from srsdk.errors import ModelError
from srsdk.formats.onnx_rewrite import with_float_boundary
from srsdk.manifest import Manifest

log = logging.getLogger(__name__)

BACKEND = "onnxruntime"
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_WHITE = "srsdk.white"


def adopted_body(path: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, Adopted | None]:
    """Return a file without a manifest as a network of floats, 0 to 1, RGB, and what was found.

    A file that is one already is returned as it is; so is one that cannot be adopted, whose own
    checks say why.

    Args:
        path: the file.
        model: its content, weights inside.

    Raises:
        ExportError: the network takes numbers beside the picture, or alpha.
    """
    content = model.SerializeToString()
    try:
        found = adopt(
            path, IO(), lambda graph: open_engine(path, BACKEND, graph=graph, cache=False),
            BACKEND, content,
        )  # fmt: skip
    except ModelError:
        return model, None
    if found is None:
        return model, None
    if found.form.numbers:
        names = ", ".join(found.manifest.inputs)
        raise ExportError(
            f"{path} takes {names} beside the picture, which FP16 and INT8 files cannot; `srsdk "
            "adopt` makes a file with it, or export the network with a constant"
        )
    if found.manifest.channels not in (1, 3):
        raise ExportError(
            f"{path} maps color and alpha together, expected 1 or 3 channels: srsdk adopt "
            "--alpha apart"
        )
    if found.form.is_bytes or _is_plain(found.form):
        return model, found
    level = logging.WARNING if found.assumed else logging.INFO
    log.log(level, "%s", found.sentence(path))
    body = onnx.load_from_string(
        wrapped(content, found.form, found.opset, found.manifest.scale, "unit")
    )
    return in_float32(body), found


def unwrapped(path: Path, model: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """Return the file of `srsdk adopt` as a network of floats, 0 to 1.

    Raises:
        ExportError: the network takes numbers beside the picture, or alpha.
    """
    if manifest.inputs or manifest.channels not in (1, 3):
        raise ExportError(
            f"{path} takes more than a picture of 1 or 3 channels, which FP16 and INT8 files cannot"
        )
    try:
        levels = onnx.load_from_string(with_float_boundary(model.SerializeToString()))
    except ModelError as error:
        raise ExportError(f"{path}: {error}") from error
    graph = levels.graph
    inside, outside = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in (inside, outside):
                    names[index] = f"{name}.levels"
    graph.initializer.append(numpy_helper.from_array(np.asarray(255, np.float32), _WHITE))
    head = helper.make_node("Mul", [inside, _WHITE], [f"{inside}.levels"], name="srsdk.levels")
    tail = helper.make_node("Div", [f"{outside}.levels", _WHITE], [outside], name="srsdk.unit")
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([head, *nodes, tail])
    return in_float32(levels)


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its float16 and bfloat16 weights and casts in float32."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type in _HALF:
            tensor.CopyFrom(_float32(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type in _HALF:
                attribute.t.CopyFrom(_float32(attribute.t))
            elif attribute.name in ("to", "dtype") and attribute.i in _HALF:
                attribute.i = TensorProto.FLOAT
    del graph.value_info[:]
    return model


def _float32(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)


def _is_plain(form: Form) -> bool:
    """Return whether the network reads and writes float32 of 0 to 1, RGB."""
    return (
        form.dtypes == ("float32", "float32")
        and form.range == (0.0, 1.0)
        and form.output_range in (None, form.range)
        and (form.order, form.output_order) == ("rgb", "rgb")
        and not form.margin_px
        and form.boundary_channels == form.channels
    )
