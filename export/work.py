"""Build the files of one export; graphs, calibration and measurements are shared and cached."""

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
from export.errors import ExportError
from export.evaluation.parity import Parity, check
from export.evaluation.probes import make_probe
from export.evaluation.quality import Evaluator, Scores
from export.evaluation.tiling import with_cost
from export.graph.layers import Flavour, conv_layers, quantizable
from export.graph.onnx_file import attach, write
from export.graph.session import session_run
from export.graph.values import promoted
from export.half.choice import HalfGraph, half_graph
from export.options import Artifact, Options
from export.protocol import Facts, Source
from export.quantization import rounding
from export.quantization.calibration import (
    CROPS,
    CROPS_OF_LARGE,
    LARGE,
    Calibration,
    Crops,
    Shape,
    calibrate,
    draw_crops,
)
from export.quantization.channel_order import reordered
from export.quantization.equalization import chains, equalized, factors
from export.quantization.mixed_precision import Quantized, quantize
from export.quantization.qat import patches, tuned
from export.quantization.selection import Criteria, quantize_best
from export.quantization.validation_split import pairs, validation
from export.record import Made, Report
from export.sources.module import TorchSource
from export.targets import lint
from export.targets.lint import precision_of
from export.targets.tensorrt import Library, build_engine, seconds_since
from srsdk.formats.probe import Probe
from srsdk.manifest import Manifest, read_manifest
from training.data.pictures import find_pictures

log = logging.getLogger(__name__)

VALIDATION_CROPS, VALIDATION_CROPS_OF_LARGE = 8, 2
"""Crops of real pictures on which parity is measured, in addition to the synthetic ones."""


class Work:
    """Shared state of one export; each part is computed once, when a file first needs it."""

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

    def make(self, artifact: Artifact, path: Path) -> Made:
        """Build one file under a temporary name and check it against its gate."""
        began = time.perf_counter()
        flavour: Flavour = "cpu" if artifact.flavour == "cpu" else "gpu"
        if artifact.precision == "int8":
            model = self._int8(flavour)
        else:
            model, flavour = self._graph(artifact.precision), "gpu"
        if (found := precision_of(model)) != artifact.precision:
            # the graph decides the precision: no builder would notice
            raise ExportError(
                f"{artifact.path.name}: the graph is {found}, expected {artifact.precision}"
            )
        if artifact.flavour == "cpu":
            lint.check_saturation(model)
        parity, scores = self._evaluated(artifact, model, flavour)
        manifest = self._manifest(artifact, parity, scores)
        if artifact.is_engine:
            library = self.libraries[artifact.flavour]
            log.info("building %s", artifact.path.name)
            plan_bytes = build_engine(
                library,
                model,
                manifest.to_json(),
                profiles=self._profiles(),
                sms=self.options.sms,
                version_compatible=self.options.version_compatible,
            )
            path.write_bytes(plan_bytes)
        else:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            attach(copy, manifest)
            if manifest.inputs:
                promoted(copy)
            write(copy, path)
        if read_manifest(path) != manifest:
            raise ExportError(f"{artifact.path}: the manifest cannot be read back; not written")
        return Made(artifact, manifest, parity, seconds_since(began))

    @cached_property
    def evaluator(self) -> Evaluator:
        """Quality evaluation on test sets and parity pictures."""
        seed = self.options.seed + 1
        crops = self._crops(seed, VALIDATION_CROPS).pixels if self.options.data else ()
        count = VALIDATION_CROPS_OF_LARGE if self._is_large else VALIDATION_CROPS
        return Evaluator.of(self.source, self.options.tests, crops[:count])

    @cached_property
    def divisors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Equalization factors of the channels between convolutions, for every precision."""
        return factors(self._pixels, self._calibrated.peaks)

    @cached_property
    def _pixels(self) -> onnx.ModelProto:
        """The float32 graph with uint8 input, for crops."""
        return self.source.graph("fp32", "uint8") if self._is_float else self._graph("fp32")

    @cached_property
    def _calibrated(self) -> Calibration:
        """Calibration of the float32 graph before channel equalization."""
        log.info("calibrating")
        count = CROPS_OF_LARGE if self._is_large else CROPS
        crops = self._crops(self.options.seed, count)
        layers = quantizable(conv_layers(self._pixels), "cpu")  # a superset of the GPU's
        found = calibrate(self._pixels, layers, crops, self.evaluator.patches)
        if self._is_large:
            return found
        moments = rounding.measure(self._pixels, layers, crops.pixels)
        return dataclasses.replace(found, moments=moments)

    @cached_property
    def base_db(self) -> dict[str, float]:
        """PSNR of the float32 network by test set."""
        return self.evaluator.psnr(session_run(self._graph("fp32")))

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
        return draw_crops(
            self.options.data, shape, seed=seed, count=count, without=self._validation
        )

    @cached_property
    def _validation(self) -> list[Path]:
        """Validation split of `--data`, which decides whether QAT is used; empty without QAT."""
        if not self.options.qat or self.options.data is None:
            return []
        return validation(find_pictures(self.options.data))

    def _graph(self, precision: str) -> onnx.ModelProto:
        if precision not in self._graphs:
            log.info("exporting %s", precision)
            if precision == "fp16":
                self._graphs[precision] = self._half.model
            else:
                self._graphs[precision] = self.source.graph(precision, self.options.boundary)
        return self._graphs[precision]

    @cached_property
    def _half(self) -> HalfGraph:
        """The float16 graph, with the nodes that must stay in float32."""
        full = self._graph("fp32")
        made = half_graph(self.source, full, self.options.boundary, self.evaluator)
        self.report.half = made
        return made

    def _int8(self, flavour: Flavour) -> onnx.ModelProto:
        if flavour not in self.report.quantized:
            log.info("quantizing (%s)", flavour)
            graph = self._graph("fp32" if flavour == "cpu" else "fp16")
            # casts around float32 nodes end a chain
            linked = {reader.name for _, reader in chains(graph)}
            divisors = {name: value for name, value in self.divisors.items() if name in linked}
            if linked != set(divisors) or (flavour == "cpu" and linked != set(self.divisors)):
                raise ExportError(
                    "the float16 graph connects its layers differently from the float32 graph"
                )
            self.report.calibration = self._calibrated.divided(self.divisors)
            graph, calibration = equalized(graph, divisors), self._calibrated.divided(divisors)
            if flavour == "cpu":
                graph, calibration = reordered(graph, calibration)
            self.report.quantized[flavour] = self._quantized(graph, calibration, flavour)
        return self.report.quantized[flavour].model

    def _quantized(
        self, graph: onnx.ModelProto, calibration: Calibration, flavour: Flavour
    ) -> Quantized:
        """Quantize an equalized graph, after QAT if requested."""
        steps = self.options.qat
        if not steps:
            return quantize(graph, calibration, flavour, self.evaluator, self.base_db)
        log.info("tuning (%s)", flavour)
        assert isinstance(self.source, TorchSource)
        assert self.options.data is not None
        scale, seed = self.source.facts.scale, self.options.seed
        draw = patches(self.options.data, scale, seed=seed, without=self._validation).draw
        better = tuned(self.source, graph, calibration, flavour, draw, steps)
        chooser = dataclasses.replace(
            self.evaluator, tests={"held out": pairs(self._validation, scale)}
        )
        criteria = Criteria(self.evaluator, self.base_db, chooser)
        return quantize_best(graph, better, steps, calibration, flavour, criteria)

    def _evaluated(
        self, artifact: Artifact, model: onnx.ModelProto, flavour: Flavour
    ) -> tuple[Parity, Scores]:
        """Measure a graph once, even if several files contain it."""
        what = (artifact.precision, flavour)
        if what not in self._measured:
            self._measured[what] = (
                self._parity(artifact, model, flavour),
                self._scored(artifact, flavour),
            )
        return self._measured[what]

    def _parity(self, artifact: Artifact, model: onnx.ModelProto, flavour: Flavour) -> Parity:
        """Measure and check parity; INT8 was checked when it was quantized."""
        if artifact.precision == "int8":
            return self.report.quantized[flavour].parity
        if artifact.precision == "fp16":
            return self._half.parity
        parity = self.evaluator.parity(session_run(model))
        check(parity, artifact.precision, artifact.path.name)
        return parity

    def _scored(self, artifact: Artifact, flavour: Flavour) -> Scores:
        scores = self.evaluator.scores(session_run(self._model(artifact)))
        if artifact.precision != "int8":
            return scores
        losses = self.report.quantized[flavour].losses_db
        return MappingProxyType(
            {
                name: MappingProxyType({**score, "loss_db": round(losses[name], 4)})
                for name, score in scores.items()
            }
        )

    def _probe(self, artifact: Artifact) -> Probe:
        """Return the self-test picture and result for this kind of file."""
        f = self.source.facts
        size = f.size_px
        if artifact.is_engine:
            size = min((height, width) for _, height, width in self._profiles())
        return make_probe(
            self.source.reference,
            session_run(self._model(artifact)),
            artifact.precision,
            "cpu" if artifact.flavour == "cpu" else "gpu",
            size_px=size,
            multiple_px=f.multiple_px,
            channels=f.channels,
        )

    def _model(self, artifact: Artifact) -> onnx.ModelProto:
        """Return the graph of a finished file."""
        if artifact.precision == "int8":
            return self.report.quantized["cpu" if artifact.flavour == "cpu" else "gpu"].model
        return self._graphs[artifact.precision]

    @cached_property
    def _facts(self) -> Facts:
        """The network's facts, with the cost of its tiles."""
        folders = [*self.options.tests, *([self.options.data] if self.options.data else [])]
        return with_cost(self.source.facts, self._pixels, folders)

    def _profiles(self) -> Sequence[tuple[int, int, int]]:
        size = self.source.facts.size_px
        return ((1, *size),) if size else self.options.profiles

    def _manifest(self, artifact: Artifact, parity: Parity, scores: Scores) -> Manifest:
        f = self._facts
        engine = artifact.is_engine
        library = self.libraries.get(artifact.flavour)
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
            tiling=f.tiling,
            tiling_db=MappingProxyType(dict(f.tiling_db)),
            bytes_per_px=f.bytes_per_px,
            # an engine restores at the defaults: its builder sees the constant
            inputs=MappingProxyType({} if engine else dict(f.inputs)),
            input_ranges=MappingProxyType({} if engine else dict(f.input_ranges)),
            size_px=sizes.pop() if len(sizes) == 1 else f.size_px,
            precision=artifact.precision,
            flavour=artifact.flavour,
            profiles=profiles,
            library_version=library.version if library else "",
            version_compatible=self.options.version_compatible and artifact.flavour == "tensorrt",
            sms=self.options.sms if artifact.flavour == "rtx" else (),
            parity_db=None if parity.psnr_db is None else round(parity.psnr_db, 2),
            parity_lsb=parity.max_lsb,
            parity_of="graph" if engine else "file",
            scores=scores,
            probe=self._probe(artifact),
            weights_sha256=f.sha256,
            texture=self.options.texture,
            licence=self.options.licence,
            training_data=self.options.training_data,
            training_licenses=self.options.training_licenses,
            built_with=MappingProxyType(
                {**versions, "onnx": onnx.__version__, **self._noted(artifact)}
            ),
            build_key=self.key,
        )

    def _noted(self, artifact: Artifact) -> dict[str, str]:
        """Return what the manifest says of nodes that a float16 file computes in float32."""
        is_half = artifact.precision == "fp16" and self._half.exceptions.nodes
        return {"fp16": self._half.exceptions.summary} if is_half else {}
