"""Format an export report as text; `Report.to_dict` returns it for programs."""

from __future__ import annotations

from export.quantization.mixed_precision import Tuning
from export.record import Made, Report
from srsdk.manifest import Manifest


def table(report: Report) -> str:
    """Return one line per file, then the INT8 layers left in float and the most sensitive ones."""
    width = max(len(made.artifact.path.name) for made in report.made)
    lines = [_line(made, width) for made in report.made]
    first = report.made[0].manifest
    lines.append(f"x{first.scale}, {_overlap(first)}")
    if report.way is not None and (report.way.failed or first.family == "foreign"):
        lines.append(f"exported with {report.way}")
        lines += [f"  not {failed}" for failed in report.way.failed[:1]]
    lines += [f"assumed: {note}" for note in report.notes]
    if first.texture is not None:
        lines.append(f"texture {first.texture:g} (0 is the parent, 1 the source)")
    if report.half is not None and report.half.exceptions.nodes:
        lines.append(f"FP16: {report.half.exceptions}")
    if report.calibration is not None:
        crops = report.calibration.crops
        lines.append(
            f"INT8 calibrated on {len(crops.pixels)} crops of {len(set(crops.files))} pictures "
            f"(max, seed {crops.seed}, {crops.digest[:12]})"
        )
    for flavour, quantized in report.quantized.items():
        back = ", ".join(quantized.restored_to_float) or "none"
        lines.append(f"INT8 {flavour}: {len(quantized.layers)} layers; left in float: {back}")
        if quantized.tuning is not None:
            lines.append(f"  {_tuning(quantized.tuning)}")
        worst = list(quantized.sensitivity_db.items())[:3]
        if worst:
            named = ", ".join(f"{name} {db:.1f} dB" for name, db in worst)
            lines.append(f"  most sensitive layers: {named}")
    if report.seconds:
        lines.append(f"{report.seconds:.1f} s")
    return "".join(f"{line}\n" for line in lines)


def _overlap(manifest: Manifest) -> str:
    """Return how far tiles must overlap, and how that is known."""
    if manifest.tiling in ("bounded", "none") and manifest.tiling_db:
        by_overlap = ", ".join(f"{db:g} dB at {px} px" for px, db in manifest.tiling_db.items())
        advice = "the runtime takes whole pictures where memory allows"
        if manifest.tiling == "none":
            advice = "the runtime takes whole pictures only"
        return f"tiles against the whole picture, by overlap: {by_overlap}; {advice}"
    if manifest.tiling == "bounded":
        return (
            f"tiles overlap by {manifest.radius_px} px, and what they cost is not known: the "
            "network sees all of its one input size"
        )
    grid = f", tiles start at multiples of {manifest.multiple_px} px"
    return _radius(manifest) + (grid if manifest.tiling == "aligned" else "")


def _radius(manifest: Manifest) -> str:
    if not manifest.radius_measured:
        return f"receptive-field radius {manifest.radius_px} px"
    return (
        f"receptive-field radius {manifest.radius_px} px (measured: pixels further away change "
        "none by more than 1 level)"
    )


def _tuning(tuning: Tuning) -> str:
    before, after = (
        "gate failed" if db is None else f"{db:.4f} dB"
        for db in (tuning.validation_db_before, tuning.validation_db_after)
    )
    used = "used" if tuning.used else "not used"
    return f"QAT, {tuning.steps} steps: {after} on the validation split, {before} without; {used}"


def _line(made: Made, width: int) -> str:
    name, size = made.artifact.path.name, made.artifact.path.stat().st_size
    parts = [f"{name:<{width}}  {size:>11,} bytes"]
    if made.parity is None:
        parts.append("up to date")
    else:
        psnr = "equal" if made.parity.psnr_db is None else f"{made.parity.psnr_db:.1f} dB"
        parts.append(f"{made.seconds:5.1f} s")
        parts.append(f"parity {psnr}, max {made.parity.max_lsb} LSB")
        parts.append(f"{made.parity.fraction:.3%} differ")
    for test, score in made.manifest.scores.items():
        lost = f" ({-score['loss_db']:+.3f})" if "loss_db" in score else ""
        parts.append(f"{test} {score['psnr_y_db']:.2f}{lost}")
    if made.manifest.sms:
        parts.append("SM " + ",".join(map(str, made.manifest.sms)))
    return "  ".join(parts)
