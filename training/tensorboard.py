"""Write TensorBoard logs: losses, scores and sample pictures; an optional extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from training.data.pictures import Pair
from training.data.resize import Picture
from training.evaluation.evaluate import Score, bicubic, network

SAMPLES = 3
"""Number of pictures shown at every evaluation."""
SIDE_PX = 256
"""Side of the square shown of each picture."""


class BoardError(ValueError):
    """TensorBoard was requested but is not installed."""


class Board:
    """Writes to a folder that `tensorboard --logdir` reads."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise BoardError('--tensorboard needs: pip install "srsdk[tensorboard]"') from error
        self._writer: Any = SummaryWriter(str(folder))

    def add(
        self,
        step: int,
        losses: Mapping[str, float],
        scores: Mapping[str, Score],
        net: nn.Module,
        pairs: Sequence[Pair],
    ) -> None:
        """Log one evaluation: numbers, and bicubic, network and truth side by side."""
        for name, value in losses.items():
            self._writer.add_scalar(f"loss/{name}", value, step)
        for name, result in scores.items():
            self._writer.add_scalar(f"psnr_y_db/{name}", result.psnr_y_db, step)
            self._writer.add_scalar(f"ssim_y/{name}", result.ssim_y, step)
        for number, pair in enumerate(pairs[:SAMPLES]):
            self._writer.add_image(f"sample/{number}", _row(net, pair), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the log."""
        self._writer.close()


def _row(net: nn.Module, pair: Pair) -> Picture:
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    side = max(1, SIDE_PX // scale)
    lr, hr = pair.lr[:side, :side], pair.hr[: side * scale, : side * scale]
    return np.concatenate([bicubic(scale)(lr), network(net)(lr), hr], axis=1)
