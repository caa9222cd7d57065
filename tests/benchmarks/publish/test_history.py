"""The page and the tables match the results, and a browser shows them."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import records
from benchmarks.cli import main
from benchmarks.peers.adapters import SPAN_DB
from benchmarks.publish import history, plots, tables
from benchmarks.records import Record

pytest.importorskip("matplotlib")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
META = {
    "command": "python -m benchmarks x",
    "machine": {
        "processor": "a processor",
        "processor_kind": "AVX-512 VNNI",
        "instruction_sets": ["avx2", "avx512", "avx512_vnni"],
        "commit": "0123456789",
    },
    "before": {"time": "2026-01-02T00:00:00+00:00"},
}


ON_AVX2: dict[str, Any] = {
    "median_ms": 50.0,
    "p50_ms": 50.0,
    "low_ms": 49.0,
    "high_ms": 51.0,
    "ratio": 2.5,
}


def record(kind: str, config: dict[str, Any], result: dict[str, Any]) -> Record:
    """Create a record of an invented machine."""
    return {"schema": 1, "kind": kind, "config": config, "result": result, "meta": META}


def elsewhere(found: Record, kind: str = "AVX2", name: str = "another", **result: Any) -> Record:
    """Return the same measurement on another processor, later."""
    made = copy.deepcopy(found)
    made["result"].update(result)
    made["meta"]["machine"].update(
        processor=name, processor_kind=kind, instruction_sets=["avx", "avx2"]
    )
    made["meta"]["before"]["time"] = "2026-01-03T00:00:00+00:00"
    return made


def without(found: Record, reason: str) -> Record:
    """Return the same measurement as one that could not run."""
    return {**copy.deepcopy(found), "result": {"missing": reason}}


def of_kind(found: list[Record], kind: str) -> list[Record]:
    """Return the records of one kind of measurement."""
    return [r for r in found if r["kind"] == kind]


@pytest.fixture
def results() -> list[Record]:
    """One record of every kind, two peers, and a later scenario."""
    asked = {"model": "m", "workload": "360p", "options": {}}
    ms = {"p50_ms": 100.0, "p90_ms": 120.0, "p99_ms": 130.0, "pictures_per_s": 10.0}
    work = {"mp_per_s": 36.8, "flop_per_s": 2e11, "bytes_per_s": 3e9, "flop_per_byte": 64.0}
    peer = {"low_ms": 9.0, "high_ms": 11.0, "ratio": 1.0, "peak_bytes": 2**20}
    shown = {"same_model": True, "trained": True, "width": 640, "height": 360}
    how = {"threads": 2, "rounds": 5}
    plain = {"options": {"precision": "int8", "instruction_set": ""}}
    parts = [{"type": "3x3 convolution", "ms": 40.0}, {"type": "Split", "ms": 4.0}]
    layers = {"layers": parts, "ms": 45.0, "floor_ms": 38.0, "share": 38 / 45}
    found = [
        record("scenario", {**asked, "scenario": "SingleStream"}, {**ms, **work}),
        record("ceilings", {}, {"flop_per_s": {"fp32": 4e11}, "bytes_per_s": 3e10}),
        record("layers", {**asked, "precision": "int8", **plain}, layers),
        record("stages", asked, {"median_ms": {"execute": 8.0, "encode": 2.0, "wall": 10.0}}),
    ]
    for name, time in (("srsdk", 10.0), ("other", 30.0)):
        config = {"peer": name, "title": f"the {name}", **shown, **how}
        found.append(record("peer", config, {**peer, "p50_ms": time, "median_ms": time}))
        score = {"psnr_y_db": 30.0 + time / 100, "ssim_y": 0.9}
        found.append(record("quality", {"peer": name}, score))
    later = copy.deepcopy(found[0])
    later["meta"]["machine"]["commit"] = "abcdef0123"
    return [*found, later]


def test_table_between_the_markers(results: list[Record]) -> None:
    """The table comes from the results; the text around it stays."""
    text = tables.published(results)
    assert "640x360 to 2560x1440" in text
    assert (
        "2 threads of a processor (**AVX-512 VNNI**: avx2, avx512, avx512_vnni), 2026-01-02, "
        "5 rounds by `python -m benchmarks x`"
    ) in text
    assert "| **the srsdk** | 10.0 (9.0 to 11.0) | 1.00 | 1 | 30.10 |" in text
    document = f"above\n{tables.BEGIN}\nold\n{tables.END}\nbelow\n"
    assert tables.replaced(document, text, "x") == (
        f"above\n{tables.BEGIN}\n{text}{tables.END}\nbelow\n"
    )
    with pytest.raises(records.RecordError, match=r"README\.md: expected one"):
        tables.replaced("nothing", text, "README.md")


def test_a_row_that_was_measured_again_is_named(results: list[Record]) -> None:
    """Its title, date and command follow those of the others; the row has the newest figures."""
    third, again = (copy.deepcopy(of_kind(results, "peer")[1]) for _ in range(2))
    third["config"].update(peer="third", title="the third")
    again["meta"].update(command="python -m benchmarks y", before={"time": "2026-02-03T00:00:00"})
    again["result"]["median_ms"] = 28.0
    text = tables.published([*results, third, again])
    assert (
        "2026-01-02, 5 rounds by `python -m benchmarks x`; the other: 2026-02-03, 5 rounds by "
        "`python -m benchmarks y`"
    ) in text
    assert "| the other | 28.0 (9.0 to 11.0) |" in text


def test_the_published_table_matches_the_results(repository: Path) -> None:
    """It is generated and up to date."""
    page = (repository / "docs" / "performance.md").read_text(encoding="utf-8")
    text = tables.published(records.read_all([records.RESULTS]))
    assert tables.replaced(page, text, "performance.md") == page


def test_tracked_history_is_sound() -> None:
    """Every line of the tracked results can be read and plotted."""
    found = records.read_all([records.RESULTS])
    assert {"scenario", "stages", "startup", "ceilings", "peer"} <= {r["kind"] for r in found}
    assert plots.roofline(found)


def test_sizes_are_not_mixed(results: list[Record]) -> None:
    """Each picture size has its own panel and table."""
    larger = copy.deepcopy(next(r for r in results if r["kind"] == "peer"))
    larger["config"].update(width=1920, height=1080)
    page = history.page([*results, larger])
    assert re.findall(r"<h2>Peers, ([^<]*)</h2>", page) == [
        "640x360 to 2560x1440",
        "1920x1080 to 7680x4320",
    ]
    svg = plots.pareto([*results, larger])
    assert svg is not None
    assert svg.count("ms per picture") == 2


def test_an_architecture_has_the_quality_of_weights_of_others(results: list[Record]) -> None:
    """Its time was measured here with random weights; the table states whose quality it is."""
    span = copy.deepcopy(next(r for r in results if r["kind"] == "peer"))
    span["config"].update(peer="span-openvino", title="SPAN", trained=False)
    text = tables.published([*results, span])
    assert f"| 1.00 | 1 | {SPAN_DB:.2f} with weights of others |" in text
    svg = plots.pareto([*results, span])
    assert svg is not None
    unknown = copy.deepcopy(span)
    unknown["config"]["peer"] = "spandrel-span"
    assert "| random weights |" in tables.published([*results, unknown])


def test_a_ceiling_is_the_highest_measurement(results: list[Record]) -> None:
    """A run on a busy machine does not lower it."""
    busy = record("ceilings", {}, {"flop_per_s": {"fp32": 1e11}, "bytes_per_s": 4e10})
    expected = {"flop_per_s": {"fp32": 4e11}, "bytes_per_s": 4e10}
    assert plots.highest_ceilings([*results, busy]) == expected


def test_kinds_of_processor_stand_side_by_side(results: list[Record]) -> None:
    """Each has its own columns; each ratio comes from one machine."""
    srsdk, other = of_kind(results, "peer")
    on_avx2 = [elsewhere(srsdk, median_ms=20.0, ratio=1.0), elsewhere(other, **ON_AVX2)]
    text = tables.published([*results, *on_avx2])
    assert text.count("640x360 to 2560x1440") == 1
    assert "- 2 threads of another (**AVX2**: avx, avx2), 2026-01-03" in text
    assert "- 2 threads of a processor (**AVX-512 VNNI**: " in text
    assert "| | AVX2: ms | time over srsdk | " in text
    assert "| AVX-512 VNNI: ms | time over srsdk | " in text
    # its quality was scored on one kind only, and is not shown for the other
    assert (
        "| **the srsdk** | 20.0 (9.0 to 11.0) | 1.00 | 1 |  "
        "| 10.0 (9.0 to 11.0) | 1.00 | 1 | 30.10 |"
    ) in text
    assert "| the other | 50.0 (49.0 to 51.0) | 2.50 | 1 |  | 30.0 (9.0 to 11.0) | 1.00 |" in text


def test_a_peer_of_one_kind_only_leaves_the_others_empty(results: list[Record]) -> None:
    """No value is copied from another kind."""
    text = tables.published([*results, elsewhere(of_kind(results, "peer")[0])])
    assert "| the other |  |  |  |  | 30.0 (9.0 to 11.0) | 1.00 | 1 | 30.30 |" in text


def test_two_processors_of_one_kind_are_not_mixed(results: list[Record]) -> None:
    """Only the one measured last is in the table."""
    newer = elsewhere(of_kind(results, "peer")[0], kind="AVX-512 VNNI", median_ms=7.0)
    text = tables.published([*results, newer])
    assert "| **the srsdk** | 7.0 (9.0 to 11.0)" in text
    assert "the other" not in text
    assert "a processor" not in text


def test_what_cannot_run_is_a_row(results: list[Record]) -> None:
    """It gives the reason, comes last, and is in no plot."""
    lack = without(of_kind(results, "peer")[1], "x | is not installed")
    text = tables.published([*results, lack])
    assert "| the other | not on this machine: x \\| is not installed |  |  |  |\n" in text
    assert text.index("the srsdk") < text.index("the other")
    assert [r["config"]["peer"] for r in plots.scored([*results, lack])] == ["srsdk"]
    scenario = without(of_kind(results, "scenario")[0], "no bfloat16")
    row = "| m 360p SingleStream | AVX-512 VNNI | not on this machine: no bfloat16 |"
    assert row in tables.scenarios([*results, scenario])
    stages = without(of_kind(results, "stages")[0], "no bfloat16")
    page = history.page([*results, lack, scenario, stages])
    assert "not on this machine: no bfloat16" in page


def test_without_the_reference_there_is_no_ratio(results: list[Record]) -> None:
    """The time is shown alone."""
    alone = copy.deepcopy(of_kind(results, "peer")[1])
    alone["result"].update(ratio=None, peak_bytes=None)
    assert "| the other | 30.0 (9.0 to 11.0) |  |  | 30.30 |" in tables.published([*results, alone])


def test_a_curve_and_a_panel_for_each_kind(results: list[Record]) -> None:
    """Latency, quality, roofline and stages distinguish the machines."""
    page = history.page([*results, *(elsewhere(r) for r in results)])
    assert "AVX-512 VNNI (a processor), AVX2 (another)" in page
    latency = str(plots.latency_over_time([*results, *map(elsewhere, results)]))
    assert "m 360p, AVX2 (another)" in latency
    assert "m 360p, AVX-512 VNNI (a processor)" in latency
    both = [*results, *map(elsewhere, results)]
    for draw in (plots.pareto, plots.roofline):
        svg = str(draw(both))
        assert "AVX2 (another)" in svg
        assert "AVX-512 VNNI (a processor)" in svg
    assert "m 360p, AVX2" in str(plots.stage_bars(both))


def test_every_tracked_result_names_its_kind() -> None:
    """The kind was added to older ones; elsewhere they are `unknown`."""
    assert "unknown" not in records.kinds(records.read_all([records.RESULTS]))
    old = record("peer", {}, {})
    assert records.kind_of({**old, "meta": {"machine": {"processor": "x"}}}) == "unknown"


def test_no_results_is_a_page_too() -> None:
    """Each section states that it has no results."""
    assert history.page([]).count("No results of this kind yet.") == len(history.PLOTS)


def test_page_is_self_contained(results: list[Record]) -> None:
    """All plots are inline; nothing is loaded from elsewhere."""
    page = history.page(results)
    assert page.count("<svg") == len(history.PLOTS)
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r'(src|href)\s*=\s*"(?!#)', without_names)


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: chromium")
def test_a_browser_shows_it(results: list[Record], tmp_path: Path) -> None:
    """Chromium reports a size for all plots, and its screenshot is not empty."""
    file, shot = tmp_path / "history.html", tmp_path / "shot.png"
    lines = tmp_path / "x.jsonl"
    for one in results:
        records.append(lines, one)
    assert main(["history", str(lines), "--out", str(file)]) == 0
    call = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    call += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,2400"]
    dom = subprocess.run(
        [*call, "--dump-dom", file.as_uri()], capture_output=True, text=True, check=True
    )
    assert f'data-shown="{len(history.PLOTS)}"' in dom.stdout
    subprocess.run([*call, f"--screenshot={shot}", file.as_uri()], capture_output=True, check=True)
    seen = np.asarray(Image.open(shot).convert("L"))
    assert seen.shape == (2400, 1100)
    # text and lines on white, from top to bottom
    bands = np.array_split(seen[:2200], 4)
    assert all(0.001 < float(np.mean(band < 200)) < 0.5 for band in bands)
