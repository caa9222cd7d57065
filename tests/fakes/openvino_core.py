"""Fake of `openvino.Core` on a machine with Intel GPUs and an NPU: the real CPU computes for them.

It answers questions about devices and about compiled models; reading and computing are real.
"""

from __future__ import annotations

from typing import Any

CAPABILITIES = {
    "CPU": ["FP32", "BF16", "INT8"],
    "GPU": ["FP32", "FP16", "INT8", "BIN"],
    "NPU": ["FP16", "INT8", "EXPORT_IMPORT"],
}
"""`OPTIMIZATION_CAPABILITIES` by kind of device, as OpenVINO 2026.4 documents them."""
MEMORY_BYTES = 8 << 30


class FakeType:
    """The value of `INFERENCE_PRECISION_HINT`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def get_type_name(self) -> str:
        """Return the name of the type."""
        return self._name


class FakeCompiled:
    """A compiled model that says it runs on other devices."""

    def __init__(self, compiled: Any, used: list[str], hints: dict[str, str]) -> None:
        self._compiled, self._used, self._hints = compiled, used, hints

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def get_property(self, name: str) -> Any:
        """Answer for the devices; a model on one device has no `DEVICE_PROPERTIES`."""
        if name == "EXECUTION_DEVICES":
            return self._used
        if name == "DEVICE_PROPERTIES" and len(self._used) > 1:
            hint = "INFERENCE_PRECISION_HINT"
            return {each: {hint: FakeType(self._hints[each])} for each in self._used}
        if name == "INFERENCE_PRECISION_HINT":
            return FakeType(self._hints[self._used[0]])
        raise RuntimeError(f"Unsupported property: {name}")


class FakeCore:
    """The devices of another machine.

    Args:
        real: the `openvino.Core` of this one.
        devices: names of the devices, as OpenVINO lists them.
        computes_in: precision that the devices choose in spite of what they are asked for.
        runs_on: devices that run a model in spite of what was asked for.
        out_of_memory: input values from which on a GPU has no memory for a model.
    """

    def __init__(
        self,
        real: Any,
        devices: tuple[str, ...] = ("CPU", "GPU.0", "GPU.1", "NPU"),
        *,
        computes_in: str = "",
        runs_on: tuple[str, ...] = (),
        out_of_memory: int = 1 << 62,
    ) -> None:
        self._real, self.available_devices = real, list(devices)
        self._computes_in, self._runs_on = computes_in, list(runs_on)
        self._out_of_memory = out_of_memory
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_property(self, device: str, name: str) -> Any:
        """Answer for a device."""
        kind = device.partition(".")[0]
        if name == "OPTIMIZATION_CAPABILITIES":
            return CAPABILITIES[kind]
        if name == "FULL_DEVICE_NAME":
            return f"Fake {device}"
        if name == f"{kind}_DEVICE_TOTAL_MEM_SIZE" and kind == "GPU":
            return MEMORY_BYTES
        raise RuntimeError(f"Unsupported property: {name}")

    def compile_model(self, model: Any, target: str, config: dict[str, Any]) -> Any:
        """Compile for the CPU; AUTO chooses the first device."""
        if target == "CPU":
            return self._real.compile_model(model, target, config)
        self.asked.append((target, config))
        values = 1
        for side in model.inputs[0].shape:
            values *= side
        if "GPU" in target and values >= self._out_of_memory:
            raise RuntimeError("Check failed\n[GPU] clEnqueue: CL_OUT_OF_RESOURCES")
        mode, _, names = target.rpartition(":")
        used = self._runs_on or names.split(",")[: 1 if mode == "AUTO" else None]
        parts = config.get("DEVICE_PROPERTIES", {names: config})
        hints = {name: parts.get(name, config) for name in used}
        stated = {
            name: self._computes_in or values.get("INFERENCE_PRECISION_HINT", "?")
            for name, values in hints.items()
        }
        compiled = self._real.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        # OpenVINO lists the first GPU with its number
        listed = ["GPU.0" if name == "GPU" else name for name in used]
        stated = {("GPU.0" if name == "GPU" else name): hint for name, hint in stated.items()}
        return FakeCompiled(compiled, listed, stated)
