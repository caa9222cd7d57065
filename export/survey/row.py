"""Try one architecture: export, run, FP16, INT8. The result is a row of the table."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import srsdk
from export.options import Options
from export.pipeline import export_source
from export.protocol import Source
from export.record import Report
from export.sources.select import open_source
from export.sources.spandrel_weights import SpandrelNetwork, import_spandrel
from export.survey.architectures import Small
from export.survey.weights import SIDE_PX, picture_like
from srsdk.manifest import Manifest, read_manifest

PICTURE_PX = (128, 160)
"""Crop of the first picture that the backends run; rounded up to what the network takes."""
BACKENDS: tuple[Literal["onnxruntime", "openvino"], ...] = ("onnxruntime", "openvino")


@dataclass
class Row:
    """What was found out about one architecture; a field that was not reached is empty."""

    name: str
    """Of the architecture."""
    weights: int = 0
    """Number of weights of the small network."""
    scale: int = 0
    """Output size over input size."""
    exported: str = ""
    """The exporter and the sizes, such as `torch.export, any size`; empty: it does not export."""
    better_failed: list[str] = field(default_factory=list)
    """Why each better way to export it was not taken."""
    levels: dict[str, int] = field(default_factory=dict)
    """Largest difference from the torch network by backend, in levels of 255."""
    backends: dict[str, str] = field(default_factory=dict)
    """Why a backend does not run it."""
    tiling: str = ""
    """`exact`, `aligned`, `bounded` or `none`, with the overlap."""
    fp16: str = ""
    """`ok`, the exceptions, or why not."""
    int8_db: float | None = None
    """PSNR of the INT8 file's results against the float32 network's."""
    int8: str = ""
    """Layers in INT8, or why not."""
    seconds: float = 0.0
    """Time of the whole row."""
    problem: str = ""
    """Why the row ends early; empty: it does not."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def examine(
    small: Small, pictures: Path, tell: Callable[[Row], None], quick_s: float = math.inf
) -> Row:
    """Try an architecture with random weights.

    Args:
        small: the architecture.
        pictures: folder of pictures, for the backends and for INT8.
        tell: is called with the row after each step.
        quick_s: try FP16 and INT8 only if float32 took fewer seconds.
    """
    row, began = Row(small.name), time.perf_counter()

    def step(what: Callable[[], None]) -> bool:
        reason = _reason_of(what)
        row.seconds = round(time.perf_counter() - began, 1)
        row.problem = reason
        tell(row)
        return not reason

    if small.refused:
        row.problem = small.refused
        tell(row)
        return row
    with tempfile.TemporaryDirectory() as folder:
        tried = _Trial(small, Path(folder), pictures, row)
        if step(tried.open) and step(tried.export) and step(tried.run) and row.seconds < quick_s:
            for optional, name in ((tried.half, "fp16"), (tried.int8, "int8")):
                if not step(optional):
                    setattr(row, name, f"no: {row.problem}")
                    row.problem = ""
    tell(row)
    return row


def _reason_of(what: Callable[[], None]) -> str:
    try:
        what()
    except Exception as error:
        # a survey of what fails: whatever fails is a result
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""


class _Trial:
    """The steps of one row; each fills its fields."""

    def __init__(self, small: Small, folder: Path, pictures: Path, row: Row) -> None:
        self.small, self.folder, self.pictures, self.row = small, folder, pictures, row
        self.path = folder / "network.pth"
        self.source: Source

    def open(self) -> None:
        """Save random weights, and open them as third-party weights."""
        spandrel = import_spandrel()
        torch.manual_seed(0)
        network = self.small.build().eval()
        state = {name: value.clone() for name, value in network.state_dict().items()}
        model = spandrel.ModelLoader().load_from_state_dict(state)
        required = model.size_requirements
        multiple = int(required.multiple_of)
        side = -(-max(SIDE_PX, int(required.minimum)) // multiple) * multiple
        picture_like(model.model, SpandrelNetwork(model).eval(), side)
        # what folds weights for its own sake keeps other names than the file needs
        saved = {name: value for name, value in model.model.state_dict().items() if name in state}
        torch.save(saved, self.path)
        self.source = open_source(self.path)
        self.row.weights = sum(parameter.numel() for parameter in network.parameters())

    def export(self) -> None:
        """Export float32 with all checks."""
        report = self._export("fp32")
        manifest = report.made[0].manifest
        self.row.scale = manifest.scale
        assert report.way is not None
        self.row.exported = str(report.way)
        self.row.better_failed = list(report.way.failed)
        overlap = f", {manifest.radius_px} px" if manifest.tiling in ("exact", "aligned") else ""
        costs = [f"{db:g} dB at {px} px" for px, db in manifest.tiling_db.items()]
        self.row.tiling = manifest.tiling + overlap + (f", {costs[-1]}" if costs else "")

    def run(self) -> None:
        """Run the file in every backend, against the torch network."""
        file = self.folder / "network.onnx"
        manifest = read_manifest(file)
        assert manifest is not None
        picture = self._picture(manifest)
        wanted = self.source.reference(picture[None])[0].astype(np.int16)
        for backend in BACKENDS:
            # random weights are no upscaler, and the check of the output says so
            try:
                with srsdk.Upscaler(
                    file, backend=backend, precision="fp32", health=False, cache=False
                ) as up:
                    found = up(picture)
            except srsdk.SrsdkError as error:
                self.row.backends[backend] = " ".join(str(error).split())[:300]
            else:
                self.row.levels[backend] = int(np.abs(found - wanted).max())
        if not self.row.levels:
            raise RuntimeError("; ".join(self.row.backends.values()))

    def half(self) -> None:
        """Export float16."""
        report = self._export("fp16")
        kept = report.half.exceptions if report.half is not None else None
        self.row.fp16 = f"ok; {kept}" if kept is not None and kept.nodes else "ok"

    def int8(self) -> None:
        """Export INT8 for CPUs."""
        report = self._export("fp32", targets=("openvino-int8",))
        made = next(made for made in report.made if made.artifact.precision == "int8")
        self.row.int8_db = made.manifest.parity_db
        quantized = report.quantized["cpu"]
        total = len(quantized.layers) + len(quantized.restored_to_float)
        self.row.int8 = f"{len(quantized.layers)} of {total} layers"

    def _export(self, precision: str, targets: tuple[str, ...] = ("onnx",)) -> Report:
        pictures = self.pictures if "openvino-int8" in targets else None
        options = Options(precisions=(precision,), targets=targets, data=pictures)
        return export_source(self.source, self.small.name, self.folder, options, force=True)

    def _picture(self, manifest: Manifest) -> npt.NDArray[np.uint8]:
        """Return a crop of the first picture, (H, W, C), of a size that the network takes."""
        multiple = manifest.multiple_px
        height, width = manifest.size_px or (-(-px // multiple) * multiple for px in PICTURE_PX)
        path = min(path for path in self.pictures.iterdir() if path.is_file())
        with Image.open(path) as opened:
            mode = {1: "L", 3: "RGB", 4: "RGBA"}[manifest.channels]
            picture = opened.convert(mode).resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
        return pixels if pixels.ndim == 3 else pixels[..., None]
