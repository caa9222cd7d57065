"""Fakes of what ONNX Runtime answers about plug-in providers and the devices that they take."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


def device(ep: str, kind: str, *, virtual: bool = False) -> Any:
    """Return an `OrtEpDevice`: of a provider, on a device of a kind (`CPU`, `GPU`, `NPU`)."""
    hardware = SimpleNamespace(
        type=f"OrtHardwareDeviceType.{kind}", metadata={"is_virtual": "1"} if virtual else {}
    )
    return SimpleNamespace(ep_name=ep, device=hardware)


@dataclass
class FakePlugins:
    """The functions of `onnxruntime` that find and load plug-in providers.

    Its devices are listed once a library is registered, as in ONNX Runtime 1.32.
    """

    devices: list[Any]
    built_in: tuple[str, ...] = ("CPUExecutionProvider",)
    refuses: str = ""
    """Error of every library."""
    registered: list[tuple[str, str]] = field(default_factory=list)
    __version__: str = "1.32.0"

    def get_available_providers(self) -> list[str]:
        """Return the providers of this build."""
        return list(self.built_in)

    def get_ep_devices(self) -> list[Any]:
        """Return the devices of the registered libraries."""
        cpu = device("CPUExecutionProvider", "CPU")
        return [cpu, *(self.devices if self.registered else [])]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        """Load a library; the second time under a name is an error."""
        if self.refuses:
            raise RuntimeError(self.refuses)
        if any(each == name for each, _ in self.registered):
            raise RuntimeError(f"EP library is already registered under {name}")
        self.registered.append((name, path))


class FakeSession:
    """A session that says which provider each node got.

    Args:
        providers: as `get_providers` returns them.
        nodes: operators by provider.
    """

    def __init__(self, providers: list[str], nodes: dict[str, list[str]]) -> None:
        self._providers, self._nodes = providers, nodes

    def get_providers(self) -> list[str]:
        """Return the providers."""
        return self._providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        """Return the parts of the graph."""
        return [
            SimpleNamespace(
                ep_name=name,
                get_nodes=lambda ops=ops: [SimpleNamespace(op_type=op) for op in ops],
            )
            for name, ops in self._nodes.items()
        ]


class CopyingBinding:
    """An I/O binding that copies inputs when they are bound, as for a device with own memory."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding
        self._kept: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binding, name)

    def bind_cpu_input(self, name: str, array: Any) -> None:
        """Bind a copy."""
        self._kept[name] = array.copy()
        self._binding.bind_cpu_input(name, self._kept[name])


class CopyingSession:
    """A real session with such bindings."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def io_binding(self) -> CopyingBinding:
        """Return a binding that copies."""
        return CopyingBinding(self._session.io_binding())

    def run_with_iobinding(self, binding: CopyingBinding) -> None:
        """Run."""
        self._session.run_with_iobinding(binding._binding)
