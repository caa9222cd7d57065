"""Small ONNX files with known answers, built node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = helper.make_opsetid("", 20)


def save(
    path: Path,
    nodes: list[Any],
    *,
    dtype: int,
    input_shape: list[int | str],
    output_shape: list[int | str],
    weights: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a graph with input `image` and output `upscaled`."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", dtype, input_shape)],
        [helper.make_tensor_value_info("upscaled", dtype, output_shape)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[OPSET], ir_version=10)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def nearest(
    path: Path,
    *,
    scale: int = 2,
    channels: int = 3,
    size: tuple[int, int] | None = None,
    channels_last: bool = False,
) -> Path:
    """Nearest-neighbor with float32 input and output (0..1)."""
    height, width = size or ("h", "w")
    big_height, big_width = (size[0] * scale, size[1] * scale) if size else ("H", "W")
    factors = [1.0, scale, scale, 1.0] if channels_last else [1.0, 1.0, scale, scale]
    resize = helper.make_node(
        "Resize",
        ["image", "", "factors"],
        ["upscaled"],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    if channels_last:
        shapes = ["n", height, width, channels], ["n", big_height, big_width, channels]
    else:
        shapes = ["n", channels, height, width], ["n", channels, big_height, big_width]
    return save(
        path,
        [resize],
        dtype=TensorProto.FLOAT,
        input_shape=shapes[0],
        output_shape=shapes[1],
        weights={"factors": np.array(factors, np.float32)},
    )


def classifier(path: Path) -> Path:
    """Not an image model: (N, 3, H, W) to (N, 3)."""
    return save(
        path,
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["upscaled"]),
        ],
        dtype=TensorProto.FLOAT,
        input_shape=["n", 3, "h", "w"],
        output_shape=["n", 3],
    )


def identity(path: Path, *, metadata: dict[str, str] | None = None) -> Path:
    """uint8 NHWC in and out, unchanged: an x1 model."""
    return save(
        path,
        [helper.make_node("Identity", ["image"], ["upscaled"])],
        dtype=TensorProto.UINT8,
        input_shape=["n", "h", "w", 3],
        output_shape=["n", "h", "w", 3],
        metadata=metadata,
    )


def nan(path: Path) -> Path:
    """All NaN, twice as large as the input: the square root of negative values."""
    return save(
        path,
        [
            helper.make_node("Sub", ["image", "two"], ["negative"]),
            helper.make_node("Sqrt", ["negative"], ["root"]),
            helper.make_node("Resize", ["root", "", "factors"], ["upscaled"], mode="nearest"),
        ],
        dtype=TensorProto.FLOAT,
        input_shape=[1, 3, "h", "w"],
        output_shape=[1, 3, "H", "W"],
        weights={
            "two": np.array(2, np.float32),
            "factors": np.array([1, 1, 2, 2], np.float32),
        },
    )


def clip_weights(path: Path, target: Path) -> Path:
    """Copy an INT8 file and clip the large weights of its second convolution."""
    model = onnx.load(path)
    weights = [
        t for t in model.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 4
    ]
    codes = numpy_helper.to_array(weights[1])
    weights[1].CopyFrom(numpy_helper.from_array(np.minimum(codes, 20), weights[1].name))
    onnx.save(model, target)
    return target
