"""The interface of all inference engines: `Engine` and `Slot`.

An Engine is a model file opened on one device by one backend. A Slot holds the buffers for one tile
shape and is reused. Everything above this interface is plain numpy; everything below it belongs to
one library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from srsdk.errors import ModelError

MAX_SLOTS_EACH = 4
"""Maximum slots of one shape on one GPU: more were never needed to hide copies and host work."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Types and shapes of a model graph's input and output."""

    dtype: str
    """`uint8` or `float32`, the same for input and output."""
    input_shape: tuple[int | None, ...]
    """Four dimensions; None: any."""
    output_shape: tuple[int | None, ...]
    """Four dimensions; None: any."""
    latent: int = 0
    """Channels of a second input, `eps`, (N, latent, H, W) float32; there is then also a second
    output, `confidence`, (N, H * scale, W * scale, 1) float32; 0: neither exists."""
    values: int = 0
    """Numbers in a second input, `srsdk.values`, (values,) float32; 0: there is none."""

    def noise_shape(self, input_shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the shape of `eps` for an (N, H, W, C) input."""
        batch, height, width = input_shape[:3]
        return (batch, self.latent, height, width)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of an engine's device."""

    free_bytes: int
    """Free now or held by the engine's slots; at most `max_memory`."""
    shared_bytes: int | None
    """Shared by all slots of a shape; None: the library reports it only after the first run."""


class Slot(Protocol):
    """Reusable buffers for one input shape: fill `input`, `submit()`, `wait()` for the output."""

    input: npt.NDArray[Any]
    """Input of the model, in the slot's shape. The caller writes it."""
    timed: bool
    """Record the times of the next run; costs a few microseconds."""

    def submit(self) -> None:
        """Start computing and return at once. The input must not be written until `wait`."""

    def wait(self) -> npt.NDArray[Any]:
        """Block until the output is ready; the slot owns it and reuses it at the next `submit`.

        Its shape is the model's, or for uint8 NHWC also (N, H, scale, W, scale, C), in any strides:
        blocks of pixels that the caller puts in place (`inference.blocks`).

        Safe to call again: after a failure or an interrupt, the caller waits again until the slot
        is idle.

        Raises:
            BackendError: the library failed.
        """

    def times(self) -> dict[str, float]:
        """Return the milliseconds of the last `timed` run by step: h2d, execute, d2h."""

    def close(self) -> None:
        """Release all resources; safe to call again."""


def picture_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an output whose blocks of pixels are in place; others as they are."""
    if len(shape) != 6:
        return shape
    n, height, scale, width, _, channels = shape
    return n, height * scale, width * scale, channels


class SamplingSlot(Slot, Protocol):
    """A slot of a model with a `latent` in its signature."""

    noise: npt.NDArray[Any]
    """The input `eps`; zeros (the mean) until the caller writes it, with the rules of `input`."""
    confidence: npt.NDArray[Any]
    """The output `confidence` after `wait`; valid until the next `submit`."""


class ValuesSlot(Slot, Protocol):
    """A slot of a model with `values` in its signature."""

    values: npt.NDArray[Any]
    """The input `srsdk.values`, which the caller writes, with the rules of `input`."""


class Engine(Protocol):
    """A model file opened on one device by one backend."""

    backend: str
    """Name of the backend."""
    device: str
    """Name of the device, such as `cpu`."""
    signature: Signature
    """Types and shapes of input and output."""

    profiles: tuple[tuple[int, int, int], ...]
    """The only input (batch, height, width) that it accepts; empty: any."""
    few_shapes: bool
    """Whether each new input shape takes long, so that pictures of all sizes share a few."""

    def slot(self, input_shape: tuple[int, ...]) -> Slot:
        """Make a slot for one input shape (batch, then as in `signature`); called by any thread.

        Raises:
            OutOfMemoryError: not enough memory; nothing stays allocated.
            BackendError: the library refuses the shape.
        """

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return how many slots keep the device busy, as far as known now."""

    def device_memory(self, input_shape: tuple[int, ...]) -> DeviceMemory | None:
        """Return the memory of the device; None on a CPU."""

    def close(self) -> None:
        """Release all resources; safe to call again."""


def make_signature(
    path: Path,
    dtypes: tuple[str, str],
    input_shape: tuple[int | None, ...],
    output_shape: tuple[int | None, ...],
    further: tuple[int, int] = (0, 0),
) -> Signature:
    """Check a graph's types and shapes and return its signature.

    Raises:
        ModelError: it is not an image model.
    """
    if len(input_shape) != 4 or len(output_shape) != 4:
        raise ModelError(
            f"{path} is not an image model: it maps {len(input_shape)} dimensions to "
            f"{len(output_shape)}, expected 4 and 4 (batch, height, width, channels)"
        )
    if dtypes[0] != dtypes[1] or dtypes[0] not in ("uint8", "float32"):
        raise ModelError(
            f"{path} is not an image model: it maps {dtypes[0]} to {dtypes[1]}, "
            "expected uint8 to uint8 or float32 to float32"
        )
    return Signature(dtypes[0], input_shape, output_shape, *further)


def check_single(path: Path, inputs: int, outputs: int) -> None:
    """Reject graphs with several inputs or outputs.

    Raises:
        ModelError: not exactly one of each.
    """
    if (inputs, outputs) != (1, 1):
        raise ModelError(
            f"{path} is not an image model: it has {inputs} inputs and {outputs} outputs, "
            "expected one of each"
        )


EPS, CONFIDENCE = "eps", "confidence"

SAMPLING_PORTS = (["image", EPS], ["upscaled", CONFIDENCE])
"""Input and output names of a sampling network."""


VALUES = "srsdk.values"
"""Input for the numbers of `Manifest.inputs`, in their order."""


def further_inputs(
    path: Path, inputs: list[str], outputs: list[str], last_input: tuple[int | None, ...]
) -> tuple[int, int]:
    """Return the channels of a graph's noise input, and its numbers beside the picture.

    Args:
        path: the file, for the error message.
        inputs: names of the inputs.
        outputs: names of the outputs.
        last_input: shape of the last input.

    Raises:
        ModelError: several inputs or outputs of another kind.
    """
    channels = last_input[1] if len(last_input) == 4 else None
    if (inputs, outputs) == SAMPLING_PORTS and channels:
        return channels, 0
    if inputs[1:] == [VALUES] and len(last_input) == 1 and last_input[0]:
        check_single(path, 1, len(outputs))
        return 0, last_input[0]
    check_single(path, len(inputs), len(outputs))
    return 0, 0
