"""Open an ONNX file as a source; its float boundary is rewritten to uint8 NHWC."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from export.errors import ExportError
from export.graph.onnx_errors import AGAIN, sentence
from export.graph.onnx_file import OPSET, move_constants
from export.graph.rewrite import rename, to_half, unwrap, wrap
from export.graph.session import session_run
from export.hashing import file_sha256
from export.protocol import Batch, Facts, Run
from export.sources.adopted import adopted_body, unwrapped
from srsdk.adoption.tiles.reach import find_reach
from srsdk.engines.foreign import MAX_TRIAL_PX
from srsdk.errors import ManifestError, ModelError
from srsdk.formats.onnx_metadata import read_onnx_metadata
from srsdk.manifest import METADATA_KEY, Manifest, parse_manifest

PROBE_PX = (24, 40)


class OnnxSource:
    """A float ONNX graph with our boundary around it, without a PyTorch network."""

    def __init__(self, facts: Facts, body: onnx.ModelProto, layout: str) -> None:
        self.facts = facts
        self._body = body
        self._layout = layout
        self._run = session_run(self.graph("fp32", "uint8"))
        self._half: Run | None = None

    def graph(self, precision: str, boundary: str) -> onnx.ModelProto:
        """Wrap the graph; `fp16` is converted by ONNX Runtime, input and output stay float32."""
        body = self._body if precision == "fp32" else to_half(self._body)
        if boundary == "float32":
            return rename(body, self._layout, self.facts)
        return wrap(body, self._layout, self.facts)

    def reference(self, image: Batch) -> Batch:
        """Run the float32 graph in ONNX Runtime."""
        return self._run(image)

    def half(self, image: Batch) -> Batch:
        """Run the float16 graph; ONNX Runtime rounds its weights but computes in float32."""
        if self._half is None:
            self._half = session_run(self.graph("fp16", "uint8"))
        return self._half(image)


def open_onnx(path: Path) -> OnnxSource:
    """Open an ONNX file with one float image input and output.

    Raises:
        ExportError: the file is damaged, not an image network, or its data lie outside its folder.
    """
    try:
        return _opened(path)
    except ExportError:
        raise
    except Exception as error:
        # onnx, its version converter and ONNX Runtime have no common base class of errors
        raise ExportError(f"{path} cannot be used: {sentence(error)}") from error


def _opened(path: Path) -> OnnxSource:
    model = read_onnx(path)
    manifest, found = _own_manifest(path, model), None
    if manifest is None:
        model, found = adopted_body(path, model)
    elif manifest.io:
        model = unwrapped(path, model, manifest)
    model = _collect_weights(model)
    if _is_uint8(model):
        model = unwrap(path, model)
    model = _upgraded(path, model)
    layout, channels, size = _axes(path, model)
    about = manifest or (found.manifest if found else None)
    scale = about.scale if about else _scale(path, model, layout, channels, size)
    facts = Facts(
        name=manifest.name if manifest else path.stem,
        family=manifest.family if manifest else "foreign",
        scale=scale,
        channels=channels,
        radius_px=0,
        radius_measured=True,
        size_px=size,
        multiple_px=about.multiple_px if about else 1,
        sha256=file_sha256(path),
        weights=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        architecture="ONNX",
    )
    if manifest is None:
        facts = _measured(wrap(model, layout, facts), facts)
    else:
        kept = ("radius_px", "radius_measured", "multiple_px", "tiling", "tiling_db")
        known = {name: getattr(manifest, name) for name in (*kept, "bytes_per_px")}
        facts = dataclasses.replace(facts, **known)
    return OnnxSource(facts, model, layout)


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data, which must lie in the file's own folder.

    Raises:
        ExportError: the file is missing, not ONNX, beyond a limit of `srsdk.formats.onnx_limits`,
            or its data lie outside its folder.
    """
    try:
        read_onnx_metadata(path)
        model = onnx.load(path, load_external_data=False)
    except ModelError as error:
        raise ExportError(str(error)) from error
    except (DecodeError, OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {sentence(error)}") from error
    if not model.graph.node:
        raise ExportError(f"{path} is not an ONNX file: it has no graph")
    folder = path.resolve().parent
    try:
        onnx.load_external_data_for_model(model, str(folder))
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ExportError(f"{path} is damaged: {sentence(error)}") from error
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ExportError(f"{path} is damaged: weights {tensor.name!r} hold NaN or infinity")
    return model


def _collect_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move weights to the initializers; old exporters list them as inputs or nodes."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    move_constants(graph)
    return model


def _is_uint8(model: onnx.ModelProto) -> bool:
    tensor = model.graph.input[0].type.tensor_type if model.graph.input else None
    return tensor is not None and tensor.elem_type == TensorProto.UINT8


def _upgraded(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise ExportError(
            f"{path} has opset {version}, and the installed onnx knows up to {newest}; {AGAIN}"
        )
    if version < OPSET:
        try:
            # float16 scales of Q/DQ need opset 19
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:
            # the converter raises RuntimeError and its own ConvertError, which is private
            raise ExportError(
                f"{path}: opset {version} cannot be converted to {OPSET}: {sentence(error)}; "
                f"{AGAIN}"
            ) from error
    model.ir_version = max(model.ir_version, 10)
    return model


def _axes(path: Path, model: onnx.ModelProto) -> tuple[str, int, tuple[int, int] | None]:
    """Return layout, channels, and the fixed size or None if any size works."""
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        inputs, outputs = (
            f"{len(values)} ({', '.join(value.name for value in values[:4])})"
            for values in (model.graph.input, model.graph.output)
        )
        raise ExportError(
            f"{path} is not an image network: inputs {inputs}, outputs {outputs}, expected one of "
            "each"
        )
    tensor = model.graph.input[0].type.tensor_type
    dims = [d.dim_value or None for d in tensor.shape.dim]
    shown = ", ".join(str(d.dim_value or d.dim_param or "?") for d in tensor.shape.dim)
    if tensor.elem_type != TensorProto.FLOAT or len(dims) != 4:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ExportError(
            f"{path}: input {model.graph.input[0].name!r} is {kind} ({shown}), expected FLOAT with "
            "four dimensions; export the model again in float32 (--precision fp16 and int8 convert "
            "it here)"
        )
    for layout, channel, picture in (("NCHW", 1, (2, 3)), ("NHWC", 3, (1, 2))):
        if dims[channel] in (1, 3):
            height, width = (dims[axis] for axis in picture)
            size = (height, width) if height and width else None
            return layout, int(dims[channel] or 0), size
    raise ExportError(
        f"{path}: input {model.graph.input[0].name!r} is ({shown}), expected 1 or 3 channels, NCHW "
        "or NHWC; export the model again with a fixed number of channels"
    )


def _scale(
    path: Path,
    model: onnx.ModelProto,
    layout: str,
    channels: int,
    size_px: tuple[int, int] | None,
) -> int:
    """Return the scale, from one run on a small picture."""
    from export.graph.session import open_session

    height, width = size_px or PROBE_PX
    if height * width > MAX_TRIAL_PX:
        raise ExportError(
            f"{path}: its only input size is {height}x{width}, expected at most "
            f"{MAX_TRIAL_PX:,} pixels"
        )
    shape = (1, channels, height, width) if layout == "NCHW" else (1, height, width, channels)
    try:
        session = open_session(model)
    except ExportError as error:
        raise ExportError(f"{path} cannot be used: {error}") from error
    try:
        (result,) = session.run(None, {session.get_inputs()[0].name: np.zeros(shape, np.float32)})
    except Exception as error:
        raise ExportError(f"{path}: a trial run on {shape} failed: {sentence(error)}") from error
    axes = (2, 3) if layout == "NCHW" else (1, 2)
    scale = result.shape[axes[0]] // height if result.ndim == 4 else 0
    wanted = tuple(side * scale if axis in axes else side for axis, side in enumerate(shape))
    if scale < 1 or result.shape != wanted:
        raise ExportError(
            f"{path} is not an image network: it maps {shape} to {result.shape}, "
            f"expected a whole multiple of height and width"
        )
    return int(scale)


def _measured(model: onnx.ModelProto, facts: Facts) -> Facts:
    """Return the facts with what a run of the uint8 graph tells about its tiles."""
    reach = find_reach(
        session_run(model),
        facts.scale,
        facts.channels,
        multiple_px=facts.multiple_px,
        size_px=facts.size_px,
    )
    return dataclasses.replace(facts, **reach.fields)


def _own_manifest(path: Path, model: onnx.ModelProto) -> Manifest | None:
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in texts:
        return None
    try:
        return parse_manifest(texts[METADATA_KEY], source=str(path))
    except ManifestError as error:
        raise ExportError(str(error)) from error
