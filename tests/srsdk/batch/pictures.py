"""Small pictures, and work that doubles them without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from srsdk.batch.jobs import Job
from srsdk.image import decode
from srsdk.scheduling.context import Progress
from tests.conftest import make_picture


def fill(root: Path, *names: str) -> None:
    """Write small pictures."""
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_picture(8, 10, seed=index)).save(path)


def tree(root: Path) -> list[str]:
    """Return all files below a folder."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def lines(report: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines report."""
    return [json.loads(line) for line in report.read_text(encoding="ascii").splitlines()]


def double(job: Job, _: Progress | None = None) -> None:
    """Decode, repeat each pixel and encode, as the real work does."""
    decode.check_target(job.target, overwrite=False)
    image = decode.to_image(decode.read(job.source))
    decode.write(image.resize((image.width * 2, image.height * 2), 0), job.target, {})
