"""The sections of `gpu-check` in the order they run: what each shows, its time and its needs."""

from __future__ import annotations

from dataclasses import dataclass

TOTAL_S = 538.0
"""Time of a whole run, below nine minutes: commands on a lent machine are often limited to ten."""


@dataclass(frozen=True)
class Section:
    """One part of the check, run in a process of its own."""

    name: str
    """Name in the record and on the command line."""
    shows: str
    """What it shows, in one line."""
    work: str
    """`module:function`, called with a `Job`."""
    budget_s: float
    """Seconds after which it is stopped, start of the process included."""
    needs: tuple[str, ...] = ()
    """Ingredients besides the GPU, by their names in `needs`."""
    takes_rest: bool = False
    """Use all the time that is left, and continue an unfinished run when resumed."""


_HERE = "benchmarks.gpu"
_TORCH = ("torch-cuda", "weights")

SECTIONS = (
    Section("versions", "GPU, driver, libraries", f"{_HERE}.measure:versions", 10),
    Section("tests", "the tests marked `gpu` pass", f"{_HERE}.commands:tests", 75, ("pytest",)),
    Section(
        "memory",
        "pinned copies return the right bytes, are asynchronous, and overlap",
        f"{_HERE}.measure:memory_layer",
        15,
    ),
    Section(
        "graphs", "a CUDA graph is captured; copies are hidden", f"{_HERE}.sections:graphs", 25,
        _TORCH,
    ),
    Section(
        "slots", "slots are exact for many sizes, slots, batches", f"{_HERE}.sections:slots", 25,
        ("torch-cuda",),
    ),
    Section(
        "release", "100 open-use-close cycles lose no memory", f"{_HERE}.sections:release", 20,
        ("torch-cuda",),
    ),
    Section(
        "neighbor_torch", "late data on PyTorch's own streams", f"{_HERE}.neighbors:run_torch", 15,
        ("torch-cuda",),
    ),
    Section(
        "neighbor_cupy", "late data on CuPy's own streams", f"{_HERE}.neighbors:run_cupy", 20,
        ("torch-cuda", "cupy"),
    ),
    Section(
        "neighbor_numba", "late data on Numba's own streams", f"{_HERE}.neighbors:run_numba", 20,
        ("torch-cuda", "numba"),
    ),
    Section(
        "neighbor_jax", "late data of JAX, on its own stream", f"{_HERE}.neighbors:run_jax", 30,
        ("torch-cuda", "jax"),
    ),
    Section(
        "onnxruntime", "device='cuda' equals the CPU; all nodes run on CUDA",
        f"{_HERE}.engines:onnxruntime", 45, ("onnxruntime-gpu", "pictures"),
    ),
    Section(
        "peers", "PyTorch alone: eager, channels_last FP16, compiled", f"{_HERE}.sections:peers",
        45, _TORCH,
    ),
    Section("bounds", "lower bounds of the time", f"{_HERE}.sections:bounds", 15, _TORCH),
    Section(
        "sweep", "tiles, batches, slots, compute streams", f"{_HERE}.sections:sweep", 25, _TORCH
    ),
    Section(
        "end_to_end", "numpy to numpy, and device to device", f"{_HERE}.sections:end_to_end", 15,
        _TORCH,
    ),
    Section(
        "memcheck", "compute-sanitizer finds no memory error", f"{_HERE}.commands:memcheck", 45,
        ("torch-cuda", "sanitizer"),
    ),
    Section(
        "racecheck", "compute-sanitizer finds no race", f"{_HERE}.commands:racecheck", 45,
        ("torch-cuda", "sanitizer"),
    ),
    Section(
        "engines", "engines run, or are refused with the right sentence",
        f"{_HERE}.engines:engines", 10, ("engine",),
    ),
    Section("pictures", "results side by side", f"{_HERE}.engines:pictures", 15, ("sample",)),
    Section(
        "training", "BF16 training for the time left", f"{_HERE}.commands:training", 20,
        ("torch-cuda", "train-data"), takes_rest=True,
    ),
)  # fmt: skip


def select(only: str | None, sections: tuple[Section, ...] = SECTIONS) -> tuple[Section, ...]:
    """Return the sections with the given names, separated by commas; None: all.

    Raises:
        ValueError: an unknown name.
    """
    if only is None:
        return sections
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {section.name: section for section in sections}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"--only: no section {', '.join(unknown) or 'named'}; there are {', '.join(known)}"
        )
    return tuple(section for section in sections if section.name in names)
