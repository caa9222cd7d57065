"""Make networks traceable whose helper functions turn the batch into a Python integer.

Swin Transformer's code computes the batch as `int(windows.shape[0] / (H * W / size / size))`, and
many networks copy it. What is recorded of it is a constant. While a network is exported, these
functions are replaced by ones that compute the same without the batch.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def traceable(network: nn.Module) -> Iterator[None]:
    """Replace known helper functions in the modules that define a network, and restore them."""
    names = {type(part).__module__ for part in network.modules()}
    kept: list[tuple[object, str, object]] = []
    for name in sorted(names):
        module = sys.modules.get(name)
        for function, ours in _KNOWN.items():
            theirs = getattr(module, function, None)
            if theirs is not None and _arguments(theirs) == _arguments(ours):
                kept.append((module, function, theirs))
                setattr(module, function, ours)
    try:
        yield
    finally:
        for place, function, theirs in reversed(kept):
            setattr(place, function, theirs)


def _arguments(function: Callable[..., object]) -> list[str]:
    try:
        return [name.lower() for name in inspect.signature(function).parameters]
    except (TypeError, ValueError):
        return []


def _window_reverse(windows: Tensor, window_size: int | tuple[int, int], h: int, w: int) -> Tensor:
    """Put (N * windows, height, width, C) windows together: (N, H, W, C)."""
    height, width = (window_size, window_size) if isinstance(window_size, int) else window_size
    channels = windows.shape[-1]
    x = windows.view(-1, h // height, w // width, height, width, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, channels)


def _windows2img(img_splits_hw: Tensor, H_sp: int, W_sp: int, H: int, W: int) -> Tensor:  # noqa: N803
    """Put (N * windows, H_sp * W_sp, C) windows together: (N, H, W, C)."""
    channels = img_splits_hw.shape[-1]
    x = img_splits_hw.view(-1, H // H_sp, W // W_sp, H_sp, W_sp, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, H, W, channels)


_KNOWN: dict[str, Callable[..., Tensor]] = {
    "window_reverse": _window_reverse,
    "windows2img": _windows2img,
}
"""By name; the names of the arguments must be the same, too."""
