"""The runs to stop, and digests of the files that they leave under final names."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import make_picture
from tests.srsdk.video import clips
from tests.training.test_running import SMALL
from training import checkpoint, networks
from training.recipe.schema import recipe_from_dict

Digests = dict[str, str]
"""Digest of the content of each finished file, by name."""

TOY = {"name": "toy_x2", "scale": 2, "network": {"width": 8, "depth": 3}}
SHORT_PARTS = """
import sys
from srsdk.cli.main import main
from srsdk.video import parts
parts.PART_FRAMES = 8
sys.exit(main())
"""


@dataclass(frozen=True)
class Run:
    """One command, and how to check what it wrote."""

    command: list[str]
    """The command without its output, which comes last."""
    resume: list[str]
    """Arguments to add when the command is run again after a stop."""
    output: str
    """Name of the output file or folder."""
    digests: Callable[[Path], Digests]
    """Digests of the files with final names in the output folder; raises if one is damaged."""


def make_runs(inputs: Path) -> dict[str, Run]:
    """Write the inputs of all runs and return the runs by name."""
    (inputs / "pictures").mkdir(parents=True)
    for seed in range(12):
        path = inputs / "pictures" / f"{seed:02}.png"
        Image.fromarray(make_picture(120, 160, seed)).save(path)
    clips.make(inputs / "in.mkv", clips.Clip(frames=48))
    (inputs / "small.toml").write_text(
        SMALL.replace("steps = 6", "steps = 120").replace("save_every = 2", "save_every = 5")
    )
    torch.manual_seed(1)
    recipe = recipe_from_dict(TOY, source="toy")
    net = networks.build(recipe.network, 2)
    with torch.no_grad():
        for parameter in net.convs[-1].parameters():
            parameter.mul_(0.3)
    toy = inputs / "weights.safetensors"
    checkpoint.save(toy, net.state_dict(), {"recipe": recipe.to_dict(), "step": 0})
    python = [sys.executable]
    upscale = [*python, "-m", "srsdk", "upscale", str(inputs / "pictures"), "--scale", "2"]
    video = [*python, "-c", SHORT_PARTS, "video", "--model", "gan_x2", "--codec", "ffv1"]
    train = [*python, "-m", "training", str(inputs / "small.toml"), "--threads", "1", "--out"]
    export = [*python, "-m", "export", str(toy), "--no-comparison", "-o"]
    return {
        "folder": Run([*upscale, "--threads", "1", "-o"], [], "out", _pictures),
        "video": Run(
            [*video, "--threads", "1", str(inputs / "in.mkv")], ["--resume"], "out.mkv", _video
        ),
        "training": Run(train, [], "run", _weights),
        "export": Run(export, [], "toy.onnx", _models),
    }


def _pictures(folder: Path) -> Digests:
    found = {}
    for path in _final(folder / "out"):
        with Image.open(path) as image:
            found[path.name] = _sha(image.tobytes())
    return found


def _video(folder: Path) -> Digests:
    found = {}
    for path in _final(folder):
        packets = clips.packets(path, "video")
        if path.name != "out.partial.mkv":  # it is playable; its length depends on the moment
            found[path.name] = _sha(b"".join(data for _, data in packets))
    return found


def _weights(folder: Path) -> Digests:
    found = {}
    for path in _final(folder / "run", ".safetensors"):
        tensors = load_file(path)
        if path.name == "weights.safetensors":
            parts = (tensors[name].numpy().tobytes() for name in sorted(tensors))
            found[path.name] = _sha(b"".join(parts))
    return found


def _models(folder: Path) -> Digests:
    return {path.name: _sha(path.read_bytes()) for path in _final(folder)}


def _final(folder: Path, suffix: str = "") -> list[Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [p for p in paths if p.is_file() and p.name[0] != "." and p.name.endswith(suffix)]


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
