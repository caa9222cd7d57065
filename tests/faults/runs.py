"""The runs that are stopped, and what they leave under final names."""

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
from tests.srsdk import clips
from tests.training.test_running import SMALL
from training import checkpoint, networks
from training.recipe import recipe_from_dict

Digests = dict[str, str]
"""By the names of finished files: what they hold."""

TOY = {"name": "toy_x2", "scale": 2, "network": {"width": 8, "depth": 3}}
SHORT_PARTS = """
import sys
from srsdk import cli
from srsdk.media import parts
parts.PART_FRAMES = 8
sys.exit(cli.main())
"""


@dataclass(frozen=True)
class Run:
    """One command, and how to look at what it wrote."""

    command: list[str]
    """Without the output, which comes last."""
    resume: list[str]
    """What is added when it is called again after a stop."""
    output: str
    """Name of the file or folder that it writes."""
    digests: Callable[[Path], Digests]
    """What lies under final names in the folder of the output; raises where a file is damaged."""


def make_runs(inputs: Path) -> dict[str, Run]:
    """Write what the runs read, once."""
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
    export = [*python, "-m", "export", str(toy), "--no-verdict", "-o"]
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
        if path.name != "out.partial.mkv":  # it plays; how long it is depends on the moment
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
