"""The architectures of spandrel, with hyperparameters that make a small network of each."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Small:
    """How to build a small network of one architecture."""

    name: str
    """Name in the table, and of spandrel's module if `module` is empty."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of its class."""
    module: str = ""
    """Name of spandrel's module."""
    kind: str = ""
    """Name of its class; empty: that of the module."""
    refused: str = ""
    """Why it is not built: it maps no picture to a picture, or is too large to be built."""

    def build(self) -> nn.Module:
        """Return the network with the random weights of its constructor."""
        module = self.module or self.name
        package = importlib.import_module(f"spandrel.architectures.{module}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about old code
            network: nn.Module = getattr(package, self.kind or module)(**self.settings)
        return network


_WINDOWS: dict[str, Any] = {
    "embed_dim": 24,
    "depths": [2],
    "num_heads": [2],
    "mlp_ratio": 2.0,
    "upscale": 2,
    "upsampler": "pixelshuffle",
}
"""Of networks that descend from SwinIR: each pair of blocks has a plain and a shifted window."""

SMALL = (
    Small("ATD", {**_WINDOWS, "window_size": 8, "category_size": 256, "num_tokens": 16}),
    Small(
        "AuraSR",
        refused="generates from noise: each call draws a new style and new noise, so its result is "
        "not a function of the picture",
    ),
    Small("Compact", {"num_feat": 16, "num_conv": 4, "upscale": 2}),
    Small(
        "CRAFT",
        {"embed_dim": 48, "depths": [2], "num_heads": [2], "upscale": 2},
    ),
    Small(
        "DAT",
        {
            "embed_dim": 64,
            "depth": [4],
            "num_heads": [2],
            "split_size": [8, 16],
            "expansion_factor": 2.0,
        },
    ),
    Small("DCTLSA", {"nf": 15, "num_modules": 6, "upscale": 2, "num_head": 5}),
    Small("DITN", {"dim": 16, "ITL_blocks": 2, "SAL_blocks": 2, "upscale": 2}),
    Small("DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 16, "nb": 8, "act_mode": "R"}),
    Small("DRCT", {**_WINDOWS, "window_size": 16, "gc": 8}),
    Small("DRUNet", {"in_nc": 4, "out_nc": 3, "nc": [8, 16, 24, 32], "nb": 2}),
    Small("ESRGAN", {"num_filters": 16, "num_blocks": 2, "scale": 2}),
    Small("FBCNN", {"nc": [8, 16, 24, 512], "nb": 4}),
    Small(
        "FDAT",
        {"scale": 2, "embed_dim": 16, "num_groups": 2, "depth_per_group": 2, "num_heads": 2}
        | {"mid_dim": 16, "aim_reduction_ratio": 8},
    ),
    Small("FFTformer", {"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
    Small("GFPGAN"),
    Small(
        "GRL",
        {
            "embed_dim": 16,
            "upscale": 2,
            "upsampler": "pixelshuffle",
            "depths": [2],
            "num_heads_window": [2],
            "num_heads_stripe": [2],
            "mlp_ratio": 2.0,
            "anchor_window_down_factor": 2,
        },
    ),
    Small("HAT", {**_WINDOWS, "window_size": 16, "compress_ratio": 3, "squeeze_factor": 8}),
    Small("HVI-CIDNet", {"channels": [8, 8, 16, 32], "heads": [1, 2, 2, 4]}, "HVICIDNet"),
    Small(
        "IPT",
        {"patch_size": 24, "n_feats": 12, "num_heads": 12, "num_layers": 1, "scale": [2]}
        | {"rgb_range": 255},
    ),
    Small(
        "KBNet (s)",
        {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
        "KBNet",
        "KBNet_s",
    ),
    Small(
        "KBNet (l)",
        {"dim": 24, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 1, 2, 2]},
        "KBNet",
        "KBNet_l",
    ),
    Small("LaMa", refused="fills holes: it takes a mask beside the picture"),
    Small("MixDehazeNet", {"embed_dims": [8, 16, 24, 16, 8], "depths": [1, 1, 1, 1, 1]}),
    Small(
        "MMRealSR",
        {
            "num_in_ch": 3,
            "num_out_ch": 3,
            "scale": 4,
            "num_feat": 16,
            "num_block": 2,
            "num_grow_ch": 8,
            "num_feats": [16, 16, 16, 16],
            "num_blocks": [1, 1, 1, 1],
        },
    ),
    Small("MoESR", {"scale": 2, "dim": 16, "n_blocks": 2, "n_block": 2, "upsample_dim": 16}),
    Small("MoSR", {"upscale": 2, "n_block": 2, "dim": 16}),
    Small(
        "NAFNet",
        {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    ),
    Small("OmniSR", {"num_feat": 16, "block_num": 1, "res_num": 2, "up_scale": 2}),
    Small("PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    Small(
        "RealPLKSR",
        {"dim": 16, "n_blocks": 2, "upscaling_factor": 2},
        "PLKSR",
        "RealPLKSR",
    ),
    Small(
        "RealPLKSR (dysample)",
        {"dim": 16, "n_blocks": 2, "upscaling_factor": 2, "dysample": True},
        "PLKSR",
        "RealPLKSR",
    ),
    Small("RCAN", {"scale": 2, "n_resgroups": 2, "n_resblocks": 2, "n_feats": 16, "reduction": 4}),
    Small("Real-CUGAN 2x", {}, "RealCUGAN", "UpCunet2x"),
    Small("Real-CUGAN 3x", {}, "RealCUGAN", "UpCunet3x"),
    Small("Real-CUGAN 4x", {}, "RealCUGAN", "UpCunet4x"),
    Small(
        "RestoreFormer",
        {"n_embed": 64, "embed_dim": 64, "z_channels": 32, "ch": 32} | {"num_res_blocks": 1},
    ),
    Small("RetinexFormer", {"n_feat": 8, "stage": 1}),
    Small(
        "RGT",
        {"embed_dim": 64, "depth": [2], "num_heads": [2], "mlp_ratio": 2.0, "upscale": 2}
        | {"split_size": [8, 8]},
    ),
    Small("SAFMN", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    Small("SAFMN BCIE", {"dim": 16, "n_blocks": 2, "num_layers": 2}, "SAFMNBCIE"),
    Small("SCUNet", {"config": [2, 1, 1, 1, 1, 1, 1], "dim": 64}),
    Small("SeemoRe", {"scale": 2, "num_experts": 3, "num_layers": 2, "embedding_dim": 16}),
    Small("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2}),
    Small("Swift-SRGAN", {"num_channels": 16, "num_blocks": 2, "upscale_factor": 2}, "SwiftSRGAN"),
    Small("Swin2SR", {**_WINDOWS, "window_size": 8}),
    Small("SwinIR", {**_WINDOWS, "window_size": 8}),
    Small(
        "SwinIR (light)",
        {**_WINDOWS, "window_size": 8, "upsampler": "pixelshuffledirect"},
        "SwinIR",
    ),
    Small(
        "Uformer",
        {"img_size": 128, "embed_dim": 8, "depths": [2, 1, 1, 1, 1, 1, 1, 1, 2]}
        | {"num_heads": [1, 1, 2, 2, 2, 2, 2, 1, 1]},
    ),
)
"""Every architecture of spandrel 0.4.2, and the forms of those with several."""
