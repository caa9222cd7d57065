"""Plots of the history page, each returned as SVG text."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.measure.engine.layers import by_type
from benchmarks.peers.adapters import PEERS
from benchmarks.records import Record, kind_of, machine_of, measured, processor_of

Series = dict[str, list[Record]]

STAGES = ("decode", "stage", "h2d", "execute", "d2h", "paste", "encode", "rest")


def latency_over_time(records: Sequence[Record]) -> str | None:
    """Plot median latency by commit, with p90 as a band; one panel per scenario.

    Each curve shows one machine; its label gives the kind and name of the processor.
    """
    found = [record for record in measured(records) if record["kind"] == "scenario"]
    panels: dict[str, Series] = defaultdict(lambda: defaultdict(list))
    for record in found:
        c = record["config"]
        label = f"{c['model']} {c['workload']}, {machine_of(record)}"
        panels[c["scenario"]][label].append(record)
    if not panels:
        return None
    commits = list(dict.fromkeys(_commit(record) for record in found))

    def draw(axes: Any) -> None:
        for panel, (name, series) in zip(axes, sorted(panels.items()), strict=True):
            _draw_latency(panel, name, series, commits)

    return _figure("latency", len(panels) / 2, draw, panels=len(panels))


def pareto(records: Sequence[Record]) -> str | None:
    """Plot quality against time of the newest run of each peer, with the Pareto front.

    One panel per picture size and kind of processor.
    """
    sizes: dict[tuple[int, int, str], list[Record]] = defaultdict(list)
    for record in scored(records):
        sizes[(*size_of(record), kind_of(record))].append(record)
    if not sizes:
        return None

    def draw(axes: Any) -> None:
        for panel, (_, rows) in zip(axes, sorted(sizes.items()), strict=True):
            _draw_pareto(panel, rows)

    return _figure("pareto", 0.8 * len(sizes), draw, panels=len(sizes))


def roofline(records: Sequence[Record]) -> str | None:
    """Plot operations/s against operations/byte, under the ceilings; one panel per machine."""
    points: dict[str, list[Record]] = defaultdict(list)
    for record in latest(records):
        if record["kind"] == "scenario" and record["config"]["scenario"] == "SingleStream":
            points[machine_of(record)].append(record)
    panels = []
    for name, found in sorted(points.items()):
        ceilings = highest_ceilings([r for r in records if machine_of(r) == name])
        found = [record for record in found if "flop_per_s" in record["result"]]
        if ceilings is not None and found:
            panels.append((name, ceilings, found))
    if not panels:
        return None

    def draw(axes: Any) -> None:
        for panel, (name, ceilings, found) in zip(axes, panels, strict=True):
            _draw_roofline(panel, name, ceilings, found)

    return _figure("roofline", len(panels), draw, panels=len(panels))


def stage_bars(records: Sequence[Record]) -> str | None:
    """Plot where the time of one file goes, as shares of the total."""
    found = [record for record in measured(latest(records)) if record["kind"] == "stages"]
    if not found:
        return None
    height = max(0.5, 0.1 * len(found))
    return _figure("stages", height, lambda axes: _draw_stages(axes, found))


def layer_bars(records: Sequence[Record]) -> str | None:
    """Plot the time of each network by type of layer, beside its floor; one panel per machine.

    Records of an instruction set that the user chose have a panel of their own.
    """
    panels: dict[str, list[Record]] = defaultdict(list)
    for record in measured(latest(records)):
        if record["kind"] == "layers":
            limit = record["config"]["options"]["instruction_set"]
            panels[machine_of(record) + (f", limited to {limit}" if limit else "")].append(record)
    if not panels:
        return None

    def draw(axes: Any) -> None:
        for panel, (name, found) in zip(axes, sorted(panels.items()), strict=True):
            _draw_layers(panel, name, found)

    height = 0.11 * sum(len(found) + 2 for found in panels.values())
    return _figure("layers", height, draw, panels=len(panels))


def latest(records: Sequence[Record]) -> list[Record]:
    """Return the newest record of each measurement, for each kind of processor.

    Of two processors of one kind, only the one measured last counts: results of two machines must
    not look like those of one.
    """
    newest_of: dict[str, Record] = {}
    newest_processor: dict[str, str] = {}
    asked = ("peer", "model", "workload", "scenario", "options", "height", "width", "threads")
    for record in records:
        c = record["config"]
        newest_of[_group(record) + str([c.get(key) for key in asked])] = record
        newest_processor[_group(record)] = processor_of(record)
    found = newest_of.values()
    return [r for r in found if newest_processor[_group(r)] == processor_of(r)]


def _group(record: Record) -> str:
    """Return the name of the table that a record belongs to."""
    c = record["config"]
    return str((record["kind"], kind_of(record), c.get("height"), c.get("width")))


def highest_ceilings(records: Sequence[Record]) -> dict[str, Any] | None:
    """Return the highest measurement of each ceiling: a busy machine measures a lower one."""
    found = [record["result"] for record in measured(records) if record["kind"] == "ceilings"]
    if not found:
        return None
    names = dict.fromkeys(name for one in found for name in one["flop_per_s"])
    return {
        "flop_per_s": {
            name: max(one["flop_per_s"].get(name, 0.0) for one in found) for name in names
        },
        "bytes_per_s": max(one["bytes_per_s"] for one in found),
    }


def size_of(record: Record) -> tuple[int, int]:
    """Return height and width of a peer's picture, pixels."""
    return int(record["config"]["height"]), int(record["config"]["width"])


def scored(records: Sequence[Record]) -> list[Record]:
    """Return the newest records of peers that have a quality score for their kind of processor.

    The loss of INT8 depends on the processor: no score is taken from another kind.
    """
    quality = {
        (kind_of(r), r["config"]["peer"]): r["result"]
        for r in measured(records)
        if r["kind"] == "quality"
    }
    others = {name: {"psnr_y_db": p.others_db} for name, p in PEERS.items() if p.others_db}
    found = []
    for record in measured(latest(records)):
        if record["kind"] != "peer":
            continue
        name = record["config"]["peer"]
        score = quality.get((kind_of(record), name), others.get(name))
        if score is not None:
            found.append({**record, "result": {**score, **record["result"]}})
    return found


def _draw_latency(axes: Any, title: str, series: Series, commits: list[str]) -> None:
    for name, records in sorted(series.items()):
        x = [commits.index(_commit(record)) for record in records]
        p50 = [record["result"]["p50_ms"] for record in records]
        p90 = [record["result"]["p90_ms"] for record in records]
        (line,) = axes.plot(x, p50, "o-", label=name, markersize=4)
        axes.fill_between(x, p50, p90, color=line.get_color(), alpha=0.15)
    axes.set(yscale="log", ylabel="ms (line p50, band to p90)", title=title)
    axes.set_xticks(range(len(commits)), commits)
    axes.margins(x=0.1, y=0.2)
    axes.legend(fontsize=6, bbox_to_anchor=(1.01, 1), loc="upper left")


def _draw_pareto(axes: Any, rows: list[Record]) -> None:
    """Draw numbered points; a legend beside the panel names them, fastest first."""
    front: list[tuple[float, float]] = []
    rows = sorted(rows, key=lambda r: (r["result"]["p50_ms"], -r["result"]["psnr_y_db"]))
    for number, record in enumerate(rows, start=1):
        c, ms, db = record["config"], record["result"]["p50_ms"], record["result"]["psnr_y_db"]
        is_ours = c["peer"].startswith("srsdk")
        label = f"{number}  {c['title'].replace('`', '')}: {ms:.0f} ms, {db:.2f} dB"
        filled = "full" if c["trained"] else "none"
        style = {"color": "C0" if is_ours else "C7", "markersize": 6, "fillstyle": filled}
        axes.plot(ms, db, "o", label=label, **style)
        # alternate above and below: neighbors of equal quality would overlap
        below = number % 2 == 0
        axes.annotate(
            str(number),
            (ms, db),
            xytext=(0, -14 if below else 6),
            textcoords="offset points",
            fontsize=7,
            ha="center",
        )
        if not front or db > front[-1][1]:
            front.append((ms, db))
    axes.step(*zip(*front, strict=True), where="post", color="C0", alpha=0.4)
    height, width = size_of(rows[0])
    axes.set(
        xscale="log",
        xlabel="ms per picture (median)",
        ylabel="PSNR-Y, dB",
        title=f"{width}x{height} to {4 * width}x{4 * height}, {machine_of(rows[0])}",
    )
    axes.margins(x=0.1, y=0.2)
    axes.legend(fontsize=6, bbox_to_anchor=(1.01, 1), loc="upper left")


def _draw_roofline(axes: Any, title: str, ceilings: dict[str, Any], points: list[Record]) -> None:
    x = np.geomspace(1, 1000, 100)
    for name, flop_per_s in ceilings["flop_per_s"].items():
        roof = np.minimum(x * ceilings["bytes_per_s"], flop_per_s) / 1e9
        axes.plot(x, roof, label=f"ceiling, {name}", linewidth=1)
    for record in points:
        c, result = record["config"], record["result"]
        label = f"{c['model']} {c['workload']}"
        axes.plot(result["flop_per_byte"], result["flop_per_s"] / 1e9, "o", label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations per byte",
        ylabel="10^9 operations per second",
        title=title,
    )
    axes.legend(fontsize=6, bbox_to_anchor=(1.01, 1), loc="upper left")


def _draw_stages(axes: Any, found: list[Record]) -> None:
    found = sorted(found, key=lambda r: (r["config"]["model"], r["result"]["median_ms"]["wall"]))
    names = [
        f"{r['config']['model']} {r['config']['workload']}, {kind_of(r)}\n"
        f"{r['result']['median_ms']['wall']:.0f} ms"
        for r in found
    ]
    left = np.zeros(len(found))
    for stage in STAGES:
        parts = [r["result"]["median_ms"].get(stage, 0.0) for r in found]
        walls = [r["result"]["median_ms"]["wall"] for r in found]
        share = 100 * np.divide(parts, walls)
        axes.barh(names, share, left=left, label=stage)
        left += share
    axes.set(xlabel="% of the time from JPEG file to JPEG file, one slot")
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=7, bbox_to_anchor=(1.01, 1), loc="upper left")


def _draw_layers(axes: Any, title: str, found: list[Record]) -> None:
    """Draw one bar of milliseconds per record, and a line where its floor lies."""
    found = sorted(found, key=lambda r: (r["config"]["model"], r["result"]["ms"]), reverse=True)
    names = [
        f"{r['config']['model'].removesuffix('.int8')} {r['config']['precision']}, "
        f"{r['config']['workload']}:\n{r['result']['ms']:.0f} ms, "
        f"{100 * r['result']['share']:.0f} % of the peak"
        for r in found
    ]
    times = [by_type(record["result"]) for record in found]
    kinds = sorted({kind for one in times for kind in one}, key=lambda kind: (kind == "rest", kind))
    left = np.zeros(len(found))
    for kind in kinds:
        parts = np.array([one.get(kind, 0.0) for one in times])
        axes.barh(names, parts, 0.6, left=left, label=kind)
        left += parts
    for row, record in enumerate(found):
        floor_ms = record["result"]["floor_ms"]
        label = "floor: operations at the measured peak" if row == 0 else None
        axes.plot([floor_ms] * 2, [row - 0.45, row + 0.45], color="black", label=label)
    axes.set(xlabel="ms per picture", title=title)
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=6, bbox_to_anchor=(1.01, 1), loc="upper left")


def _commit(record: Record) -> str:
    return str(record["meta"]["machine"]["commit"])[:8]


def _figure(name: str, height: float, draw: Callable[[Any], None], panels: int = 0) -> str:
    """Draw on one pair of axes, or on a list of `panels` of them."""
    # needs no window system
    import matplotlib
    from matplotlib.figure import Figure

    # ids in one page must not clash; text stays text
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 4.5 * max(height, 0.8)), layout="constrained")
        draw(figure.subplots(panels, squeeze=False)[:, 0] if panels else figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
