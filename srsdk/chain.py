"""Run several models one after the other as a single model, such as a restorer before upscalers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Unpack, cast

from srsdk import models
from srsdk.errors import ModelError, UsageError
from srsdk.options import UpscalerOptions
from srsdk.scheduling import callbacks
from srsdk.scheduling.futures import Workers
from srsdk.upscaler import Upscaler
from srsdk.upscaling.base import BaseUpscaler
from srsdk.upscaling.steps import MAX_FACTOR, Step


class Restorer(Upscaler):
    """An `Upscaler` for x1 models that remove noise and JPEG artifacts, such as `ae_x1`.

    Arguments and errors are those of `Upscaler`, plus:

    Raises:
        ModelError: the model enlarges.
    """

    def __init__(self, model: str | os.PathLike[str], **options: Unpack[UpscalerOptions]) -> None:
        super().__init__(model, **options)
        if self.scale != 1:
            name, scale = self.manifest.name, self.scale
            self.close()
            raise ModelError(f"{name} enlarges {scale} times, expected an x1 restoration model")


class Chain(BaseUpscaler):
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
        for model in cast("tuple[object, ...]", models):
            if not isinstance(model, Upscaler):
                got = f"srsdk.Upscaler({model!r})" if isinstance(model, str) else "an Upscaler"
                raise UsageError(f"a Chain is made of open models, got {model!r}: pass {got}")
        self._models = models
        self.budget = models[0].budget
        self._workers = Workers(max(model.ahead for model in models))
        if self.scale > MAX_FACTOR:
            raise UsageError(f"the models enlarge {self.scale} times in total, at most 16")

    @classmethod
    def of(cls, kind: str = "photo", scale: int = 4, **options: Unpack[UpscalerOptions]) -> Chain:
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

    def close(self) -> None:
        """Close all models; safe to call again.

        Raises:
            UsageError: in a callback of one of them; nothing is closed.
        """
        callbacks.check_close(*self._owners)
        self._workers.close()
        for model in self._models:
            model.close()

    def __repr__(self) -> str:
        return f"<Chain x{self.scale} of {', '.join(map(repr, self._models))}>"

    @property
    def _steps(self) -> tuple[Step, ...]:
        return tuple(model.step for model in self._models)

    @property
    def _owners(self) -> tuple[Workers, ...]:
        return (self._workers, *(model._workers for model in self._models))

    def _check_open(self) -> None:
        for model in self._models:
            model._check_open()
