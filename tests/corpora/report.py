"""The summary of a run: a table of outcomes, and the findings by their cause."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tests.corpora.outcomes import FINDINGS, WORST_FIRST

SHOWN = 12
"""Files of one cause, and kinds of refusal, that are listed."""
Record = dict[str, Any]


def failed(records: Sequence[Record]) -> int:
    """Return the number of files with a finding."""
    return sum(record["outcome"] in FINDINGS for record in records)


def summary(records: Sequence[Record]) -> str:
    """Return the whole summary as text."""
    parts = [_table(records), *_findings(records), *_late(records), *_refusals(records)]
    return "\n".join(parts) + "\n"


def _table(records: Sequence[Record]) -> str:
    counts = Counter((record["kind"], record["outcome"]) for record in records)
    kinds = sorted({kind for kind, _ in counts})
    always = ("done", "refused", "late", "foreign", "slow", "left behind", "crashed")
    others = [name for name in WORST_FIRST if any((kind, name) in counts for kind in kinds)]
    names = list(dict.fromkeys([*always, *others]))
    lines = ["| kind | files | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for kind in [*kinds, "all"]:
        row = [sum(n for (k, o), n in counts.items() if kind in (k, "all") and o == name)
               for name in names]  # fmt: skip
        lines.append(f"| {kind} | {sum(row)} | " + " | ".join(map(str, row)) + " |")
    slowest = max(records, key=lambda record: record["seconds"], default=None)
    if slowest is not None:
        lines.append(f"\nslowest: {slowest['seconds']:.1f} s, {_shown(slowest)}")
        most = max(records, key=lambda record: record["peak_mb"])
        lines.append(f"most memory: {most['peak_mb']:.0f} MB, {_shown(most)}")
    return "\n".join(lines)


def _findings(records: Sequence[Record]) -> Iterator[str]:
    """Yield the calls with a finding, those of one cause together, the worst first."""
    causes: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for record, found in _calls(records):
        if found["outcome"] not in FINDINGS:
            continue
        what = f"{found['outcome']}: {found.get('type', '')} {_template(record, found)}"
        where = f" at {found['where']}" if found.get("where") else ""
        key = WORST_FIRST.index(found["outcome"]), what + where
        causes[key].append(f"{_shown(record)} [{found['call']}, {found['seconds']:.1f} s]")
    for (_, what), names in sorted(causes.items(), key=lambda item: (item[0][0], -len(item[1]))):
        yield f"\n{len(names)} x {what}"
        yield from _listed(names)


def _late(records: Sequence[Record]) -> Iterator[str]:
    names = [
        f"{_shown(record)} ({record['bytes']:,} bytes) [{found['call']}, {found['seconds']:.1f} s]"
        for record, found in _calls(records)
        if found["outcome"] == "late"
    ]
    if names:
        yield f"\n{len(names)} x late: the deadline of the call, kept"
        yield from _listed(sorted(names))


def _refusals(records: Sequence[Record]) -> Iterator[str]:
    counts: Counter[str] = Counter(
        f"{found['type']}: {_template(record, found)}"
        for record, found in _calls(records)
        if found["outcome"] == "refused"
    )
    if counts:
        yield f"\nrefused, the {SHOWN} most frequent of {len(counts)} reasons:"
        yield from (f"  {count} x {reason}" for reason, count in counts.most_common(SHOWN))


def _calls(records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    for record in records:
        for found in record["calls"]:
            yield record, found


def _template(record: Record, found: Record) -> str:
    """Return the message without what differs between files of one cause."""
    text = found.get("message", "").split("\n")[0]
    text = text.replace(f"{record['folder']}/{record['path']}", "FILE")
    text = re.sub(r"\S*result\.\w+", "RESULT", text.replace(record["path"], "FILE"))
    return re.sub(r"\d[\d,.]*", "N", text)[:200]


def _shown(record: Record) -> str:
    return str(record["path"]).encode("ascii", "backslashreplace").decode()


def _listed(names: Sequence[str]) -> Iterator[str]:
    yield from (f"    {name}" for name in names[:SHOWN])
    if len(names) > SHOWN:
        yield f"    and {len(names) - SHOWN} more"
