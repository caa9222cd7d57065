"""Run engine files with TensorRT or TensorRT for RTX, which have the same interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srsdk.engines.compiled import kernel_cache as cache
from srsdk.engines.cuda.compute_streams import ComputeStream, make_compute_streams
from srsdk.engines.cuda.engine import CudaEngine, is_out_of_memory
from srsdk.engines.plan_checks import Opened, open_plan, other_runtime
from srsdk.engines.protocol import Signature, check_single, make_signature
from srsdk.engines.tensorrt_library import Library, never
from srsdk.errors import BackendError, EngineMismatch, OutOfMemoryError

_DTYPES = {"UINT8": "uint8", "FLOAT": "float32"}


def open_tensorrt(
    path: Path,
    device_index: int,
    *,
    max_memory: int | None = None,
    compute_streams: int = 1,
    graphs: bool = True,
) -> CudaEngine:
    """Open an engine file of either flavour on one GPU.

    Args:
        path: an `.engine` file, with or without an srsdk manifest.
        device_index: index of the GPU.
        max_memory: device bytes that slots may use; None: no limit.
        compute_streams: number of inferences that may run at the same time.
        graphs: use CUDA graphs.

    Raises:
        ModelError, EngineMismatch: see `open_plan`.
        OutOfMemoryError: the weights do not fit.
    """
    opened = open_plan(path, device_index)
    with opened.device.active():
        network = TensorRtNetwork(opened, graphs=graphs)
        try:
            made = make_compute_streams(opened.device, compute_streams)
        except BaseException:
            network.close()
            raise
        return CudaEngine(
            "tensorrt", opened.device, network, made, graphs=graphs, max_memory=max_memory
        )


class TensorRtNetwork:
    """A deserialized engine; each slot gets its own execution context."""

    few_shapes = False

    def __init__(self, opened: Opened, *, graphs: bool) -> None:
        self._library = library = opened.library
        self._device = opened.device
        self._graphs = graphs
        path = opened.path
        # the runtime must live as long as the engine
        self._runtime = library.runtime(str(path))
        self._engine = library.call(
            f"{path}: {library.title} cannot load it",
            self._runtime.deserialize_cuda_engine,
            opened.plan,
            error=lambda text: _load_error(f"{text}{other_runtime(opened)}"),
        )
        self.is_rtx = library.flavour == "rtx"
        # TensorRT for RTX records CUDA graphs itself, for the kernels that it compiles for a shape
        self.capturable = not self.is_rtx
        library.call(
            f"{path}: {library.title} cannot inspect it", self._inspect, opened, fails=never
        )
        self._cache_path = None
        if self.is_rtx:
            properties = opened.device.properties
            self._cache_path = cache.cache_file(
                opened.plan, library.version, properties.name, properties.driver
            )
        self._cache: Any = None

    def _inspect(self, opened: Opened) -> None:
        self._input, self._output = _ports(opened.path, opened.library.module, self._engine)
        self.profiles = self._profiles(opened)
        self.signature: Signature = self._signature(opened)

    def prepare(self, input_shape: tuple[int, ...], compute_stream: ComputeStream) -> TensorRtRun:
        """Make an execution context for one shape."""
        # outside of the lock: it may compile kernels for seconds
        context = self._library.call("cannot create an execution context", self._context)
        with compute_stream.lock:
            return TensorRtRun(
                self._library,
                context,
                (self._input, self._output),
                self._profile_index(input_shape),
                input_shape,
                compute_stream.stream.handle,
            )

    def scratch_bytes(self, input_shape: tuple[int, ...]) -> int | None:
        """Return the scratch memory that the profile of this shape needs."""
        name = "get_device_memory_size_for_profile_v2"
        if not hasattr(self._engine, name):
            name = name.removesuffix("_v2")  # TensorRT 10.0
        index = self._profile_index(input_shape)
        size_of = getattr(self._engine, name)
        return int(self._library.call("the scratch memory is unknown", size_of, index))

    def settled(self) -> None:
        """Save the kernels that were compiled for the new shape."""
        if self._cache is not None:
            blob = self._library.call("cannot serialize the kernels", self._cache.serialize)
            cache.store(self._cache_path, bytes(blob))

    def close(self) -> None:
        """Drop the references; TensorRT frees the memory with the last one."""
        self._engine = self._cache = self._runtime = None

    def _context(self) -> Any:
        trt = self._library.module
        managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._engine is None:
            raise BackendError("this Upscaler is closed")
        if not self.is_rtx:
            # TensorRT 10.3 has no runtime configuration; all versions have this argument
            return self._engine.create_execution_context(managed)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(managed)
        strategies = trt.CudaGraphStrategy
        config.cuda_graph_strategy = (
            strategies.WHOLE_GRAPH_CAPTURE if self._graphs else strategies.DISABLED
        )
        # a slot has one shape: compile its kernels now, not in the background
        config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            if (kept := cache.load(self._cache_path)) is not None:
                # returns False for a cache of another environment, which is then rewritten
                self._cache.deserialize(kept)
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def _profile_index(self, input_shape: tuple[int, ...]) -> int:
        for index in range(self._engine.num_optimization_profiles):
            low, _, high = self._engine.get_tensor_profile_shape(self._input, index)
            if all(a <= n <= b for a, n, b in zip(low, input_shape, high, strict=True)):
                return index
        raise BackendError(
            f"this engine does not accept input {input_shape}, only "
            f"{', '.join('x'.join(map(str, profile)) for profile in self.profiles)} "
            "(batch x height x width)"
        )

    def _profiles(self, opened: Opened) -> tuple[tuple[int, int, int], ...]:
        """Return the shape that each profile was tuned for, as (batch, height, width)."""
        if opened.manifest is not None and opened.manifest.profiles:
            return opened.manifest.profiles
        found = []
        for index in range(self._engine.num_optimization_profiles):
            _, best, _ = self._engine.get_tensor_profile_shape(self._input, index)
            sides = tuple(best)
            if len(sides) != 4:
                return ()
            first = sides[2:] if sides[1] in (1, 3) else sides[1:3]
            found.append((int(sides[0]), int(first[0]), int(first[1])))
        return tuple(found)

    def _signature(self, opened: Opened) -> Signature:
        """Return the signature; if all profiles have one size, the input shape is fixed to it."""
        engine = self._engine
        kinds = [engine.get_tensor_dtype(name) for name in (self._input, self._output)]
        dtypes = [_DTYPES.get(kind.name, kind.name.lower()) for kind in kinds]
        shapes = [_sides(engine.get_tensor_shape(name)) for name in (self._input, self._output)]
        signature = make_signature(opened.path, (dtypes[0], dtypes[1]), shapes[0], shapes[1])
        sizes = {(height, width) for _, height, width in self.profiles}
        if len(sizes) != 1:
            return signature
        shape, (height, width) = signature.input_shape, sizes.pop()
        nchw = shape[1] in (1, 3)
        fixed = (shape[0], shape[1], height, width) if nchw else (shape[0], height, width, shape[3])
        return Signature(signature.dtype, fixed, signature.output_shape)


class TensorRtRun:
    """An execution context for one shape."""

    def __init__(
        self,
        library: Library,
        context: Any,
        names: tuple[str, str],
        profile: int,
        input_shape: tuple[int, ...],
        stream: int,
    ) -> None:
        self._library, self._context, self._names = library, context, names
        choose, refused = context.set_optimization_profile_async, f"shape {input_shape} is refused"
        library.call(f"profile {profile} is refused", choose, profile, stream)
        library.call(refused, context.set_input_shape, names[0], input_shape)
        library.call(refused, context.infer_shapes, fails=bool)
        shape = library.call("the output has no shape", context.get_tensor_shape, names[1])
        self.output_shape = tuple(int(side) for side in shape)
        needed = context.update_device_memory_size_for_shapes
        self.scratch_bytes = int(library.call("the scratch memory is unknown", needed))

    def bind(self, input_address: int, output_address: int, scratch_address: int) -> None:
        """Fix the device addresses."""
        context, call = self._context, self._library.call
        call("the scratch memory is refused", self._set_scratch, scratch_address, fails=never)
        for name, address in zip(self._names, (input_address, output_address), strict=True):
            call(f"the address of {name} is refused", context.set_tensor_address, name, address)

    def enqueue(self, stream: int) -> None:
        """Enqueue the computation."""
        self._library.call("the engine failed", self._context.execute_async_v3, stream)

    def _set_scratch(self, address: int) -> None:
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(address, self.scratch_bytes)
        else:  # TensorRT 10.0
            self._context.device_memory = address

    def close(self) -> None:
        """Drop the references; TensorRT frees the memory with the last one."""
        self._context = None


def _load_error(text: str) -> Exception:
    return OutOfMemoryError(text) if is_out_of_memory(text) else EngineMismatch(text)


def _ports(path: Path, trt: Any, engine: Any) -> tuple[str, str]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    outputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]
    check_single(path, len(inputs), len(outputs))
    return inputs[0], outputs[0]


def _sides(dims: Any) -> tuple[int | None, ...]:
    return tuple(None if side < 0 else int(side) for side in dims)
