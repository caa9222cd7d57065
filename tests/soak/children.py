"""Commands on the same output folder that are killed in the middle of their work."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

import srsdk
from tests.conftest import make_picture
from tests.soak.material import upscaled

COUNT = 6


class Children:
    """Runs `srsdk upscale` on a folder, and kills it.

    Args:
        folder: for the sources.
        output: the folder that the soak test's threads write to.
        up: gives the results without load.
        model: name of the model.
    """

    def __init__(self, folder: Path, output: Path, up: srsdk.Upscaler, model: str) -> None:
        folder.mkdir()
        self._output = output
        self.expected: dict[str, str] = {}
        """Digest of each result, by name."""
        for index in range(COUNT):
            path = folder / f"child-{index}.png"
            Image.fromarray(make_picture(100, 90 + index, seed=index)).save(path)
            self.expected[path.name] = upscaled(up, path, folder / "alone.png")
        command = ["upscale", str(folder), "-o", str(output), "--model", model, "--force"]
        self._command = [sys.executable, "-m", "srsdk", *command, "--backend", up.backend]
        self.killed = self.finished = 0

    def run(self, choice: random.Random, longest_s: float) -> list[str]:
        """Start a child and kill it at a random moment; return what is wrong then."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(self._command, **quiet)  # type: ignore[call-overload]
        try:
            status = child.wait(choice.uniform(0.1, 1) * longest_s)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            self.killed += 1
        else:
            self.finished += 1
            if status:
                return [f"a child ended with status {status}"]
        return self._different()

    def _different(self) -> list[str]:
        found = {path.name: path for path in self._output.glob("child-*")}
        return [
            f"{name} of a killed child is not the result"
            for name, path in found.items()
            if _hash(path) != self.expected.get(name)
        ]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
