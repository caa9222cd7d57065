"""What an export starts from: a checkpoint of ours, other people's weights, a ready ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from export.graph import FloatGraph, Uint8Graph, halved, receptive_radius, rounded
from export.onnx_file import ExportError, build_onnx
from export.options import file_sha256
from export.parity import Batch, Run
from export.radius import measured_radius
from training import checkpoint, networks
from training.data_recipes import DegradationRecipe
from training.family_recipes import CorruptRecipe
from training.loop import load_weights
from training.recipe import Recipe, recipe_from_dict


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the manifest will say of the network, whatever the precision."""

    name: str
    """Of the model."""
    family: str
    """As in the manifest."""
    scale: int
    """Output size over input size."""
    channels: int
    """3 or 1."""
    radius_px: int
    """Of the receptive field."""
    radius_measured: bool
    """Whether the network sees further and this is where its influence was measured to end."""
    multiple_px: int = 1
    """Input sizes are multiples of this."""
    size_px: tuple[int, int] | None = None
    """The only input size; None: any."""
    sha256: str
    """Of the source file."""
    weights: int = 0
    """How many it has: large networks are measured on fewer pixels."""
    architecture: str = ""
    """In words, for the report."""
    textured: bool = False
    """Whether it was trained for texture, which PSNR does not reward."""
    damage: CorruptRecipe = field(default_factory=CorruptRecipe)
    """What it was trained to repair; test pictures are damaged so."""
    degradation: DegradationRecipe = field(default_factory=DegradationRecipe)
    """How its inputs were made of the truth; test pictures also are, where it is not bicubic."""


class Source(Protocol):
    """A network that can be written in float32 and float16."""

    facts: Facts
    """What it is."""

    def graph(self, precision: str, boundary: str) -> onnx.ModelProto:
        """Return the graph in `fp32` or `fp16`, with a `uint8` or `float32` boundary."""

    def reference(self, image: Batch) -> Batch:
        """Upscale (N, H, W, C) uint8 by the float32 network itself."""

    def half(self, image: Batch) -> Batch:
        """Upscale with weights and activations rounded to float16, as a GPU would."""


class TorchSource:
    """A PyTorch network: ours, or one that spandrel knows."""

    def __init__(self, facts: Facts, network: nn.Module) -> None:
        self.facts = facts
        self.network = network.eval()
        self._float = Uint8Graph(self.network).eval()
        self._half: nn.Module | None = None

    def graph(self, precision: str, boundary: str) -> onnx.ModelProto:
        """Export by torch; `fp16` is the halved network, not a converted graph."""
        network = self.network if precision == "fp32" else self._halved()
        wrap = Uint8Graph if boundary == "uint8" else FloatGraph
        return build_onnx(
            wrap(network),
            self.facts.scale,
            channels=self.facts.channels,
            dtype=torch.uint8 if boundary == "uint8" else torch.float32,
            multiple_px=self.facts.multiple_px,
        )

    def reference(self, image: Batch) -> Batch:
        """Run PyTorch in float32."""
        return _run(self._float, image)

    def half(self, image: Batch) -> Batch:
        """Run PyTorch with everything rounded that a GPU would store in float16."""
        if self._half is None:
            self._half = Uint8Graph(rounded(self.network)).eval()
        return _run(self._half, image)

    def _halved(self) -> nn.Module:
        side = -(-16 // self.facts.multiple_px) * self.facts.multiple_px  # small: halves are slow
        return halved(self.network, torch.zeros(1, self.facts.channels, side, side))


def open_source(path: Path) -> Source:
    """Open a checkpoint, foreign weights or an ONNX file, by its content.

    Raises:
        ExportError: of no kind that is known, or damaged; says what was found.
        checkpoint.CheckpointError: a checkpoint of ours that is damaged.
    """
    if path.suffix.lower() == ".onnx":
        from export.onnx_source import open_onnx

        return open_onnx(path)
    if path.suffix.lower() in (".pth", ".pt", ".ckpt") or _is_foreign(path):
        from export.foreign import open_foreign

        return open_foreign(path)
    return open_checkpoint(path)


def open_checkpoint(path: Path) -> Source:
    """Open a checkpoint of `python -m training`.

    Raises:
        checkpoint.CheckpointError: none of ours.
        RecipeError: its recipe is of another version.
    """
    tensors, recipe = _trained(path)
    return _source_of(path, tensors, recipe)


def _trained(path: Path) -> tuple[dict[str, Tensor], Recipe]:
    tensors, facts = load_weights(path)
    recipe = recipe_from_dict(facts["recipe"], source=str(path))
    if recipe.small.on:
        raise ExportError(
            f"{path}: the textbook forms on small pictures are no upscalers; "
            "their parts export as in tests/training/test_small.py"
        )
    return tensors, recipe


def _gan_weights(path: Path) -> tuple[dict[str, Tensor], Recipe]:
    tensors, recipe = _trained(path)
    if recipe.family != "gan":
        raise ExportError(f"{path}: weights of family {recipe.family} are not mixed, expected gan")
    return tensors, recipe


def _source_of(path: Path, tensors: dict[str, Tensor], recipe: Recipe) -> Source:
    network = networks.for_recipe(recipe)
    networks.warm_start(network, tensors)
    if isinstance(network, networks.ConditionalVae):
        from export.vae_source import VaeSource

        return VaeSource(network, name=recipe.name, sha256=file_sha256(path))
    return torch_source(
        networks.deployed(network),
        name=recipe.name,
        family=recipe.family,
        scale=recipe.scale,
        sha256=file_sha256(path),
        multiple_px=int(getattr(network, "multiple_px", 1)),
        architecture=type(network).__name__,
        recipe=recipe,
    )


def open_mixture(path: Path, parent: Path, texture: float) -> Source:
    """Open (1 - texture) * parent + texture * checkpoint, both of `python -m training`.

    Network interpolation (ESRGAN, arXiv:1809.00219). Name and hash are those of the checkpoint.

    Raises:
        ExportError: one of them is of another family than `gan`, or they differ in architecture.
        checkpoint.CheckpointError: one of them is none of ours.
        RecipeError: the recipe of one is of another version.
    """
    (tensors, recipe), (base, older) = _gan_weights(path), _gan_weights(parent)
    for what in ("scale", "network"):
        ours, theirs = getattr(recipe, what), getattr(older, what)
        if ours != theirs:
            raise ExportError(
                f"{path} and {parent} cannot be mixed: {what} is {ours} and {theirs}, "
                "expected one architecture"
            )
    try:
        mixed = networks.interpolate(base, tensors, texture)
    except ValueError as error:
        raise ExportError(f"{path} and {parent} cannot be mixed: {error}") from error
    return _source_of(path, mixed, recipe)


def torch_source(
    network: nn.Module,
    *,
    name: str,
    family: str,
    scale: int,
    sha256: str,
    channels: int = 3,
    multiple_px: int = 1,
    architecture: str = "",
    recipe: Recipe | None = None,
) -> TorchSource:
    """Wrap a network that maps (N, C, H, W) floats 0..1, and find out how far it sees.

    Raises:
        ExportError: a weight is no number, or the network has global context.
    """
    network.eval()
    check_finite(network, name)
    measured = False
    for module in network.modules():
        if hasattr(module, "inplace"):
            # torch's exporter takes an activation in place apart, in twice the time
            module.inplace = False  # type: ignore[assignment]
    try:
        radius = receptive_radius(network, scale, channels, multiple_px=multiple_px)
    except ValueError:
        run = Uint8Graph(network).eval()
        radius = measured_radius(lambda x: _run(run, x), scale, channels, multiple_px)
        measured = True
    return TorchSource(
        Facts(
            name=name,
            family=family,
            scale=scale,
            channels=channels,
            radius_px=radius,
            radius_measured=measured,
            multiple_px=multiple_px,
            sha256=sha256,
            weights=sum(parameter.numel() for parameter in network.parameters()),
            architecture=architecture,
            textured=recipe is not None and recipe.objective == "gan",
            damage=recipe.corrupt if recipe else CorruptRecipe(),
            degradation=recipe.degradation if recipe else DegradationRecipe(),
        ),
        network,
    )


def check_finite(network: nn.Module, name: str) -> None:
    """Refuse weights that no gate could judge: NaN everywhere equals NaN everywhere.

    Raises:
        ExportError: names the first tensor.
    """
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ExportError(f"{name}: weights {key!r} hold NaN or infinity; the file is damaged")


def session_run(model: onnx.ModelProto) -> Run:
    """Return what runs a graph in ONNX Runtime, uint8 in and out whatever its boundary."""
    from export.session import open_session

    session = open_session(model)
    name = session.get_inputs()[0].name
    is_uint8 = session.get_inputs()[0].type == "tensor(uint8)"
    # a vae's noise, (N, latent, H, W): 0 gives its mean
    latents = [(port.name, port.shape[1]) for port in session.get_inputs()[1:]]

    def run(image: Batch) -> Batch:
        count, height, width = image.shape[:3]
        feed = {n: np.zeros((count, z, height, width), np.float32) for n, z in latents}
        pixels = image if is_uint8 else image.astype(np.float32) / np.float32(255)
        result: npt.NDArray[Any] = session.run(None, {name: pixels, **feed})[0]
        if is_uint8:
            return result
        levels: Batch = np.rint(np.clip(result * 255, 0, 255)).astype(np.uint8)
        return levels

    return run


@torch.no_grad()
def _run(graph: nn.Module, image: Batch) -> Batch:
    result: Batch = graph(torch.from_numpy(np.ascontiguousarray(image))).numpy()
    return result


def _is_foreign(path: Path) -> bool:
    """Say whether a safetensors file is somebody else's: it lacks our schema."""
    try:
        checkpoint.load(path)
    except checkpoint.CheckpointError as error:
        return "schema" in str(error)
    return False
