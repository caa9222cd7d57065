"""Methods that restore a picture at its own size: srsdk, NLM, BM3D, or none.

An opened method is a function from (H, W, 3) uint8 RGB to the same. NLM and BM3D get the sigma of
the noise; `ae` is blind as `srsdk`, and gets sigma or JPEG quality as `srsdk-told`.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Restore = Callable[[Picture], Picture]

NLM_FACTORS = {15.0: (0.6, 0.6), 25.0: (0.5, 0.6), 50.0: (0.6, 0.6)}
"""By sigma: strengths for luma and color, over sigma; chosen by `restoration --train BSDS399`."""
LUMA_FACTORS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
COLOR_FACTORS = (0.4, 0.6, 0.8, 1.0, 1.4)
WARM_UP_PX = 64
TEMPLATE_PX, SEARCH_PX = 7, 21


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of restoration."""

    title: str
    """Title in tables."""
    needs: tuple[str, ...] = ()
    """Packages that it imports."""
    damages: tuple[str, ...] = ("noise",)
    """Kinds of damage that it removes."""


METHODS = {
    "none": Method(title="as it is", damages=("noise", "jpeg")),
    "srsdk": Method(title="srsdk", damages=("noise", "jpeg")),
    "srsdk-told": Method(title="srsdk, told the level", damages=("noise", "jpeg")),
    "nlm": Method(title="non-local means (OpenCV)", needs=("cv2",)),
    # for non-commercial use only
    "bm3d": Method(title="BM3D", needs=("bm3d",)),
}


OURS = ("srsdk", "srsdk-told")


def missing(name: str) -> str | None:
    """Return what a method lacks here, or None."""
    for package in METHODS[name].needs:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: pip install 'srsdk[peers]'"
    return None


def open_method(config: dict[str, Any]) -> Restore:
    """Open `method` with `threads`, `model`, `damage`, `level` and `strength` (NLM's)."""
    name = config["method"]
    if name in OURS:
        told = {config["damage"]: config["level"]} if name == "srsdk-told" else {}
        return _ours(Path(config["model"]), config["threads"], told)
    if name == "nlm":
        return non_local_means(*config["strength"], threads=config["threads"])
    return _bm3d(config["level"]) if name == "bm3d" else lambda damaged: damaged


def _ours(path: Path, threads: int, told: dict[str, float]) -> Restore:
    """Open an `.onnx` file as users do, or weights as `python -m training.assess` does.

    `told`: the level, as `noise` or `jpeg`; empty: nothing.

    Raises:
        UsageError: the file does not take levels.
        ModelError: the file enlarges pictures, or is not a model.
        ValueError: the weights enlarge pictures, or are not weights.
    """
    if path.suffix == ".onnx":
        from srsdk import PictureOptions, Restorer

        restorer, options = Restorer(path, threads=threads), PictureOptions(inputs=told)
        return lambda damaged: restorer(damaged, options=options)
    import torch

    from training.assess import load
    from training.data.corruption import UNKNOWN
    from training.evaluation.evaluate import network

    net = load(path)
    if getattr(net, "scale", None) != 1:
        raise ValueError(f"{path.name}: not a restorer, expected weights of family `ae` at x1")
    torch.set_num_threads(threads)
    levels = (told.get("noise", UNKNOWN), told.get("jpeg", UNKNOWN)) if told else None
    return network(net, levels)


def non_local_means(luma: float, color: float, *, threads: int = 1) -> Restore:
    """Return OpenCV's non-local means in CIELAB (Buades et al. 2011).

    Args:
        luma: strength h on lightness, levels of 255.
        color: the same on both color planes.
        threads: threads of OpenCV.
    """
    import cv2

    cv2.setNumThreads(threads)

    def restore(damaged: Picture) -> Picture:
        bgr = np.ascontiguousarray(damaged[..., ::-1])
        made = cv2.fastNlMeansDenoisingColored(bgr, None, luma, color, TEMPLATE_PX, SEARCH_PX)
        result: Picture = made[..., ::-1]
        return result

    return restore


def _bm3d(sigma: float) -> Restore:
    """Return the authors' BM3D for color (Dabov et al. 2007), default profile, known sigma."""
    from bm3d import bm3d_rgb

    def restore(damaged: Picture) -> Picture:
        made = bm3d_rgb(damaged / 255.0, sigma / 255)
        result: Picture = np.clip(np.round(made * 255), 0, 255).astype(np.uint8)
        return result

    return restore


def nlm_strength(sigma: float) -> tuple[float, float]:
    """Return NLM's strengths for luma and color, interpolated linearly from `NLM_FACTORS`."""
    known = sorted(NLM_FACTORS)
    luma, color = (
        float(np.interp(sigma, known, [NLM_FACTORS[at][index] for at in known])) * sigma
        for index in range(2)
    )
    return luma, color


def choose_strength(truths: Sequence[Picture], sigma: float) -> tuple[float, float]:
    """Return the pair of strengths with the best mean PSNR (RGB) among all pairs of factors."""
    from training.assess import psnr_rgb
    from training.data.corruption import add_noise

    noisy = [add_noise(hr, sigma, np.random.default_rng(i)) for i, hr in enumerate(truths)]

    def mean_db(strength: tuple[float, float]) -> float:
        restore = non_local_means(*strength)
        return float(
            np.mean([psnr_rgb(restore(x), hr) for x, hr in zip(noisy, truths, strict=True)])
        )

    candidates = [(a * sigma, b * sigma) for a in LUMA_FACTORS for b in COLOR_FACTORS]
    return max(candidates, key=mean_db)


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Damage and restore pictures of a folder in this process, and score both.

    The noise of a picture is seeded with its index, as in `python -m training.assess`.

    Args:
        config: the keys of `open_method`, `damage` (`noise` or `jpeg`), `level` (sigma or quality),
            `test` (a folder) and `pictures` (how many, spread over the folder; 0: all).

    Returns:
        For each picture `psnr_before_db`, `psnr_db` (of RGB for noise, of luma for JPEG),
        `ssim_before`, `ssim` (of luma), `seconds` and `cpu_seconds` (of all threads; other
        programs affect it less).
    """
    from training.assess import psnr_rgb
    from training.data.corruption import add_noise, jpeg
    from training.data.pictures import load_pairs
    from training.evaluation.metrics import SSIM_WINDOW_PX, psnr_y, ssim_y

    folder = Path(config["test"])
    truths = [pair.hr for pair in load_pairs(folder, 1, min_px=SSIM_WINDOW_PX)]
    restore = open_method(config)
    found: dict[str, list[float]] = {}
    for index in chosen(len(truths), config["pictures"]):
        hr, noise = truths[index], config["damage"] == "noise"
        random = np.random.default_rng(index)
        x = add_noise(hr, config["level"], random) if noise else jpeg(hr, int(config["level"]))
        if not found:
            restore(np.ascontiguousarray(x[:WARM_UP_PX, :WARM_UP_PX]))
        began, cpu_began = time.perf_counter(), time.process_time()
        y = restore(x)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        before, after = (psnr_rgb(p, hr) if noise else psnr_y(p, hr, border_px=0) for p in (x, y))
        ssims = (ssim_y(p, hr, border_px=0) for p in (x, y))
        keys = ("psnr_before_db", "psnr_db", "ssim_before", "ssim", "seconds", "cpu_seconds")
        for key, value in zip(keys, (before, after, *ssims, seconds, cpu_seconds), strict=True):
            found.setdefault(key, []).append(value)
    return dict(found)


def chosen(found: int, wanted: int) -> list[int]:
    """Return the indices of `wanted` of `found` pictures, evenly spread; 0 means all."""
    count = min(wanted, found) if wanted else found
    return [number * found // count for number in range(count)]
