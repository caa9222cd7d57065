"""One fuzzing process: `python -m tests.fuzz.run TARGET FOUND [options of libFuzzer] [CORPUS...]`.

A finding does not end it: each new place that raises is written to FOUND, with its traceback.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import atheris


def watched(target: Callable[[bytes], None], found: Path) -> Callable[[bytes], None]:
    """Return the target with what it raises written down, once for each place."""
    seen: set[str] = set()

    def once(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
            if what not in seen:
                seen.add(what)
                name = f"{what}-{hashlib.sha1(data).hexdigest()[:8]}"
                (found / name).write_bytes(data)
                (found / f"{name}.txt").write_text("".join(traceback.format_exception(error)))

    return once


def main() -> None:
    """Fuzz until libFuzzer's options end it."""
    name, found = sys.argv[1], Path(sys.argv[2])
    with atheris.instrument_imports(include=["srsdk", "training", "tomllib", "argparse", "PIL"]):
        from tests.fuzz.targets import TARGETS
    found.mkdir(parents=True, exist_ok=True)
    # what libFuzzer starts, in a shell, when it minimises a corpus
    again = found.parent / "again"
    command = shlex.join([sys.executable, "-m", "tests.fuzz.run", name, str(found)])
    again.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    again.chmod(0o755)
    atheris.Setup([str(again), *sys.argv[3:]], watched(TARGETS[name], found))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
