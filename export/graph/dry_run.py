"""Run a network on tensors without values: count its operators, and find branches on values."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from export.graph.torch_errors import BranchError, branch_error


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the operators that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operators(network: nn.Module, picture: Tensor) -> int:
    """Return the number of operators of one run; 0: the network does not run without values.

    Args:
        network: as below.
        picture: what it takes.
    """
    try:
        return _run(network, picture)
    except Exception:
        # an operator that only knows tensors with values, or a branch: the exporter finds out
        return 0


def check_branches(network: nn.Module, picture: Tensor) -> None:
    """Reject a network whose Python code reads values of the picture: `if x.mean() > 0`.

    Args:
        network: maps (N, C, H, W) floats.
        picture: what it takes.

    Raises:
        BranchError: names the line.
    """
    try:
        _run(network, picture)
    except DataDependentOutputException as error:
        text = "".join(traceback.format_exception(error))
        raise branch_error(text) from error
    except BranchError:
        raise
    except Exception:
        # an operator that only knows tensors with values: the exporter finds out
        return


@torch.no_grad()
def _run(network: nn.Module, picture: Tensor) -> int:
    counter = _Counter()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, counter:
        network(mode.from_tensor(picture))
    return counter.count
