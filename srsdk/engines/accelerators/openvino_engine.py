"""Run ONNX models on OpenVINO's GPUs and NPUs, and by its AUTO and HETERO."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from srsdk.engines import openvino
from srsdk.engines.accelerators import openvino_devices as devices
from srsdk.engines.accelerators.spelling import Accelerator
from srsdk.engines.compiled.forms import CompiledForms, Form
from srsdk.engines.openvino import OpenVinoSlot, cpu_config, shapes_of, signature_of, translated
from srsdk.engines.protocol import MAX_SLOTS_EACH, DeviceMemory, Signature
from srsdk.errors import BackendError, ModelError
from srsdk.manifest import read_manifest

log = logging.getLogger("srsdk")

FIRST_PX = (64, 64)
"""(height, width) that a model without a test picture is first compiled for."""


class OpenVinoDeviceEngine:
    """An ONNX file opened on one of OpenVINO's devices, or over several.

    It is compiled for each input shape, at opening for that of the file's test picture. AUTO
    chooses one device then, for all later shapes too.

    Args:
        path: the file.
        accelerator: the devices.
        threads: threads of the CPU device, where it is among them; None: OpenVINO's choice.
        streams: tiles computed at the same time by the CPU device; above 1, other devices
            choose how many they compute.
        graph: ONNX bytes to open instead of the file's content.

    Raises:
        ModelError: OpenVINO cannot read the file, or cannot run it on the devices.
        BackendError: OpenVINO has no such device here, or it does not compute in the precision of
            the file.
    """

    backend = "openvino"
    profiles: tuple[tuple[int, int, int], ...] = ()

    def __init__(
        self,
        path: Path,
        accelerator: Accelerator,
        *,
        threads: int | None,
        streams: int = 1,
        graph: bytes | None = None,
    ) -> None:
        self._path, self._streams = path, streams
        names = devices.find(accelerator)
        with translated(f"{path}: OpenVINO cannot open this model", ModelError):
            self._model: Any = openvino.core().read_model(graph or path)
        self.signature: Signature = signature_of(path, self._model)
        precision = devices.graph_precision(self._model)
        with translated(f"OpenVINO cannot ask {accelerator} for its precisions"):
            self._hints = _hints(names, accelerator, precision)
        self._configs = {name: self._config(name, threads) for name in self._hints}
        first = _first_shape(path, self.signature)
        self._names = tuple(self._hints)
        if accelerator.mode == "auto":
            self._names = (self._decide(accelerator, first),)
        self._is_hetero = accelerator.mode == "hetero"
        self._forms = CompiledForms(None, self._compile)
        # here, so that a model that a device cannot run is refused before the first picture
        with translated(f"{path}: OpenVINO cannot run this model on {accelerator}", ModelError):
            compiled = self._forms.get(first).compiled
        used = [devices.own_name(name) for name in _execution_devices(compiled)]
        self.device = ", ".join(used)
        if accelerator.mode:
            self.device += f" ({accelerator})"
        self.few_shapes = any(devices.kind_of(name) != "CPU" for name in self._names)

    def slot(self, input_shape: tuple[int, ...]) -> OpenVinoSlot:
        """Make a slot; compile the model if necessary."""
        return OpenVinoSlot(self._form, lambda _: None, self.signature, input_shape)

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return one more than compute: its tile is cut or pasted while the others compute."""
        return min(self._streams + 1, MAX_SLOTS_EACH) if self.few_shapes else self._streams + 1

    def device_memory(self, input_shape: tuple[int, ...]) -> DeviceMemory | None:
        """Return the memory of the smallest device that states it; None: none does."""
        stated = [devices.memory_bytes(name) for name in self._names]
        known = [each for each in stated if each is not None]
        return DeviceMemory(min(known), None) if known else None

    def close(self) -> None:
        """Release the compiled models; open slots keep theirs until they are closed."""
        self._forms.clear()

    def _form(self, input_shape: tuple[int, ...]) -> Form:
        with translated(f"{self._path}: OpenVINO refuses shape {input_shape} on {self.device}"):
            return self._forms.get(input_shape)

    def _config(self, name: str, threads: int | None) -> dict[str, Any]:
        config = {
            "INFERENCE_PRECISION_HINT": self._hints[name],
            "PERFORMANCE_HINT": "LATENCY" if self._streams == 1 else "THROUGHPUT",
        }
        if devices.kind_of(name) == "CPU":
            config = {**config, **cpu_config(threads, self._streams, "auto")}
        return config

    def _decide(self, accelerator: Accelerator, shape: tuple[int, ...]) -> str:
        """Let AUTO choose one of the devices, once."""
        if len(self._names) == 1:
            return self._names[0]
        config = {
            "DEVICE_PROPERTIES": self._configs,
            # without this the CPU computes until the chosen device has compiled
            "ENABLE_STARTUP_FALLBACK": False,
        }
        target = f"AUTO:{','.join(self._names)}"
        with translated(f"{self._path}: no device of {accelerator} runs this model", ModelError):
            compiled = openvino.core().compile_model(self._reshaped(shape), target, config)
            chosen = _execution_devices(compiled)[0]
        log.info("device %s: OpenVINO chose %s", accelerator, devices.own_name(chosen))
        return chosen

    def _compile(self, input_shape: tuple[int, ...]) -> Any:
        target, config = self._names[0], self._configs[self._names[0]]
        if self._is_hetero:
            target = f"HETERO:{','.join(self._names)}"
            config = {"DEVICE_PROPERTIES": {name: self._configs[name] for name in self._names}}
        compiled = openvino.core().compile_model(self._reshaped(input_shape), target, config)
        used = _execution_devices(compiled)
        unasked = [name for name in used if name not in self._configs]
        if unasked:
            raise BackendError(f"OpenVINO computes on {', '.join(unasked)}, expected {target}")
        devices.check_hints(compiled, self._hints, used)
        return compiled

    def _reshaped(self, input_shape: tuple[int, ...]) -> Any:
        model = self._model.clone()
        model.reshape(shapes_of(self.signature, input_shape))
        return model


def _hints(names: tuple[str, ...], accelerator: Accelerator, precision: str) -> dict[str, str]:
    """Return the precision of each device; AUTO leaves out devices that lack that of the file."""
    found: dict[str, str] = {}
    refusal = None
    for name in names:
        try:
            found[name] = devices.hint(name, precision)
        except BackendError as error:
            if accelerator.mode != "auto":
                raise
            refusal = error
            log.warning("device %s: %s", accelerator, error)
    if not found and refusal is not None:
        raise refusal
    return found


def _execution_devices(compiled: Any) -> list[str]:
    """Return which devices run a model; AUTO puts one that helps for a while into parentheses."""
    names = compiled.get_property("EXECUTION_DEVICES")
    return [devices.canonical(str(name).strip("()")) for name in names]


def _first_shape(path: Path, signature: Signature) -> tuple[int, ...]:
    """Return the shape to compile first: the self-test's, so that nothing is compiled twice."""
    manifest = read_manifest(path)
    size = FIRST_PX
    if manifest is not None:
        size = manifest.size_px or (manifest.probe.size_px if manifest.probe else size)
    is_nchw = signature.input_shape[1] in (1, 3)
    wanted = (1, None, *size) if is_nchw else (1, *size, None)
    return tuple(
        side if side is not None else other or 3
        for side, other in zip(signature.input_shape, wanted, strict=True)
    )
