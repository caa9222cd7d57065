"""`BaseUpscaler`: pictures and files through one model, or several in a row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self, overload

import numpy.typing as npt
from PIL import Image

from srsdk.errors import UsageError
from srsdk.image.arrays import Array
from srsdk.image.streams import Encoded, Target, source_of, target_of
from srsdk.options import PictureOptions, check_inputs
from srsdk.scheduling import callbacks
from srsdk.scheduling.context import Call, Progress
from srsdk.upscaling import files
from srsdk.upscaling.background import Background, D, Picture
from srsdk.upscaling.steps import Step, factor_of


class BaseUpscaler(Background):
    """What `Upscaler`, `Restorer`, `Sampler` and `Chain` have in common."""

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return factor_of(self._steps)

    @property
    def name(self) -> str:
        """Name of the model; of several, their names joined by ` + `."""
        return " + ".join(step.name for step in self._steps)

    @overload
    def __call__(
        self,
        picture: Image.Image,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Image.Image: ...
    @overload
    def __call__(
        self,
        picture: npt.NDArray[D],
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> npt.NDArray[D]: ...
    @overload
    def __call__(
        self,
        picture: Encoded,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Array: ...
    @overload
    def __call__(
        self,
        picture: Picture,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Array | Image.Image: ...

    def __call__(
        self,
        picture: Any,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Any:
        """Upscale one picture.

        Args:
            picture: (H, W, 3) RGB array, or (H, W) gray, or (H, W, 4) with alpha, of uint8, uint16
                or float32 (0..1); a PIL image; or a picture file: its path, its bytes, or an open
                binary file, which is read from its start.
            options: size of the result, order of the channels, and how alpha is treated.
            progress: called with (tiles done, tiles in all); an exception from it cancels the call.
            timeout: seconds; checked before each tile.
            inputs: numbers that a model takes beside the picture, such as `noise=15`; their names,
                defaults and ranges are in its manifest (`inputs`, `input_ranges`).
                `options.inputs` gives them where there are no keywords: to files, streams and
                futures.

        Returns:
            For an array one of the same dtype and channels, `scale` times as high and wide. For a
            PIL image an upright one with the ICC profile, EXIF, XMP and resolution in its `info`.
            For a picture file an array as deep as the file: (H, W) gray, (H, W, 2) gray with
            alpha, (H, W, 3) RGB or (H, W, 4) RGB with alpha.

        Raises:
            PictureError: not a picture that can be upscaled.
            UsageError: an argument that can never work.
            HealthError: the result cannot be right.
            BackendError: the backend failed, or this is closed or of another process.
            DeadlineExceeded: `timeout` has passed.
        """
        call = self._begin(options, progress, timeout)
        self._give(inputs, call)
        return self._serve(picture, options, call)

    def upscale_file(
        self,
        source: Encoded,
        target: Target,
        *,
        options: PictureOptions | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Upscale a picture file into another, with its metadata.

        Args:
            source: a path, the bytes of a picture file, or an open binary file.
            target: a path, whose suffix names the format; or a binary file that is open for
                writing, with its format in `options`: `PictureOptions(format="png")`.
            options: size, alpha and encoding of the result.
            overwrite: replace the file at the target's path.
            progress: as for a call.
            timeout: as for a call.

        A target at a path appears whole or not at all; into an open file, the result is written at
        the end. docs/pictures.md lists the metadata that is kept.

        Raises:
            PictureError: the source is missing, damaged, unsupported or too large.
            OutputError: the target exists (unless `overwrite`) or cannot be written.
            UsageError, HealthError, BackendError, DeadlineExceeded: as for a call.
        """
        call = self._begin(options, progress, timeout)
        self._serve_file(source, target, options, overwrite, call)

    @abstractmethod
    def close(self) -> None:
        """Release everything; a later call raises `BackendError`. Harmless when repeated.

        Running jobs finish; queued jobs are cancelled.

        Raises:
            UsageError: in a callback of this object; nothing is closed.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(
        self, options: PictureOptions | None, progress: Progress | None, timeout: float | None
    ) -> Call:
        call = super()._call(options, progress, timeout)
        if options is not None and options.inputs:
            call.inputs = self._known(options.inputs)
        return call

    def _give(self, inputs: Mapping[str, float], call: Call) -> None:
        if inputs:
            call.inputs = {**call.inputs, **self._known(inputs)}

    def _known(self, inputs: Mapping[str, float]) -> Mapping[str, float]:
        """Return numbers for the networks, if these take them.

        Raises:
            UsageError: a name that no network has, what is not a finite number, or a number that
                the network has not learned.
        """
        known = [name for step in self._steps for name in step.inputs]
        for name in inputs:
            if name not in known:
                takes = f"takes {', '.join(known)}" if known else "takes a picture alone"
                raise UsageError(f"{self.name} has no input {name!r}: it {takes}")
        check_inputs(inputs)
        for step in self._steps:
            for name, (low, high) in step.input_ranges.items():
                if name in inputs and not low <= inputs[name] <= high:
                    raise UsageError(
                        f"input {name} is {inputs[name]:g}, expected {low:g} to {high:g}: "
                        f"{step.name} has learned no other"
                    )
        return dict(inputs)

    @property
    @abstractmethod
    def _steps(self) -> tuple[Step, ...]:
        """The models in the order in which they run."""

    def _serve(self, picture: Any, options: PictureOptions | None, call: Call) -> Any:
        return files.upscale_any(self._steps, picture, options, call)

    def _serve_file(
        self,
        source: Any,
        target: Target,
        options: PictureOptions | None,
        overwrite: bool,
        call: Call,
    ) -> None:
        place = target_of(target, options.format if options is not None else None)
        files.upscale_file(
            self._steps, source_of(source), place, options=options, overwrite=overwrite, call=call
        )

    def _begin(
        self, options: PictureOptions | None, progress: Progress | None, timeout: float | None
    ) -> Call:
        """Begin a call that this thread waits for.

        Raises:
            UsageError: in a progress callback of the same object, or not an argument of its kind.
        """
        callbacks.check_call(*self._owners)
        return self._call(options, progress, timeout)
