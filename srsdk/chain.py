"""Models in a row, as if they were one; and the one that restores before the others enlarge."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from srsdk import files, models
from srsdk.call import Call, Progress
from srsdk.enlarge import MAX_FACTOR, Step, factor_of
from srsdk.errors import ModelError, UsageError
from srsdk.options import PictureOptions
from srsdk.upscaler import Upscaler


class Restorer(Upscaler):
    """A model that repairs noise and JPEG damage and leaves the size as it is, such as `ae_x1`.

    Args and errors are those of `Upscaler`; also:

    Raises:
        ModelError: the model enlarges.
    """

    def __init__(self, model: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(model, **options)
        if self.scale != 1:
            name, scale = self._manifest.name, self.scale
            self.close()
            raise ModelError(f"{name} enlarges {scale} times, expected a model of x1 that restores")


class Chain:
    """Models that run one after the other on every picture: restore first, then enlarge.

    `Chain(Restorer("ae_x1"), Upscaler("gan_x4"), Upscaler("gan_x2"))` enlarges 8 times. Nothing is
    rounded to a file in between. It takes pictures as an `Upscaler` does.

    Args:
        models: open ones. `close()`, or the `with` statement, closes them all.

    Raises:
        UsageError: no model, or together over 16 times.
    """

    def __init__(self, *models: Upscaler) -> None:
        if not models:
            raise UsageError("a Chain needs a model or more")
        self._models = models
        if self.scale > MAX_FACTOR:
            raise UsageError(f"together they enlarge {self.scale} times, at most 16")

    @classmethod
    def of(cls, kind: str = "photo", scale: int = 4, **options: Any) -> Chain:
        """Open the shipped models for a kind of picture.

        Args:
            kind: `photo`, `compressed`, `realworld` or `drawing` (see `srsdk.models.DEFAULTS`).
            scale: output size over input size.
            options: of each `Upscaler`.

        Raises:
            UsageError: another kind, or a scale that no model of the kind has.
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
        """The models' names."""
        return " + ".join(step.name for step in self._steps)

    def __call__(
        self,
        picture: Any,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Upscale one picture; arguments, result and errors are those of `Upscaler`."""
        return files.upscale_any(self._steps, picture, options, Call(progress, timeout))

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
        """Upscale a file into another; arguments and errors are those of `Upscaler`."""
        files.upscale_file(
            self._steps,
            Path(source),
            Path(target),
            options=options,
            overwrite=overwrite,
            call=Call(progress, timeout),
        )

    @property
    def ahead(self) -> int:
        """Pictures that keep the machine busy when they are upscaled at the same time."""
        return max(model.ahead for model in self._models)

    def close(self) -> None:
        """Close all models; harmless when repeated."""
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

    @property
    def _steps(self) -> tuple[Step, ...]:
        return tuple(model.step for model in self._models)
