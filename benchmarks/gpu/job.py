"""What a section of `gpu-check` is given, and how it reports values, checks and gaps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srsdk.engines.cuda.device import Device

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "training" / "weights"
SAMPLES = ROOT / "samples"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


class Missing(Exception):  # noqa: N818 - says what was found, like the errors of srsdk
    """An ingredient of a section is not on this machine; the message says which."""


@dataclass(frozen=True)
class Setup:
    """The arguments of `gpu-check` that sections use."""

    out: Path
    """Output folder."""
    data: Path = SAMPLES
    """Folder of test pictures, searched recursively."""
    engines: tuple[Path, ...] = ()
    """TensorRT engines."""
    train_data: Path | None = None
    """Folder of pictures to train on; None: no training."""
    recipe: Path = ROOT / "training" / "recipes" / "gan_x4_late.toml"
    """Recipe of the training run."""
    start_from: Path | None = WEIGHTS / "gan_x4.safetensors"
    """Initial weights of the training run."""
    teacher: Path | None = None
    """Network to distill from, for recipes with a teacher."""

    def to_json(self) -> str:
        """Return the setup as JSON."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Setup:
        """Return the setup of `to_json`."""
        values = json.loads(text)
        engines = tuple(Path(path) for path in values.pop("engines"))
        paths = {name: None if path is None else Path(path) for name, path in values.items()}
        return cls(engines=engines, **paths)  # type: ignore[arg-type]

    def pictures(self) -> list[Path]:
        """Return the test pictures, sorted by name."""
        found = self.data.rglob("*")
        return sorted(path for path in found if path.suffix.lower() in PICTURE_SUFFIXES)


@dataclass
class Job:
    """One run of a section.

    Args:
        setup: the arguments of the command.
        seconds: time budget of the section.
        publish: called with the record so far, so that a section that dies or is stopped loses
            only what came after.
    """

    setup: Setup
    seconds: float
    publish: Callable[[dict[str, Any]], None] = lambda _: None
    found: dict[str, Any] = field(default_factory=dict)
    """What was measured."""
    checks: list[dict[str, Any]] = field(default_factory=list)
    """What must hold: `what`, `holds`, `got`."""

    def keep(self, **values: Any) -> None:
        """Record measured values at once."""
        self.found.update(values)
        self.publish(self.record())

    def check(self, what: str, holds: bool, got: Any = None) -> None:
        """Record a statement, whether it holds, and the value it was decided by."""
        self.checks.append({"what": what, "holds": bool(holds), "got": got})
        self.publish(self.record())

    def record(self) -> dict[str, Any]:
        """Return values and checks as plain JSON values."""
        return {"found": self.found, "checks": self.checks}

    def device(self) -> Device:
        """Return the first GPU."""
        return Device(0)
