"""Summaries of `gpu-check`: what ran, what it means, what failed; and what could run here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.catalog import Section
from benchmarks.gpu.job import Setup
from benchmarks.gpu.needs import lacking
from benchmarks.gpu.record import DONE
from srsdk.system.durable import replacing

NAME = "gpu-check.md"
MAX_VALUE = 400
ALWAYS = ("cuda-bindings", "disk")
"""Ingredients of every section."""


def write(out: Path, record: dict[str, Any], sections: tuple[Section, ...]) -> None:
    """Write the summary atomically.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(out / NAME) as temporary:
        temporary.write_text(markdown(record, sections), encoding="utf-8")


def markdown(record: dict[str, Any], sections: tuple[Section, ...]) -> str:
    """Return the record as a page for readers: a table, the checks, the values."""
    entries = record["sections"]
    machine = entries.get("versions", {}).get("found", {})
    gpu = machine.get("gpu", {})
    lines = [
        "# gpu-check",
        "",
        f"{record['began']}, srsdk {record['srsdk']}, commit {machine.get('commit') or 'unknown'}, "
        f"{gpu.get('name', 'GPU unknown')} (SM {gpu.get('sm', '?')}, driver for CUDA "
        f"{gpu.get('driver', '?')}).",
        "",
        "| section | what it shows | result | seconds |",
        "|---|---|---|---|",
    ]
    for section in sections:
        entry = entries.get(section.name)
        result, seconds = ("not run", "") if entry is None else (_result(entry), entry["seconds"])
        lines.append(f"| {section.name} | {section.shows} | {_cell(result)} | {seconds} |")
    for section in sections:
        if section.name in entries:
            lines += _details(section, entries[section.name])
    return "\n".join(lines) + "\n"


def dry_run(sections: tuple[Section, ...], setup: Setup, gpu: str | None) -> tuple[list[str], bool]:
    """Return a line per section, and whether only a GPU is missing at most.

    Args:
        sections: those that would run.
        setup: the arguments of the command.
        gpu: why no GPU can be used; None: there is one.
    """
    common = lacking(ALWAYS, setup, on_gpu=False)
    lines = [f"GPU: {gpu or 'found'}", *(f"all sections: missing: {text}" for text in common)]
    ready = not common
    for section in sections:
        reasons = lacking(section.needs, setup, on_gpu=gpu is None)
        ready = ready and not reasons
        state = f"missing: {'; '.join(reasons)}" if reasons else "ready"
        if gpu and not reasons:
            state = "ready, except for the GPU"
        lines.append(f"{section.name}: {state}")
    return lines, ready


def listing(sections: tuple[Section, ...]) -> list[str]:
    """Return a line per section with budget, needs and purpose, and the sum of the budgets."""
    lines = []
    for section in sections:
        needs = ", ".join(("gpu", *section.needs))
        rest = "+" if section.takes_rest else " "
        lines.append(f"{section.name:<15} {section.budget_s:>4.0f}{rest} s  {section.shows}")
        lines.append(f"{'':<23} needs {needs}")
    total = sum(section.budget_s for section in sections)
    return [*lines, f"{'total':<15} {total:>4.0f}  s"]


def _result(entry: dict[str, Any]) -> str:
    if entry["status"] == DONE:
        count = len(entry["checks"])
        return f"done, {count} check(s) hold" if count else "done"
    return f"**{entry['status']}**: {entry['reason']}"


def _details(section: Section, entry: dict[str, Any]) -> list[str]:
    lines = ["", f"## {section.name}", ""]
    for check in entry["checks"]:
        word = "holds" if check["holds"] else "**does not hold**"
        got = "" if check["got"] is None else f" (got {_short(check['got'])})"
        lines.append(f"- {word}: {check['what']}{got}")
    lines += [f"- {name}: {_short(value)}" for name, value in entry["found"].items()]
    return lines


def _short(value: Any) -> str:
    text = json.dumps(_rounded(value), default=str)
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + " ..."


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
