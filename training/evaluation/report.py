"""Compare a model with bicubic and the truth: a table in Markdown and JSON, a picture sheet."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from training.data.pictures import Pair
from training.data.resize import Picture
from training.evaluation import niqe as naturalness
from training.evaluation.evaluate import bicubic
from training.evaluation.metrics import psnr_y, ssim_y
from training.evaluation.subject import Model
from training.evaluation.texture_metrics import (
    consistency_db,
    sliced_wasserstein,
    spectrum_distance_db,
)

LABEL_PX = 22
GAP_PX = 4


@dataclass(frozen=True)
class Row:
    """One line of the table: means over one folder."""

    set: str
    method: str
    psnr_y_db: float
    """Higher is better."""
    ssim_y: float
    """Higher is better."""
    consistency_db: float
    """PSNR of the reduced result against the input; higher is better."""
    spectrum_db: float
    """Distance of the radial power spectra; lower is better."""
    swd: float
    """Sliced Wasserstein distance, the mean over levels; lower is better."""
    naturalness: float
    """Distance from natural pictures; lower is better."""


def measure(
    name: str, model: Model, pairs: Sequence[Pair], natural: naturalness.Naturalness
) -> list[Row]:
    """Return one row each for bicubic, the model, and the truth itself."""
    results = {
        "bicubic": [bicubic(model.scale)(pair.lr) for pair in pairs],
        model.name: [model.upscale(pair.lr) for pair in pairs],
        "HR": [pair.hr for pair in pairs],
    }
    return [_row(name, method, made, pairs, natural) for method, made in results.items()]


def _row(
    name: str,
    method: str,
    made: Sequence[Picture],
    pairs: Sequence[Pair],
    natural: naturalness.Naturalness,
) -> Row:
    truths = [pair.hr for pair in pairs]
    scale = pairs[0].hr.shape[0] // pairs[0].lr.shape[0]
    both = list(zip(made, truths, strict=True))
    scores = [score for score in map(natural.score, made) if math.isfinite(score)]
    return Row(
        name,
        method,
        _mean([psnr_y(sr, hr, border_px=scale) for sr, hr in both]),
        _mean([ssim_y(sr, hr, border_px=scale) for sr, hr in both]),
        _mean([consistency_db(sr, pair.lr) for sr, pair in zip(made, pairs, strict=True)]),
        _mean([spectrum_distance_db(sr, hr) for sr, hr in both]),
        _mean(sliced_wasserstein(made, truths)),
        _mean(scores),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def to_markdown(model: Model, rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    head = (
        "set",
        "method",
        "PSNR-Y dB",
        "SSIM",
        "LR consistency dB",
        "spectrum dB",
        "SWD",
        "NIQE*",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        numbers = [
            f"{row.psnr_y_db:.2f}",
            f"{row.ssim_y:.4f}",
            f"{row.consistency_db:.2f}",
            f"{row.spectrum_db:.2f}",
            f"{row.swd:.1f}",
            f"{row.naturalness:.2f}",
        ]
        lines.append(f"| {row.set} | {row.method} | {' | '.join(numbers)} |")
    lines += [
        "",
        f"Inputs: {model.input}. "
        "NIQE*: fitted on our own pictures; comparable within this table only.",
    ]
    return "\n".join(lines) + "\n"


def to_json(model: Model, rows: Sequence[Row]) -> str:
    """Return the table as JSON, with model, scale and kind of input; infinities and NaN as null."""
    table = [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in dataclasses.asdict(row).items()
        }
        for row in rows
    ]
    facts = {"model": model.name, "scale": model.scale, "input": model.input}
    return json.dumps({**facts, "rows": table}, indent=2) + "\n"


def sheet(model: Model, pairs: Sequence[Pair], *, crop_px: int) -> Image.Image:
    """Lay out crops: one row per picture; input, bicubic, model and truth side by side.

    Each crop is where bicubic is worst, which is where models differ. A network with a prior (VAE)
    also shows three samples and its confidence (white is certain).
    """
    return lay_out([_labeled_crops(model, pair, crop_px) for pair in pairs])


def lay_out(rows: Sequence[Sequence[tuple[str, Picture]]]) -> Image.Image:
    """Put rows of labeled pictures on a white page."""
    width = GAP_PX + max(sum(p.shape[1] + GAP_PX for _, p in row) for row in rows)
    heights = [LABEL_PX + max(p.shape[0] for _, p in row) + GAP_PX for row in rows]
    page = Image.new("RGB", (width, sum(heights)), "white")
    font = ImageFont.load_default(13)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = GAP_PX
        for label, picture in row:
            strip = Image.new("RGB", (picture.shape[1], LABEL_PX), "white")
            ImageDraw.Draw(strip).text((0, 3), label, "black", font)
            page.paste(strip, (left, top))
            page.paste(Image.fromarray(picture), (left, top + LABEL_PX))
            left += picture.shape[1] + GAP_PX
        top += height
    return page


def _labeled_crops(model: Model, pair: Pair, crop_px: int) -> list[tuple[str, Picture]]:
    up, sr = bicubic(model.scale)(pair.lr), model.upscale(pair.lr)
    shown = [
        (pair.name, pair.lr.repeat(model.scale, axis=0).repeat(model.scale, axis=1)),
        ("bicubic", up),
        (model.name, sr),
        *samples_and_confidence(model.net, pair.lr),
        ("HR", pair.hr),
    ]
    window = worst_window(up, pair.hr, crop_px)
    scored = {
        label: f"{label}  {psnr_y(picture, pair.hr, border_px=model.scale):.2f} dB"
        for label, picture in (("bicubic", up), (model.name, sr))
    }
    return [(scored.get(label, label), np.ascontiguousarray(p[window])) for label, p in shown]


def worst_window(result: Picture, truth: Picture, side: int) -> tuple[slice, slice]:
    """Return the square of at most `side` px with the largest error, in steps of half its side."""
    height, width = (min(side, length) for length in truth.shape[:2])
    error = np.abs(result.astype(np.int32) - truth).sum(axis=2)
    step = max(1, side // 2)
    corners = [
        (top, left)
        for top in range(0, error.shape[0] - height + 1, step)
        for left in range(0, error.shape[1] - width + 1, step)
    ]
    top, left = max(
        corners, key=lambda at: error[at[0] : at[0] + height, at[1] : at[1] + width].sum()
    )
    return slice(top, top + height), slice(left, left + width)


@torch.no_grad()
def samples_and_confidence(net: Any, lr: Picture) -> list[tuple[str, Picture]]:
    """Return three samples and the confidence map of a network with a prior, else nothing."""
    if not callable(getattr(net, "prior_of", None)):
        return []
    device = next(net.parameters()).device
    x = torch.from_numpy(lr.copy()).to(device).permute(2, 0, 1)[None].float() / 255
    mean, _ = net.prior_of(net.encode(x))
    random = torch.Generator().manual_seed(0)
    found = []
    for number in range(3):
        eps = torch.randn(mean.shape, generator=random).to(device)
        found.append((f"sample {number + 1}", _picture(net(x, eps)[0])))
    confidence = net(x)[1].expand(-1, 3, -1, -1)
    return [*found, ("confidence", _picture(confidence))]


def _picture(x: torch.Tensor) -> Picture:
    levels = (x[0].permute(1, 2, 0).clamp(0, 1) * 255).round()
    picture: Picture = levels.to(torch.uint8).cpu().numpy()
    return picture
