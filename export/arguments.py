"""Options of the export's command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from export.options import PRECISIONS, TARGETS
from training.usage import Parser

PROGRAM = "python -m export"
USAGE = """\
Export a network to ONNX files and TensorRT engines.

Example: python -m export weights.safetensors -o models/ --precision fp32,fp16
         python -m export gan_x2 --target web -o site/

The graph of every file is compared with the float32 network before it is written.

Exit codes:
  0    all files are written or up to date
  1    a source, folder or library is unusable
  2    usage error
  3    a quality gate failed (parity, INT8 loss, lint)
  130  stopped by Ctrl-C
No model file is written unless all of them pass.
"""
"""What the help begins with."""


def make_parser() -> Parser:
    """Return the parser of `python -m export`; its help begins with `USAGE`."""
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} SOURCE -o FOLDER [--precision P,...] [--target T,...] [option ...]",
        description=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="checkpoint of `python -m training`, third-party .pth or .safetensors, .onnx file, "
        "TorchScript, .pt2 of torch.export, or a network of your own: my_nets.py:MyNet (the file "
        "is run); for --target web one or more names of models, or .onnx files",
    )
    _add_own(parser.add_argument_group("network of your own"))
    _add_files(parser.add_argument_group("files"))
    _add_weights(parser.add_argument_group("weights and manifest"))
    _add_forms(parser.add_argument_group("precisions and targets"))
    _add_data(parser.add_argument_group("pictures and INT8"))
    _add_reports(parser.add_argument_group("reports"))
    return parser


def _add_own(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--weights", type=Path, metavar="FILE", help="its state dict, .pth or .safetensors")
    add(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of its class or factory, such as width=64; may be repeated",
    )
    add("--name", default="", help="name of the model (default: that of the class)")
    add("--scale", type=int, help="output size over input size (default: found by a run)")
    add("--channels", type=int, help="1, 3 or 4 (default: those of the first convolution)")
    add("--multiple", type=int, help="input sizes are multiples of this (default: probed)")
    add(
        "--result",
        metavar="NAME",
        help="name or position of the picture, if the network returns several results",
    )


def _add_files(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "-o",
        "--output",
        metavar="FOLDER",
        required=True,
        help="output folder, created if missing: models/ or models; or a file name, such as "
        "x.onnx, from which the others are named",
    )
    add("--force", action="store_true", help="replace existing files")
    add("--triton", type=Path, metavar="REPO", help="also write a Triton model repository")
    add(
        "--onnxruntime-web",
        type=Path,
        metavar="FOLDER",
        help="installed onnxruntime-web for --target web (default: that of export/web)",
    )


def _add_weights(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--license",
        dest="licence",
        metavar="TEXT",
        default="",
        help="license of the weights, for the manifest",
    )
    add(
        "--training-data",
        metavar="TEXT",
        default="",
        help="what the weights were trained on, for the manifest",
    )
    add(
        "--training-license",
        action="append",
        default=[],
        metavar="SPDX",
        help="license of the training data as an SPDX identifier, such as CC0-1.0, for the "
        "manifest; may be repeated",
    )
    add(
        "--texture",
        type=float,
        metavar="0..1",
        help="blend the weights: 0 is --parent, 1 is the source",
    )
    add(
        "--parent",
        type=Path,
        metavar="WEIGHTS",
        help="weights that the source's GAN training started from; goes with --texture",
    )


def _add_forms(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--precision",
        action="append",
        metavar="P",
        help=f"one or more of {', '.join(PRECISIONS)}; comma-separated (default: fp32)",
    )
    add(
        "--target",
        action="append",
        metavar="T",
        help=f"one or more of {', '.join(TARGETS)}; comma-separated (default: onnx); or web: a "
        "folder for browsers",
    )
    add(
        "--boundary",
        default="uint8",
        help="type of input and output: uint8 (default), or float32 for 16-bit pictures",
    )
    add(
        "--tile",
        type=_tile,
        action="append",
        default=[],
        help="input size of engines, 256 (default) or 256x384 (HEIGHTxWIDTH); may be repeated",
    )
    add(
        "--batch",
        type=int,
        action="append",
        default=[],
        help="batch size of engines (default: 1); may be repeated",
    )
    add(
        "--profiles",
        help="input shapes of engines, BATCHxHEIGHTxWIDTH, comma-separated; "
        "replaces --tile and --batch",
    )
    add(
        "--sm",
        default="86,89,120",
        help="GPU architectures of rtx engines, as SM numbers (default: 86,89,120)",
    )
    add(
        "--version-compatible",
        action="store_true",
        help="build tensorrt engines that later versions and the lean runtime (srsdk[lean]) open, "
        "too; they may be slower",
    )


def _add_data(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of pictures for INT8 calibration, --qat and the --triton warm-up",
    )
    add(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of ground truth to report PSNR on and to limit the INT8 loss on; "
        "may be repeated",
    )
    add("--seed", type=int, default=0, help="seed of the calibration crops and --qat (default: 0)")
    add(
        "--qat",
        type=int,
        default=0,
        metavar="STEPS",
        help="steps of quantization-aware training on --data before INT8; used only if the result "
        "is better (default: 0, off)",
    )


def _add_reports(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--json", action="store_true", help="print the report as JSON")
    add(
        "--no-comparison",
        dest="comparison",
        action="store_false",
        help="skip the speed comparison on this CPU",
    )
    add("-v", "--verbose", action="store_true", help="log each step, as on a terminal")


def _tile(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected 256 or 256x384 (height first)")
    return (int(sides[0]), int(sides[-1]))
