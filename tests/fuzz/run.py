"""One fuzzing process: `python -m tests.fuzz.run TARGET FOUND [libFuzzer options] [CORPUS...]`.

A finding does not end the process: each new code line that raises is recorded in FOUND, with the
input and its traceback.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

from tests.fuzz.targets import load


def watched(target: Callable[[bytes], None], found: Path) -> Callable[[bytes], None]:
    """Wrap a target to record each exception once per code line that raises it."""
    seen: set[str] = set()

    def once(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"
            if what not in seen:
                seen.add(what)
                name = f"{what}-{hashlib.sha1(data).hexdigest()[:8]}"
                (found / name).write_bytes(data)
                (found / f"{name}.txt").write_text("".join(traceback.format_exception(error)))

    return once


def main() -> None:
    """Fuzz until the limits in libFuzzer's options are reached."""
    name, found = sys.argv[1], Path(sys.argv[2])
    # warnings about damaged files would fill the log, and take most of the time
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["srsdk", "training", "tomllib", "argparse", "PIL"]):
        target = load(name)
    found.mkdir(parents=True, exist_ok=True)
    # libFuzzer runs this script in a shell when it minimizes a corpus
    again = found.parent / "again"
    command = shlex.join([sys.executable, "-m", "tests.fuzz.run", name, str(found)])
    again.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    again.chmod(0o755)
    atheris.Setup([str(again), *sys.argv[3:]], watched(target, found))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
