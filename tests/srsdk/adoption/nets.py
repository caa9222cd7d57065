"""ONNX files in the forms that other people's files have, and what they compute, run directly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "float32": (TensorProto.FLOAT, np.float32),
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "float64": (TensorProto.DOUBLE, np.float64),
    "uint8": (TensorProto.UINT8, np.uint8),
}


@dataclass
class Net:
    """A 3x3 convolution close to the identity, enlarged by nearest neighbor, in a given form."""

    dtype: str = "float32"
    layout: str = "NCHW"
    channels: int = 3
    white: float = 1.0
    black: float = 0.0
    bgr: bool = False
    scale: int = 2
    opset: int = 20
    clip: bool = False
    sides: tuple[int | str, int | str] = ("h", "w")
    batch: int | str = "n"
    multiple: int = 1
    noise: str = ""
    """Shape of a further input `noise_level`: scalar, map or channel."""
    margin: int = 0
    """Border that is cut off, of the input, in pixels: a convolution without padding."""
    extra_output: bool = False
    color_gains: tuple[float, ...] = (1.0, 0.95, 0.9, 1.0)
    """What each channel is multiplied by, in the order red, green, blue: shows their order."""
    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write the file."""
        self.nodes, self.weights = [], {}
        elem = TYPES[self.dtype][0]
        c = self.channels
        x = self._in(c)
        x = self._cut(self._core(x, c), c)
        self._out(x, elem)
        first = c + (self.noise == "channel")
        inputs = [helper.make_tensor_value_info("in.put", elem, self._shape(first, self.sides))]
        if self.noise in ("scalar", "map"):
            shape = [1] if self.noise == "scalar" else ["n", 1, *self.sides]
            inputs.append(helper.make_tensor_value_info("noise_level", TensorProto.FLOAT, shape))
        large = [s * self.scale if isinstance(s, int) else s.upper() for s in self.sides]
        outputs = [helper.make_tensor_value_info("out.put", elem, self._shape(c, large))]
        if self.extra_output:
            outputs.append(helper.make_tensor_value_info("small", elem, self._shape(c, self.sides)))
        graph = helper.make_graph(
            self.nodes,
            "net",
            inputs,
            outputs,
            [numpy_helper.from_array(np.asarray(v), k) for k, v in self.weights.items()],
        )
        ir = 10 if self.opset > 12 else 6
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir
        )
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
        return path

    def run(self, path: Path, picture: npt.NDArray[np.uint8], noise: float = 0.0) -> Any:
        """Run it directly on (H, W, C) levels; return levels (H * scale, W * scale, C) uint8.

        With the preparation that its users write: no part of srsdk.
        """
        if self.dtype == "bfloat16":
            return self._in_bfloat16(path, picture)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        levels = picture[..., [2, 1, 0, 3][: picture.shape[2]]] if self.bgr else picture
        values: Any = levels
        if self.dtype != "uint8":
            unit = levels.astype(np.float32) / np.float32(255)
            values = np.float32(self.black) + np.float32(self.white - self.black) * unit
        if self.noise == "channel":
            plane = np.full((*picture.shape[:2], 1), noise, np.float32)
            values = np.concatenate([values, plane], axis=2)
        values = values.astype(TYPES[self.dtype][1])[None]
        if self.layout == "NCHW":
            values = values.transpose(0, 3, 1, 2)
        feeds = {"in.put": np.ascontiguousarray(values)}
        if self.noise in ("scalar", "map"):
            shape = (1,) if self.noise == "scalar" else (1, 1, *picture.shape[:2])
            feeds["noise_level"] = np.full(shape, noise, np.float32)
        result = session.run(["out.put"], feeds)[0][0]
        result = result.transpose(1, 2, 0) if self.layout == "NCHW" else result
        if self.dtype != "uint8":
            span = np.float32(self.white - self.black)
            floats = (result.astype(np.float32) - np.float32(self.black)) / span * np.float32(255)
            result = np.rint(np.clip(floats, 0, 255)).astype(np.uint8)
        return result[..., [2, 1, 0, 3][: result.shape[2]]] if self.bgr else result

    def _in_bfloat16(self, path: Path, picture: npt.NDArray[np.uint8]) -> Any:
        """Round input and output, as the file's Casts do; ONNX Runtime's API has no bfloat16."""
        twin = dataclasses.replace(self, dtype="float32")
        session = ort.InferenceSession(twin.save(path.with_name("twin.onnx")))
        values = (picture.astype(np.float32) / 255).astype(ml_dtypes.bfloat16).astype(np.float32)
        feeds = {"in.put": np.ascontiguousarray(values.transpose(2, 0, 1)[None])}
        result = session.run(["out.put"], feeds)[0][0].transpose(1, 2, 0)
        rounded = result.astype(ml_dtypes.bfloat16).astype(np.float32)
        return np.rint(np.clip(rounded * 255, 0, 255)).astype(np.uint8)

    def _shape(self, channels: int, sides: Any) -> list[Any]:
        if self.layout == "NCHW":
            return [self.batch, channels, *sides]
        return [self.batch, *sides, channels]

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}",
                                           **attributes))  # fmt: skip
        return name

    def _weight(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = value
        return name

    def _in(self, channels: int) -> str:
        """To NCHW float32, 0 to 1."""
        x = "in.put"
        if self.dtype != "float32":
            x = self._node("Cast", [x], to=TensorProto.FLOAT)
        if self.layout == "NHWC":
            x = self._node("Transpose", [x], perm=[0, 3, 1, 2])
        if self.noise == "channel":
            weight = np.eye(channels + 1, dtype=np.float32)[:channels, :, None, None].copy()
            weight[:, channels] = 1
            x = self._node("Conv", [x, self._weight(weight)], kernel_shape=[1, 1])
        black, white = self._white_black()
        if black:
            x = self._node("Sub", [x, self._weight(np.float32(black))])
        x = self._node("Mul", [x, self._weight(np.float32(1 / (white - black)))])
        if self.noise in ("scalar", "map"):
            level = "noise_level"
            if self.noise == "scalar":
                shape = self._weight(np.array([1, 1, 1, 1], np.int64))
                level = self._node("Reshape", [level, shape])
            x = self._node("Add", [x, level])
        if self.multiple > 1:
            x = self._blocks(x)
        return x

    def _core(self, x: str, channels: int) -> str:
        gains = list(self.color_gains[:channels])
        if self.bgr:
            gains = [*gains[2::-1], *gains[3:]]
        weight = np.zeros((channels, channels, 3, 3), np.float32)
        for index, gain in enumerate(gains):
            weight[index, index] = 0.05 * gain
            weight[index, index, 1, 1] = 0.6 * gain
        x = self._node("Conv", [x, self._weight(weight)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        if self.scale == 1:
            return x
        up = np.zeros((channels, 1, self.scale, self.scale), np.float32) + 1
        return self._node("ConvTranspose", [x, self._weight(up)], strides=[self.scale] * 2,
                          kernel_shape=[self.scale] * 2, group=channels)  # fmt: skip

    def _cut(self, x: str, channels: int) -> str:
        if not self.margin:
            return x
        side = 2 * self.margin * self.scale + 1
        weight = np.zeros((channels, 1, side, side), np.float32)
        weight[:, :, side // 2, side // 2] = 1
        return self._node("Conv", [x, self._weight(weight)], kernel_shape=[side, side],
                          group=channels)  # fmt: skip

    def _out(self, x: str, elem: int) -> None:
        black, white = self._white_black()
        if self.extra_output:
            zeros = self._node("Mul", ["in.put", self._weight(TYPES[self.dtype][1](0))])
            self.nodes[-1].output[0] = "small"
            del zeros
        x = self._node("Mul", [x, self._weight(np.float32(white - black))])
        if black:
            x = self._node("Add", [x, self._weight(np.float32(black))])
        if self.clip or self.dtype == "uint8":
            low, high = np.float32(black), np.float32(white)
            x = self._node("Max", [x, self._weight(low)])
            x = self._node("Min", [x, self._weight(high)])
            if self.opset >= 11 and self.clip:
                x = self._node("Clip", [x, self._weight(low), self._weight(high)])
        if self.dtype == "uint8":
            x = self._node("Round", [x])
        if self.layout == "NHWC":
            x = self._node("Transpose", [x], perm=[0, 2, 3, 1])
        if self.dtype != "float32":
            x = self._node("Cast", [x], to=elem)
        else:
            x = self._node("Identity", [x])
        self.nodes[-1].output[0] = "out.put"

    def _white_black(self) -> tuple[float, float]:
        return (0.0, 255.0) if self.dtype == "uint8" else (self.black, self.white)

    def _blocks(self, x: str) -> str:
        """Cut into blocks and join them again, which fails unless the sides are multiples."""
        m, c = self.multiple, self.channels
        small = self._node("SpaceToDepth", [x], blocksize=m)
        return self._node("DepthToSpace", [small], blocksize=m) if c else small
