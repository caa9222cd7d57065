"""Format the rows of a survey as a page."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = (
    "architecture",
    "exports",
    "runs (largest difference, levels)",
    "tiles",
    "FP16",
    "INT8",
    "s",
)
MOST_LEVELS = 1
"""A backend that differs by more does not count as running."""

TEXT = """# Architectures

{good} of {all} rows export to float32 ONNX, and run with at most {levels} level (of 255) of
difference from the torch network. Each row is a small network of an architecture of spandrel
{spandrel}, with random weights: it says what the architecture needs, not what a trained network
scores.

```console
$ python -m export.survey --data DATA/test/Set14 --write docs/architectures.md
```

Measured {day} on {processor}, torch {torch}, ONNX Runtime {onnxruntime}, OpenVINO {openvino}. Other
programs ran beside it, so the seconds are an upper limit.

- **exports**: which of torch's exporters recorded the network, and the sizes that the file accepts.
  Every file was compared with the network at sizes other than the recorded one before it was
  accepted ([Your own network](export.md#your-own-network)).
- **runs**: the file in `srsdk.Upscaler`, against the torch network: largest difference in levels.
- **tiles**: `exact` and `aligned` tiles give what the whole picture gives, with that overlap;
  `bounded` and `none` are for networks that see the whole picture, with the PSNR of tiles against
  the whole.
- **FP16**: `ok`, with the nodes that stay in float32, if any.
- **INT8**: PSNR of the INT8 file's result against the float32 network's, and the layers in INT8.
  With random weights it says how well the architecture takes rounding; a trained network's loss is
  in the report of its export.

A dash means: not tried, as with `--quick` for networks that took long in float32.

{table}{reasons}"""


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return `docs/architectures.md` for rows of `export.survey.row.Row`."""
    good = [row for row in rows if is_good(row)]
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(_line(row) for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    today = datetime.datetime.now(datetime.UTC)
    return TEXT.format(
        good=len(good),
        all=len(rows),
        levels=MOST_LEVELS,
        spandrel=_version("spandrel"),
        day=f"{today:%Y-%m-%d}",
        processor=_processor(),
        torch=_version("torch"),
        onnxruntime=_version("onnxruntime"),
        openvino=_version("openvino"),
        table=table,
        reasons=_reasons(rows),
    )


def is_good(row: Mapping[str, Any]) -> bool:
    """Return whether an architecture exports, and computes the same wherever it runs."""
    levels = row["levels"].values()
    return bool(row["exported"] and levels and max(levels) <= MOST_LEVELS)


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    levels = ", ".join(f"{backend} {value}" for backend, value in row["levels"].items())
    int8 = row["int8"]
    if row["int8_db"] is not None:
        int8 = f"{row['int8_db']:.1f} dB, {int8}"
    scale = f" x{row['scale']}" if row["scale"] else ""
    exported = row["exported"] or "no"
    return (
        f"{row['name']}{scale}",
        exported,
        levels or "-",
        row["tiling"] or "-",
        _cell(row["fp16"].partition(": ")[0] if row["fp16"].startswith("ok") else row["fp16"]),
        _cell(int8),
        f"{row['seconds']:.0f}" if row["seconds"] else "-",
    )


def _cell(text: str) -> str:
    first = text.partition("; ")[0] if text.startswith("no:") else text
    return first.replace("|", "/")[:160] or "-"


def _reasons(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return why rows end early, and why better ways to export were not taken."""
    ended = [f"- **{row['name']}**: {_plain(row['problem'])}\n" for row in rows if row["problem"]]
    worse = [
        f"- **{row['name']}**: {_plain(failed)}\n"
        for row in rows
        for failed in row["better_failed"][:1]
    ]
    unable = [
        f"- **{row['name']}** in {backend}: {_plain(reason)}\n"
        for row in rows
        for backend, reason in row.get("backends", {}).items()
    ]
    text = ""
    if unable:
        text += "\n## Backends that do not run a file\n\n" + "".join(unable)
    if ended:
        text += "\n## What is refused, or does not work\n\n" + "".join(ended)
    if worse:
        text += "\n## Why not in the best way\n\nThe first way that failed:\n\n" + "".join(worse)
    return text


def _plain(text: str) -> str:
    # the folder of the file is a temporary one
    text = re.sub(r"\S*/(?=network\.)", "", text)
    # a library's text may hold what looks like a link or a mark of Markdown
    quoted = text.replace("`", "'").replace("](", "] (")
    return f"`{quoted[:300]}`"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _processor() -> str:
    """Return the cores and the kind of processor."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = named[0].partition(":")[2].strip() if named else name
    return f"{os.cpu_count()} cores of an {name}" if name.startswith(("A", "I")) else name
