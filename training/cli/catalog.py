"""The shipped recipes and weights by name.

The comment at the top of a recipe says what it is for, then `Needs:` and `Time:`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.usage import UsageError, nearest

RECIPES = Path(__file__).parents[1] / "recipes"
WEIGHTS = Path(__file__).parents[1] / "weights"
SUFFIX = ".toml"
LEGEND = (
    "times: on one core of an AMD EPYC; shipped models with bfloat16 (AVX-512), 2026-12-01;",
    "       other recipes without it (AVX2), 2026-11-30",
    "needs: data: --data PICTURES; from X: --start-from X, shipped weights or the folder of a run",
    "run:   python -m training smoke --out runs/smoke",
    "       python -m training gan_x4 --data PICTURES --start-from gan_x2 --out runs/gan_x4",
    "read:  python -m training --show gan_x4",
)


@dataclass(frozen=True)
class Entry:
    """What the comment at the top of a recipe says."""

    name: str
    purpose: str
    """One sentence."""
    needs: str
    """Options; `-`: none but `--out`."""
    time: str
    """Duration of the whole run, such as `24 min`."""


def entries() -> list[Entry]:
    """Return the shipped recipes, sorted by name."""
    return [read(path) for path in sorted(RECIPES.glob(f"*{SUFFIX}"))]


def read(path: Path) -> Entry:
    """Read the comment at the top of a recipe."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    facts = {key: _fact(lines, f"{key}:") for key in ("Needs", "Time")}
    return Entry(path.stem, lines[0] if lines else "", facts["Needs"], facts["Time"])


def _fact(lines: Sequence[str], key: str) -> str:
    return next((line.removeprefix(key).strip() for line in lines if line.startswith(key)), "-")


def table(shown: Sequence[Entry]) -> str:
    """Return one line per recipe, and how to run one."""
    head = Entry("recipe", "purpose", "needs", "time")
    name, time, purpose = (
        max(len(getattr(entry, key)) for entry in (head, *shown))
        for key in ("name", "time", "purpose")
    )
    lines = [
        f"{e.name:<{name}}  {e.time:>{time}}  {e.purpose:<{purpose}}  {_short(e.needs)}"
        for e in (head, *shown)
    ]
    return "\n".join([*lines, "", *LEGEND, ""])


def _short(needs: str) -> str:
    return needs.replace("--start-from", "from").replace("--", "") if needs != "-" else needs


def find(text: str, commands: Iterable[str] = ()) -> Path:
    """Return the recipe for a shipped name or a path.

    Args:
        text: a name, or a path with `.toml` or a folder in it.
        commands: other words that may have been meant.

    Raises:
        UsageError: no such recipe; names those that resemble it.
    """
    path = Path(text)
    if path.suffix == SUFFIX or not _is_name(path) or path.is_file():
        if not path.is_file():
            raise UsageError(f"{path}: no such file{nearest(path.stem, _names())}")
        return path
    if text not in _names():
        hint = nearest(text, [*_names(), *commands])
        raise UsageError(f"{text!r} is no recipe{hint}; --list shows all that are shipped")
    return RECIPES / f"{text}{SUFFIX}"


def weights(text: str) -> Path:
    """Return the file for a path, for the folder of a run, or for the name of shipped weights."""
    path, shipped = Path(text), WEIGHTS / f"{text}.safetensors"
    if path.is_dir():
        return path / "weights.safetensors"
    return shipped if not path.exists() and _is_name(path) and shipped.is_file() else path


def _is_name(path: Path) -> bool:
    return len(path.parts) == 1


def _names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob(f"*{SUFFIX}"))
