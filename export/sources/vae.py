"""Use a conditional VAE as a source: its files take noise and return a confidence map as well."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from export.graph.onnx_file import build_onnx
from export.graph.vae_wrapper import VaeGraph
from export.graph.wrapper import receptive_radius
from export.protocol import Batch, Facts
from export.sources.module import check_finite
from training.networks import ConditionalVae


class VaeSource:
    """A `vae` of `python -m training`; its mean (`eps` = 0) is what is measured."""

    def __init__(self, network: ConditionalVae, *, name: str, sha256: str) -> None:
        self.network = network.eval()
        check_finite(network, name)
        self.facts = Facts(
            name=name,
            family="vae",
            scale=network.scale,
            channels=3,
            radius_px=receptive_radius(_Mean(network), network.scale),
            radius_measured=False,
            sha256=sha256,
            architecture=f"ConditionalVae, latent {network.latent}",
        )
        self._float = VaeGraph(self.network).eval()
        self._half = VaeGraph(_Half(network)).eval()

    def graph(self, precision: str, boundary: str) -> onnx.ModelProto:
        """Export with torch: inputs `image` and `eps`, outputs `upscaled` and `confidence`."""
        return build_onnx(
            VaeGraph(
                self.network if precision == "fp32" else _Half(self.network),
                is_float=boundary == "float32",
            ),
            self.facts.scale,
            dtype=torch.uint8 if boundary == "uint8" else torch.float32,
            latent=self.network.latent,
        )

    def reference(self, image: Batch) -> Batch:
        """Compute the mean in float32."""
        return self._run(self._float, image)

    def half(self, image: Batch) -> Batch:
        """Compute the mean in PyTorch's own float16."""
        return self._run(self._half, image)

    @torch.no_grad()
    def _run(self, graph: nn.Module, image: Batch) -> Batch:
        count, height, width = image.shape[:3]
        eps = torch.zeros(count, self.network.latent, height, width)
        result: Batch = graph(torch.from_numpy(np.ascontiguousarray(image)), eps)[0].numpy()
        return result


class _Mean(nn.Module):
    """The network at `eps` = 0, with one input and one output."""

    def __init__(self, network: ConditionalVae) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        eps = torch.zeros(x.shape[0], self.network.latent, *x.shape[2:])
        picture: Tensor = self.network(x, eps)[0]
        return picture


class _Half(nn.Module):
    """The network in float16 throughout, with float32 input and output."""

    def __init__(self, network: ConditionalVae) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().half()

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        picture, confidence = self.network(x.half(), eps.half())
        return picture.float(), confidence.float()
