"""`python -m export WEIGHTS -o gan_x4.onnx`."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import torch
from torch import nn

import srsdk
from export.graph import Uint8Graph, receptive_radius
from export.onnx_file import ExportError, attach, build_onnx, write
from export.parity import Parity, gate
from srsdk.manifest import Manifest
from training import checkpoint, evaluate, networks
from training.data import DataError, load_pairs
from training.loop import load_weights
from training.recipe import RecipeError, recipe_from_dict
from training.resize import Picture


def main(argv: Sequence[str] | None = None) -> int:
    """Export; return 0, or 1 after one sentence on stderr and without a file."""
    arguments = _parser().parse_args(argv)
    try:
        manifest, parity = export(
            arguments.weights,
            arguments.output,
            tests=arguments.test,
            force=arguments.force,
            licence=arguments.licence,
            training_data=arguments.training_data,
        )
    except (ExportError, DataError, RecipeError, checkpoint.CheckpointError) as error:
        sys.stderr.write(f"export: {error}\n")
        return 1
    except (srsdk.SrsdkError, OSError, ValueError) as error:
        sys.stderr.write(f"export: {error}\n")
        return 1
    _report(arguments.output, manifest, parity)
    return 0


def export(
    weights: Path,
    output: Path,
    *,
    tests: Sequence[Path] = (),
    force: bool = False,
    licence: str = "",
    training_data: str = "",
) -> tuple[Manifest, Parity]:
    """Write one FP32 ONNX file; nothing is left behind when a check fails.

    Args:
        weights: a checkpoint of `python -m training`.
        output: the `.onnx` file to write.
        tests: folders of ground truth; the finished file is scored on each.
        force: replace an existing file.
        licence: terms of the weights, for the manifest.
        training_data: what they were learned from, for the manifest.

    Raises:
        ExportError: the output exists, or the parity gate does not hold.
        checkpoint.CheckpointError: no checkpoint of ours.
    """
    if output.suffix != ".onnx":
        raise ExportError(f"{output}: expected a name that ends in .onnx")
    if output.exists() and not force:
        raise ExportError(f"{output} exists; --force replaces it")
    if not output.parent.is_dir():
        raise ExportError(f"{output.parent}: no such folder")
    net, facts = _network(weights)
    recipe = recipe_from_dict(facts["recipe"], source=str(weights))
    graph = Uint8Graph(net).eval()
    model = build_onnx(graph, recipe.scale)
    parity = gate(model, graph)
    manifest = Manifest(
        name=recipe.name,
        family=recipe.family,
        scale=recipe.scale,
        channels=3,
        radius_px=receptive_radius(net, recipe.scale),
        precision="fp32",
        parity_db=None if parity.psnr_db is None else round(parity.psnr_db, 2),
        scores=_scores(model, recipe.scale, tests),
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        licence=licence,
        training_data=training_data,
        built_with=MappingProxyType(
            {"srsdk": srsdk.__version__, "torch": torch.__version__, "onnx": onnx.__version__}
        ),
    )
    attach(model, manifest)
    write(model, output)
    return manifest, parity


def _network(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    tensors, facts = load_weights(weights)
    recipe = recipe_from_dict(facts["recipe"], source=str(weights))
    net = networks.build(recipe.network, recipe.scale)
    networks.warm_start(net, tensors)
    return networks.deployed(net).eval(), facts


def _scores(
    model: onnx.ModelProto, scale: int, folders: Sequence[Path]
) -> MappingProxyType[str, MappingProxyType[str, float]]:
    """Score the very bytes that are written, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def upscale(lr: Picture) -> Picture:
        result: Picture = session.run(None, {"image": lr[None]})[0][0]
        return result

    scores = {}
    for folder in folders:
        result = evaluate.score(upscale, load_pairs(folder, scale), scale)
        values = {"psnr_y_db": round(result.psnr_y_db, 3), "ssim_y": round(result.ssim_y, 4)}
        scores[folder.name] = MappingProxyType(values)
    return MappingProxyType(scores)


def _report(output: Path, manifest: Manifest, parity: Parity) -> None:
    lines = [
        f"{output}  {output.stat().st_size:,} bytes",
        f"  x{manifest.scale}, receptive-field radius {manifest.radius_px} px",
        f"  parity: max {parity.max_lsb} LSB, {parity.fraction:.5%} of samples differ",
        *(
            f"  {name}: {score['psnr_y_db']:.2f} dB / {score['ssim_y']:.4f}"
            for name, score in manifest.scores.items()
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("weights", type=Path, help="a checkpoint of `python -m training`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="score the file on this folder of ground truth, into the manifest; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--licence", default="", help="terms of the weights, for the manifest")
    parser.add_argument("--training-data", default="", help="what they were learned from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
