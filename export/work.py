"""What the files of one export share: graphs, calibration, measurements, each made once."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx
import torch

import srsdk
from export import lint, rounding
from export.better import Referee, quantise_better
from export.calibrate import (
    CROPS,
    CROPS_OF_LARGE,
    LARGE,
    Calibration,
    Crops,
    Shape,
    calibrate,
    draw_crops,
)
from export.channel_order import reordered
from export.engine import Library, build_engine, seconds_since
from export.equalise import chains, equalised, factors
from export.held_out import held_out, pairs
from export.int8 import Quantised, quantise
from export.judge import Judge, Scores
from export.layers import Flavour, conv_layers, quantisable
from export.lint import precision_of
from export.onnx_file import ExportError, attach, write
from export.options import Artefact, Options
from export.parity import Parity, check
from export.probes import make_probe
from export.qat import patches, tuned
from export.record import Made, Report
from export.sources import Source, TorchSource, session_run
from srsdk.manifest import Manifest, read_manifest
from srsdk.probe import Probe
from training.data import find_pictures

log = logging.getLogger(__name__)

HELD_OUT, HELD_OUT_OF_LARGE = 8, 2
"""Crops of real pictures that parity is measured on, beside the drawn ones."""


class Work:
    """What the files of one export share, each made once and only when one of them needs it."""

    def __init__(
        self,
        source: Source,
        options: Options,
        libraries: dict[str, Library],
        key: str,
        report: Report,
    ) -> None:
        self.source = source
        self.options = options
        self.libraries = libraries
        self.key = key
        self.report = report
        self._graphs: dict[str, onnx.ModelProto] = {}
        self._measured: dict[tuple[str, str], tuple[Parity, Scores]] = {}

    def make(self, artefact: Artefact, path: Path) -> Made:
        """Build one file under a temporary name and hold it against its gate."""
        began = time.perf_counter()
        flavour: Flavour = "cpu" if artefact.flavour == "cpu" else "gpu"
        if artefact.precision == "int8":
            model = self._int8(flavour)
        else:
            model, flavour = self._graph(artefact.precision), "gpu"
        if (found := precision_of(model)) != artefact.precision:
            # precision lives in the graph: no builder would notice
            raise ExportError(f"{artefact.path.name}: the graph came out {found}")
        if artefact.flavour == "cpu":
            lint.check_saturation(model)
        parity, scores = self._judged(artefact, model, flavour)
        manifest = self._manifest(artefact, parity, scores)
        if artefact.is_engine:
            library = self.libraries[artefact.flavour]
            log.info("building %s", artefact.path.name)
            plan_bytes = build_engine(
                library,
                model,
                manifest.to_json(),
                profiles=self._profiles(),
                sms=self.options.sms,
            )
            path.write_bytes(plan_bytes)
        else:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            attach(copy, manifest)
            write(copy, path)
        if read_manifest(path) != manifest:
            raise ExportError(f"{artefact.path}: the manifest cannot be read back; not written")
        return Made(artefact, manifest, parity, seconds_since(began))

    @cached_property
    def judge(self) -> Judge:
        """Who says how good a file is."""
        seed = self.options.seed + 1
        crops = self._crops(seed, HELD_OUT).pixels if self.options.data else ()
        count = HELD_OUT_OF_LARGE if self._is_large else HELD_OUT
        return Judge.of(self.source, self.options.tests, crops[:count])

    @cached_property
    def calibration(self) -> Calibration:
        """Of the float32 graph, after its channels were evened out."""
        self.report.calibration = self._calibrated.divided(self.divisors)
        return self.report.calibration

    @cached_property
    def divisors(self) -> dict[str, npt.NDArray[np.float32]]:
        """What evens out the channels between convolutions, for graphs of every precision."""
        return factors(self._pixels, self._calibrated.peaks)

    @cached_property
    def _pixels(self) -> onnx.ModelProto:
        """The float32 graph that takes uint8 crops."""
        return self.source.graph("fp32", "uint8") if self._is_float else self._graph("fp32")

    @cached_property
    def _calibrated(self) -> Calibration:
        """Of the float32 graph as it is."""
        log.info("calibrating")
        count = CROPS_OF_LARGE if self._is_large else CROPS
        crops = self._crops(self.options.seed, count)
        layers = quantisable(conv_layers(self._pixels), "cpu")  # those for GPUs are among them
        found = calibrate(self._pixels, layers, crops, self.judge.patches)
        if self._is_large:
            return found
        moments = rounding.measure(self._pixels, layers, crops.pixels)
        return dataclasses.replace(found, moments=moments)

    @cached_property
    def base_db(self) -> dict[str, float]:
        """PSNR of the float32 network by test set."""
        return self.judge.psnr(session_run(self._graph("fp32")))

    @property
    def _is_float(self) -> bool:
        return self.options.boundary == "float32"

    @property
    def _is_large(self) -> bool:
        return self.source.facts.weights > LARGE

    def _crops(self, seed: int, count: int) -> Crops:
        f = self.source.facts
        assert self.options.data is not None
        shape = Shape(f.scale, f.channels, f.multiple_px, f.size_px)
        return draw_crops(self.options.data, shape, seed=seed, count=count, without=self._held_out)

    @cached_property
    def _held_out(self) -> list[Path]:
        """Pictures of `--data` that say whether QAT helps; none without it."""
        if not self.options.qat or self.options.data is None:
            return []
        return held_out(find_pictures(self.options.data))

    def _graph(self, precision: str) -> onnx.ModelProto:
        if precision not in self._graphs:
            log.info("exporting %s", precision)
            self._graphs[precision] = self.source.graph(precision, self.options.boundary)
        return self._graphs[precision]

    def _int8(self, flavour: Flavour) -> onnx.ModelProto:
        if flavour not in self.report.quantised:
            log.info("quantising (%s)", flavour)
            graph = self._graph("fp32" if flavour == "cpu" else "fp16")
            if {reader.name for _, reader in chains(graph)} != set(self.divisors):
                raise ExportError(
                    "the float16 graph joins its layers otherwise than the float32 one"
                )
            graph, calibration = equalised(graph, self.divisors), self.calibration
            if flavour == "cpu":
                graph, calibration = reordered(graph, calibration)
            self.report.quantised[flavour] = self._quantised(graph, calibration, flavour)
        return self.report.quantised[flavour].model

    def _quantised(
        self, graph: onnx.ModelProto, calibration: Calibration, flavour: Flavour
    ) -> Quantised:
        """Quantise a graph whose channels were evened out; before that, tune it if asked to."""
        steps = self.options.qat
        if not steps:
            return quantise(graph, calibration, flavour, self.judge, self.base_db)
        log.info("tuning (%s)", flavour)
        assert isinstance(self.source, TorchSource)
        assert self.options.data is not None
        scale, seed = self.source.facts.scale, self.options.seed
        draw = patches(self.options.data, scale, seed=seed, without=self._held_out).draw
        better = tuned(self.source, graph, calibration, flavour, draw, steps)
        chooser = dataclasses.replace(self.judge, tests={"held out": pairs(self._held_out, scale)})
        referee = Referee(self.judge, self.base_db, chooser)
        return quantise_better(graph, better, steps, calibration, flavour, referee)

    def _judged(
        self, artefact: Artefact, model: onnx.ModelProto, flavour: Flavour
    ) -> tuple[Parity, Scores]:
        """Measure a graph once, however many files it goes into."""
        what = (artefact.precision, flavour)
        if what not in self._measured:
            self._measured[what] = (
                self._parity(artefact, model, flavour),
                self._scored(artefact, flavour),
            )
        return self._measured[what]

    def _parity(self, artefact: Artefact, model: onnx.ModelProto, flavour: Flavour) -> Parity:
        """Measure and check; INT8 was checked when it was made."""
        if artefact.precision == "int8":
            return self.report.quantised[flavour].parity
        parity = self.judge.parity(session_run(model))
        if artefact.precision == "fp16":
            # the file must compute the network; and so must real float16, which it is not here
            check(parity, "fp16", f"{artefact.path.name} in ONNX Runtime")
            parity = self.judge.parity(self.source.half)
        check(parity, artefact.precision, artefact.path.name)
        return parity

    def _scored(self, artefact: Artefact, flavour: Flavour) -> Scores:
        scores = self.judge.scores(session_run(self._model(artefact)))
        if artefact.precision != "int8":
            return scores
        losses = self.report.quantised[flavour].losses_db
        return MappingProxyType(
            {
                name: MappingProxyType({**score, "loss_db": round(losses[name], 4)})
                for name, score in scores.items()
            }
        )

    def _probe(self, artefact: Artefact) -> Probe:
        """Return what a file of this kind must compute wherever it runs."""
        f = self.source.facts
        size = f.size_px
        if artefact.is_engine:
            size = min((height, width) for _, height, width in self._profiles())
        return make_probe(
            self.source.reference,
            session_run(self._model(artefact)),
            artefact.precision,
            "cpu" if artefact.flavour == "cpu" else "gpu",
            size_px=size,
            multiple_px=f.multiple_px,
            channels=f.channels,
        )

    def _model(self, artefact: Artefact) -> onnx.ModelProto:
        """Return the graph of a file that was made."""
        if artefact.precision == "int8":
            return self.report.quantised["cpu" if artefact.flavour == "cpu" else "gpu"].model
        return self._graphs[artefact.precision]

    def _profiles(self) -> Sequence[tuple[int, int, int]]:
        size = self.source.facts.size_px
        return ((1, *size),) if size else self.options.profiles

    def _manifest(self, artefact: Artefact, parity: Parity, scores: Scores) -> Manifest:
        f = self.source.facts
        engine = artefact.is_engine
        library = self.libraries.get(artefact.flavour)
        profiles = tuple(self._profiles()) if engine else ()
        sizes = {(height, width) for _, height, width in profiles}
        versions = {"srsdk": srsdk.__version__, "torch": torch.__version__}
        return Manifest(
            name=f.name,
            family=f.family,
            scale=f.scale,
            channels=f.channels,
            dtype=self.options.boundary,
            layout="NHWC",
            radius_px=f.radius_px,
            radius_measured=f.radius_measured,
            multiple_px=f.multiple_px,
            size_px=sizes.pop() if len(sizes) == 1 else f.size_px,
            precision=artefact.precision,
            flavour=artefact.flavour,
            profiles=profiles,
            library_version=library.version if library else "",
            sms=self.options.sms if artefact.flavour == "rtx" else (),
            parity_db=None if parity.psnr_db is None else round(parity.psnr_db, 2),
            parity_lsb=parity.max_lsb,
            parity_of="graph" if engine else "file",
            scores=scores,
            probe=self._probe(artefact),
            weights_sha256=f.sha256,
            texture=self.options.texture,
            licence=self.options.licence,
            training_data=self.options.training_data,
            built_with=MappingProxyType({**versions, "onnx": onnx.__version__}),
            build_key=self.key,
        )
