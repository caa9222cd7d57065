"""Remove one wait, event, copy or lock of the GPU path at a time and see that it is noticed.

    python -m tests.simulators.cuda -m tests.simulated.mutants [--seeds 120] [--list]

Every statement of the functions in `HOT_PATH` that records an event, waits, copies or holds a lock
is left out in a process of its own, which then runs the interleavings until a byte is wrong, a
check fails or the process crashes. Exit code 1: a mutant was not noticed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import os
import signal
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.simulated.interleavings import run_seed
from tests.simulators.cuda import Simulator

HOT_PATH = {
    "srsdk.engines.cuda.slot": (
        "CudaSlot.submit", "CudaSlot._enqueue", "CudaSlot.wait", "CudaSlot.close",
    ),
    "srsdk.engines.cuda.arrays": (
        "DeviceArray.written", "DeviceArray.__dlpack__", "DeviceArray.close", "borrow", "_order",
    ),
    "srsdk.inference.device_pipeline": (
        "DevicePipeline.upscale", "DevicePipeline._tiled", "DevicePipeline._check_window",
        "_Copies._fill", "_Copies._drain",
    ),
}  # fmt: skip
CALLS = {
    "record", "order", "wait", "drain", "copy", "copy_in", "copy_out", "copy_rows", "clear",
    "synchronize", "_synchronize", "written", "_order",
}  # fmt: skip
MAX_SECONDS = 60
JOBS = 2


@dataclass(frozen=True)
class Mutant:
    """One statement that is left out."""

    module: str
    """Where."""
    function: str
    """Qualified name."""
    line: int
    """Line of the statement."""
    text: str
    """Its source."""


class _Removal(ast.NodeTransformer):
    """Leave out the statement or the expression of a lambda on one line."""

    def __init__(self, line: int) -> None:
        self._line = line

    def visit_Expr(self, node: ast.Expr) -> Any:
        if node.lineno == self._line:
            return ast.copy_location(ast.Pass(), node)
        self.generic_visit(node)
        return node

    def visit_With(self, node: ast.With) -> Any:
        self.generic_visit(node)
        return node.body if node.lineno == self._line and _holds_lock(node) else node

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        self.generic_visit(node)
        if node.lineno == self._line:
            node.body = ast.copy_location(ast.Constant(None), node.body)
        return node


def mutants() -> Iterator[Mutant]:
    """Yield every statement that is left out once."""
    for module, functions in HOT_PATH.items():
        source = inspect.getsource(importlib.import_module(module))
        found = dict(_functions(ast.parse(source)))
        lines = source.splitlines()
        for name in functions:
            for node in ast.walk(found[name]):
                if _is_target(node):
                    line = node.lineno  # type: ignore[attr-defined]
                    yield Mutant(module, name, line, lines[line - 1].strip())


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _is_target(node: ast.AST) -> bool:
    if isinstance(node, ast.With):
        return _holds_lock(node)
    if not isinstance(node, (ast.Expr, ast.Lambda)):
        return False
    call = node.value if isinstance(node, ast.Expr) else node.body
    if not isinstance(call, ast.Call):
        return False
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return name in CALLS


def _holds_lock(node: ast.With) -> bool:
    return any(ast.unparse(item.context_expr).endswith("lock") for item in node.items)


def apply(mutant: Mutant) -> None:
    """Change the function in this process."""
    module = importlib.import_module(mutant.module)
    tree = _Removal(mutant.line).visit(ast.parse(inspect.getsource(module)))
    code = compile(ast.fix_missing_locations(tree), inspect.getfile(module), "exec")
    target: Any = module
    for part in mutant.function.split("."):
        target = inspect.getattr_static(target, part)
    target.__code__ = _code_of(code, mutant.function)


def _code_of(code: types.CodeType, name: str) -> types.CodeType:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_qualname == name:
                return constant
            with contextlib.suppress(LookupError):
                return _code_of(constant, name)
    raise LookupError(name)


def notice(mutant: Mutant, seeds: int) -> str | None:
    """Run seeds with a mutant; return how it was noticed, or None."""
    apply(mutant)
    gpu = Simulator()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            try:
                run_seed(gpu, Path(folder), seed)
            except BaseException as error:
                return f"seed {seed}: {type(error).__name__}: {error}"
    return None


def start(mutant: Mutant, seeds: int) -> tuple[int, int]:
    """Start a process for a mutant; return its number and a pipe with its answer."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    signal.alarm(MAX_SECONDS)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    answer = notice(mutant, seeds)
    os.write(writer, (answer or "").encode()[:500])
    os._exit(0)


def finish(child: int, reader: int) -> str | None:
    """Wait for a process and return how it noticed its mutant, or None."""
    answer = os.read(reader, 1 << 10).decode()
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"the process ended with {signal.Signals(os.WTERMSIG(status)).name}"
    return answer or None


def main() -> int:
    """Try all mutants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=120, help="for each mutant (default: 120)")
    parser.add_argument("--list", action="store_true", help="only list them")
    arguments = parser.parse_args()
    began_s, missed = time.monotonic(), 0
    pending = list(mutants())
    running: list[tuple[Mutant, int, int]] = []
    if arguments.list:
        for one in pending:
            sys.stdout.write(f"{one.function}:{one.line}: {one.text}\n")
        return 0
    count = len(pending)
    while pending or running:
        while pending and len(running) < JOBS:
            one = pending.pop(0)
            running.append((one, *start(one, arguments.seeds)))
        one, child, reader = running.pop(0)
        noticed = finish(child, reader)
        missed += noticed is None
        sys.stdout.write(f"{one.function}:{one.line}: {one.text}\n    {noticed or 'MISSED'}\n")
        sys.stdout.flush()
    seconds = time.monotonic() - began_s
    sys.stdout.write(f"{count} mutants, {missed} missed, {seconds:.0f} s\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
