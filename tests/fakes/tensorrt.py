"""Fake of `tensorrt_rtx` and `tensorrt`: a plan is JSON, the network repeats pixels.

The network computes in two steps with the picture in scratch memory between them, so that two
contexts that share scratch and run at the same time corrupt each other. A test checks every name of
the classes here against the real modules.
"""

from __future__ import annotations

import enum
import json
import math
import time
from types import ModuleType
from typing import Any

import numpy as np
from cuda.bindings import driver

from tests.simulators.cuda import Simulator


class DataType(enum.Enum):
    """The data types that are used here."""

    FLOAT = "float32"
    HALF = "float16"
    UINT8 = "uint8"


def plan(
    profiles: list[Any], *, dtype: str = "uint8", nchw: bool = False, scale: int = 2,
    kind: str = "nearest",
) -> bytes:  # fmt: skip
    """Return a plan.

    Args:
        profiles: each is (batch, height, width), or (min, opt, max) of these.
        dtype: of input and output.
        nchw: channels first.
        scale: of the network.
        kind: `nearest` repeats pixels, `sums` adds neighbors first, `black` gives zeros.
    """
    ranges = [p if isinstance(p[0], (list, tuple)) else (p, p, p) for p in profiles]
    facts = {"profiles": ranges, "dtype": dtype, "nchw": nchw, "scale": scale, "kind": kind}
    return json.dumps(facts).encode()


def make_module(flavour: str, gpu: Simulator | None) -> Any:
    """Return a fake module that runs its engines on the simulated GPU."""
    name = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}[flavour]
    trt: Any = ModuleType(name)
    trt.__version__ = {"rtx": "1.7.1.116", "tensorrt": "11.4.0.106"}[flavour]
    is_rtx = flavour == "rtx"
    trt.refuse_context_at = None
    trt.contexts = 0
    trt.violations = []
    trt.validity = (0, 0)

    class ILogger:
        """Base class of loggers, which receive every message."""

        class Severity(enum.Enum):
            """Severities of the real logger."""

            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2
            INFO = 3
            VERBOSE = 4

        def log(self, severity: Any, message: str) -> None:
            raise NotImplementedError

    class Logger(ILogger):
        """TensorRT's own logger."""

        WARNING = ILogger.Severity.WARNING

        def __init__(self, min_severity: Any) -> None:
            self.kept: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.kept.append(message)

    class Runtime:
        """Deserializes engines."""

        if is_rtx:
            engine_header_size = 64

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            try:
                text = serialized_engine[serialized_engine.index(b'{"profiles"') :]
                facts, _ = json.JSONDecoder().raw_decode(text.decode("latin-1"))
            except ValueError:
                self.logger.log(ILogger.Severity.ERROR, "Serialization assertion failed")
                return None
            return ICudaEngine(self.logger, facts)

        if is_rtx:

            def get_engine_validity(self, buffer: bytes) -> tuple[Any, int]:
                assert len(buffer) == 64
                return EngineValidity(trt.validity[0]), trt.validity[1]

    class ICudaEngine:
        """An engine with one input and one output."""

        def __init__(self, logger: Any, facts: dict[str, Any]) -> None:
            self._logger, self._facts = logger, facts
            self.num_io_tensors = 2
            self.num_optimization_profiles = len(facts["profiles"])

        def _shape(self, sides: Any, scale: int = 1) -> tuple[int, ...]:
            n, h, w = sides[0], sides[1] * scale, sides[2] * scale
            return (n, 3, h, w) if self._facts["nchw"] else (n, h, w, 3)

        def get_tensor_name(self, index: int) -> str:
            return ("image", "upscaled")[index]

        def get_tensor_mode(self, name: str) -> Any:
            return TensorIOMode.INPUT if name == "image" else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> DataType:
            return DataType(self._facts["dtype"])

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (-1, 3, -1, -1) if self._facts["nchw"] else (-1, -1, -1, 3)

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
            assert name == "image"
            return [self._shape(sides) for sides in self._facts["profiles"][profile_index]]

        def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
            shape = self._shape(self._facts["profiles"][profile_index][2])
            return int(self._scratch(shape))

        def create_runtime_config(self) -> IRuntimeConfig:
            return IRuntimeConfig()

        def create_execution_context(self, argument: Any = None) -> IExecutionContext | None:
            # a strategy, or a configuration that has one
            managed = ExecutionContextAllocationStrategy.USER_MANAGED
            strategy = getattr(argument, "_strategy", argument)
            assert strategy is None or strategy is managed
            trt.contexts += 1
            if trt.contexts == trt.refuse_context_at:
                self._logger.log(ILogger.Severity.ERROR, "OutOfMemory: no room for a context")
                return None
            return IExecutionContext(self, argument)

        def _scratch(self, shape: tuple[int, ...]) -> int:
            return math.prod(shape) * int(np.dtype(self._facts["dtype"]).itemsize)

    class IRuntimeConfig:
        """Configuration of an execution context."""

        def __init__(self) -> None:
            self._strategy: Any = None
            if is_rtx:
                # these exist only in this flavour; the test of names covers them
                self.cuda_graph_strategy = None
                self.dynamic_shapes_kernel_specialization_strategy = None

        def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
            self._strategy = strategy

        if is_rtx:

            def create_runtime_cache(self) -> IRuntimeCache:
                return IRuntimeCache()

            def set_runtime_cache(self, cache: Any) -> bool:
                return True

    class IRuntimeCache:
        """Cache of compiled kernels."""

        def __init__(self) -> None:
            self.content = b"kernels"

        def deserialize(self, blob: bytes) -> bool:
            trt.cache_seen = bytes(blob)
            return blob == self.content

        def serialize(self) -> bytes:
            return self.content

    class IExecutionContext:
        """Execution context for one shape with fixed addresses."""

        def __init__(self, engine: Any, config: Any) -> None:
            self._engine, self._config = engine, config
            self._addresses: dict[str, int] = {}
            self._profile: int | None = None
            self._ran = False

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            assert stream_handle > 1, "never the default stream"
            self._profile = profile_index
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert name == "image"
            self._shape = shape
            return True

        def infer_shapes(self) -> list[str]:
            return []

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            scale, picture = self._engine._facts["scale"], self._picture()
            n, h, w = self._shape[0], self._shape[picture[0]], self._shape[picture[1]]
            return self._engine._shape((n, h, w), scale)  # type: ignore[no-any-return]

        def update_device_memory_size_for_shapes(self) -> int:
            return self._engine._scratch(self._shape)  # type: ignore[no-any-return]

        def set_device_memory(self, memory: int, size: int) -> None:
            assert size == self._engine._scratch(self._shape)
            self._memory = memory

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert gpu is not None
            assert self._profile is not None
            assert stream_handle > 1, "never the default stream"
            capturing = driver.cuStreamIsCapturing(stream_handle)[1]
            if int(capturing or 0) and not self._ran:
                raise AssertionError("a context runs once before it is captured")
            shape, item = self._shape, np.dtype(self._engine._facts["dtype"]).itemsize
            if self._config is None:  # then the library allocates scratch memory itself
                self._memory = int(driver.cuMemAlloc(self._engine._scratch(shape))[1])
            n, h, w, c = shape
            sides = (n, h, w, c * item)
            if self._engine._facts["nchw"]:
                n, c, h, w = shape
                sides = (n * c, h, w, item)
            source, target = self._addresses["image"], self._addresses["upscaled"]
            error = gpu.stage(stream_handle, source, self._memory, self._engine._scratch(shape))
            time.sleep(0)  # another thread that enqueues now would come between two kernels
            scale = self._engine._facts["scale"]
            kind = self._engine._facts["kind"]
            error = error or gpu.repeat(
                stream_handle, self._memory, target, sides, scale, sums=kind == "sums"
            )
            if kind == "black":
                driver.cuMemsetD8Async(target, 0, math.prod(sides) * scale**2, stream_handle)
            if error:
                severity = ILogger.Severity.ERROR
                self._engine._logger.log(severity, f"Error Code 1: Cuda Runtime (error {error})")
                return False
            self._ran, self._stream = True, stream_handle
            return True

        def __del__(self) -> None:
            # a real one would free what its kernels still use
            busy = driver.CUresult.CUDA_ERROR_NOT_READY
            if self._ran and driver.cuStreamQuery(self._stream)[0] == busy:
                trt.violations.append("an execution context was destroyed while it computed")

        def _picture(self) -> tuple[int, int]:
            return (2, 3) if self._engine._facts["nchw"] else (1, 2)

    TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    ExecutionContextAllocationStrategy = enum.Enum(
        "ExecutionContextAllocationStrategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"]
    )
    classes: list[Any] = [ILogger, Runtime, ICudaEngine, IRuntimeConfig, IExecutionContext]
    classes += [DataType, TensorIOMode, ExecutionContextAllocationStrategy]
    EngineValidity = enum.Enum("EngineValidity", {"VALID": 0, "SUBOPTIMAL": 1, "INVALID": 2})
    if is_rtx:
        classes += [
            Logger,
            IRuntimeCache,
            EngineValidity,
            enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"]),
            enum.Enum("DynamicShapesKernelSpecializationStrategy", ["LAZY", "EAGER", "NONE"]),
            enum.IntEnum(
                "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2}
            ),
            enum.Enum("ComputeCapability", ["NONE", "CURRENT", "SM86", "SM89", "SM120"]),
        ]
    trt.classes = classes
    trt.Logger = Logger  # exists in both flavours; the listing of `tensorrt` lacks it
    for kind in classes:
        setattr(trt, kind.__name__, kind)
    return trt
