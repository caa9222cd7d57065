"""Run several models one after the other as a single model, such as a restorer before upscalers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from srsdk import models
from srsdk.errors import ModelError, UsageError
from srsdk.options import PictureOptions
from srsdk.scheduling import callbacks
from srsdk.scheduling.context import Call, Progress
from srsdk.upscaler import Upscaler
from srsdk.upscaling import files
from srsdk.upscaling.steps import MAX_FACTOR, Step, factor_of


class Restorer(Upscaler):
    """An `Upscaler` for x1 models that remove noise and JPEG artifacts, such as `ae_x1`.

    Arguments and errors are those of `Upscaler`, plus:

    Raises:
        ModelError: the model enlarges.
    """

    def __init__(self, model: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(model, **options)
        if self.scale != 1:
            name, scale = self.manifest.name, self.scale
            self.close()
            raise ModelError(f"{name} enlarges {scale} times, expected an x1 restoration model")


class Chain:
    """Models that run one after the other on each picture: restore first, then enlarge.

    `Chain(Restorer("ae_x1"), Upscaler("gan_x4"), Upscaler("gan_x2"))` enlarges 8 times. No
    intermediate file is written. It takes the same pictures as an `Upscaler`.

    Args:
        models: open models; the budget is that of the first. `close()` or the `with` statement
            closes them all.

    Raises:
        UsageError: no model, or a total scale above 16.
    """

    def __init__(self, *models: Upscaler) -> None:
        if not models:
            raise UsageError("a Chain needs at least one model")
        self._models = models
        if self.scale > MAX_FACTOR:
            raise UsageError(f"the models enlarge {self.scale} times in total, at most 16")

    @classmethod
    def of(cls, kind: str = "photo", scale: int = 4, **options: Any) -> Chain:
        """Open the shipped models recommended for a kind of picture.

        Args:
            kind: `photo`, `compressed`, `realworld` or `drawing` (see `srsdk.models.DEFAULTS`).
            scale: output size over input size.
            options: passed to each `Upscaler`.

        Raises:
            UsageError: an unknown kind, or a scale that no model of this kind has.
        """
        with ExitStack() as opened:
            names = models.chain(kind, scale)
            chain = cls(*[opened.enter_context(Upscaler(name, **options)) for name in names])
            opened.pop_all()  # all are open: the chain closes them
        return chain

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return factor_of(self._steps)

    @property
    def name(self) -> str:
        """Names of the models, joined by ` + `."""
        return " + ".join(step.name for step in self._steps)

    def __call__(
        self,
        picture: Any,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Upscale one picture; see `Upscaler` for arguments, result and errors."""
        return files.upscale_any(self._steps, picture, options, self._call(progress, timeout))

    def upscale_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        options: PictureOptions | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Upscale a file into another file; see `Upscaler` for arguments and errors."""
        files.upscale_file(
            self._steps,
            Path(source),
            Path(target),
            options=options,
            overwrite=overwrite,
            call=self._call(progress, timeout),
        )

    @property
    def ahead(self) -> int:
        """Number of pictures to upscale at the same time to keep the machine busy."""
        return max(model.ahead for model in self._models)

    def close(self) -> None:
        """Close all models; safe to call again.

        Raises:
            UsageError: in a callback of one of them; nothing is closed.
        """
        callbacks.check_close(*(model._workers for model in self._models))
        for model in self._models:
            model.close()

    def __enter__(self) -> Chain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Chain x{self.scale} of {', '.join(map(repr, self._models))}>"

    def _call(self, progress: Progress | None, timeout: float | None) -> Call:
        owners = [model._workers for model in self._models]
        callbacks.check_call(*owners)
        return Call(callbacks.marked(progress, *owners), timeout, self._models[0].budget)

    @property
    def _steps(self) -> tuple[Step, ...]:
        return tuple(model.step for model in self._models)
