"""Read and write checkpoints: weights and everything else that an exact resume needs."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SCHEMA = "srsdk-training/1"
MAX_HEADER_BYTES = 16 << 20
"""Names, shapes and facts; those of a run of 2,000 tensors have 200 kB."""
MAX_STEP = 1 << 53
RENAMED = {
    "optimiser": "optimizer",
    "grey": "gray",
    "grey_noise": "gray_noise",
    "generalised_shape": "generalized_shape",
}
"""New names of recipe keys in files from before 2026-11-29."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the message says what was found."""


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and a JSON-serializable dict to one safetensors file, all or nothing.

    When it returns, the file survives a power cut.

    Raises:
        CheckpointError: the file cannot be written, for example because the disk is full.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    metadata = {"schema": SCHEMA, "facts": json.dumps(facts)}
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, temporary, metadata)
        # safetensors makes a file of its own, that nobody else can read, whatever the umask says
        temporary.chmod(mode)
        publish(temporary, path)
    except SafetensorError as error:
        # safetensors reports a full disk as its own error
        raise CheckpointError(f"{path}: cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync a complete file or folder, rename it, and sync the folder that it is in.

    After a power cut, a name without its data would be taken for the whole file; see
    `srsdk/system/durable.py`, which does the same.
    """
    for part in (*temporary.rglob("*"), temporary):
        if part.is_dir():
            _sync_folder(part)
            continue
        # Windows syncs only files that are open for writing
        with part.open("r+b") as file:
            os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents so that they survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # a folder cannot be opened
    # some network file systems do not sync folders, and not every folder may be read
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Named(dict[str, Any]):
    """A dict whose missing keys are an error of its file: a damaged checkpoint lacks some."""

    def __init__(self, path: Path, what: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self._path, self._what = path, what

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(f"{self._path}: damaged: it has no {self._what} {key!r}")


@contextmanager
def reading(path: Path, why: str = "damaged") -> Iterator[None]:
    """Turn what damaged contents raise while they are used into one sentence, keeping the cause.

    Raises:
        CheckpointError: names the file, `why` and the first line of the error.
    """
    try:
        yield
    except (CheckpointError, OSError):
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        first = " ".join(str(e).split())[:200]
        raise CheckpointError(f"{path}: {why}: {first or type(e).__name__}") from e


def metadata(path: Path) -> dict[str, str]:
    """Return the text values of a safetensors file's header, without reading tensors.

    Raises:
        CheckpointError: the file is missing or damaged, or its header is too long.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def is_ours(path: Path) -> bool:
    """Return whether a safetensors file was written by `save`, in any version.

    Raises:
        CheckpointError: as `metadata`.
    """
    return metadata(path).get("schema", "").startswith(SCHEMA.partition("/")[0])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{path}: not a safetensors file: its header has {header_bytes:,} bytes, expected "
                f"at most {MAX_HEADER_BYTES:,}"
            )
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint; a tensor or fact that it lacks is a `CheckpointError` when it is used.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by `save`.
    """
    with _opened(path) as file, reading(path, "not a safetensors file"):
        texts = file.metadata() or {}
        if texts.get("schema") != SCHEMA:
            raise CheckpointError(f"{path}: schema {texts.get('schema')!r}, expected {SCHEMA!r}")
        facts = _facts(path, texts)
    return _Named(path, "tensor", read_tensors(path)), _Named(path, "fact", facts)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of any safetensors file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _opened(path) as file, reading(path, "not a safetensors file"):
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict


def _facts(path: Path, texts: dict[str, str]) -> dict[str, Any]:
    """Parse the facts and check those that every file may have."""
    try:
        facts = json.loads(texts.get("facts", "null"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: its facts are not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path}: damaged: its facts are {_short(facts)}, expected an object")
    step = facts.get("step", 0)
    if type(step) is not int or not 0 <= step <= MAX_STEP:
        raise CheckpointError(
            f"{path}: damaged: step is {_short(step)}, expected a number of steps"
        )
    for name in ("recipe", "patches"):
        if not isinstance(facts.get(name, {}), dict):
            got = _short(facts[name])
            raise CheckpointError(f"{path}: damaged: {name} is {got}, expected an object")
    return dict(_renamed(facts))


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the averaged weights and the facts of a `weights`, `last` or packed file.

    Weights that `python -m training pack` stored as float16 are returned as float32.
    """
    tensors, facts = load(path)
    tensors = without_prefix("ema", tensors) or tensors
    if odd := [name for name, tensor in tensors.items() if tensor.is_complex()]:
        raise CheckpointError(f"{path}: damaged: {odd[0]!r} is complex, expected real weights")
    return {n: t.float() if t.dtype == torch.half else t for n, t in tensors.items()}, facts


def _renamed(facts: Any) -> Any:
    """Return facts with old recipe keys renamed; the shipped weights still contain them."""
    if isinstance(facts, dict):
        return {RENAMED.get(key, key): _renamed(value) for key, value in facts.items()}
    return facts


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Prepend `prefix.` to every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix.`, without the prefix."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's per-parameter state, keyed by `index.name`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned.

    Raises:
        ValueError, LookupError: the tensors are those of another optimizer.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for number, values in state.items():
        for name, value in values.items():
            # torch checks this only in the next step
            if value.dim() and value.shape != parameters[number].shape:
                raise ValueError(f"{name} of parameter {number} has shape {tuple(value.shape)}")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
