"""The models that the demo page offers: one file, or those for each kind of picture."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import srsdk
from srsdk import models
from srsdk.budget import INTERRUPTIBLE, Budget
from srsdk.errors import ModelError, UsageError
from srsdk.manifest import read_manifest
from srsdk.options import PictureOptions
from srsdk.serving.answers import MAX_FRAMES, TIMEOUT_S

MAX_RESULT_PX = 160_000_000
"""Largest result: browsers and Pillow's own limit end soon after it."""
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "photo": "photos",
        "compressed": "compressed photos",
        "realworld": "blurred, noisy photos",
        "drawing": "drawings",
    }
)
"""What the kinds of `srsdk.models` are called on the page."""
SCALES = (2, 3, 4)


class Offers:
    """Models by kind of picture, opened when they are first used, and closed with this object.

    Args:
        model: the only one, as for `Upscaler`; None: the shipped ones, for each kind and scale.
        options: passed to each `Upscaler`; `budget` replaces the limits on pictures.

    Raises:
        SrsdkError: the only model, or that for photographs, cannot be opened.
    """

    def __init__(self, model: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._opened: dict[tuple[str, int], Any] = {}
        self._chains: dict[tuple[str, ...], Any] = {}  # by names: several kinds may share a model
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._model = model
        self.is_vae = False
        """Whether it is a `vae`, whose confidence can be shown."""
        if model is None:
            self.kinds, self.scales = dict(KINDS), SCALES
            self._budget_for(max(SCALES))
            self.up(next(iter(KINDS)), max(SCALES))
        else:
            self._open_one(model)

    def _open_one(self, model: str | os.PathLike[str]) -> None:
        path = models.find(model)
        manifest = read_manifest(path)
        scale = manifest.scale if manifest else 4
        self._budget_for(scale)
        self.is_vae = manifest is not None and manifest.family == "vae"
        up = self._stack.enter_context(_upscaler(model, path, self.is_vae, self._options))
        name = up.manifest.name
        # a sampler has one scale
        others = () if self.is_vae else SCALES
        self.kinds, self.scales = {name: name}, tuple(sorted({scale, *others}))
        self._opened = {(name, each): up for each in self.scales}

    def _budget_for(self, scale: int) -> None:
        pixels = MAX_RESULT_PX // scale**2
        budget = Budget(pixels=pixels, seconds=TIMEOUT_S, pages=MAX_FRAMES, formats=INTERRUPTIBLE)
        self._options = {"budget": budget, **self._options}

    @property
    def first(self) -> tuple[str, int]:
        """Kind and scale that the page begins with."""
        if self._model is None:
            return next(iter(self.kinds)), max(self.scales)
        return next((kind, up.scale) for (kind, _), up in self._opened.items())

    @property
    def budget(self) -> Budget:
        """Limits on all pictures together."""
        found: Budget = self._options["budget"]
        return found

    def up(self, kind: str, scale: int) -> Any:
        """Return the open model for a kind of picture, whose own scale may be a larger one.

        Raises:
            UsageError: the page offers no such kind or scale.
            SrsdkError: it cannot be opened.
        """
        if kind not in self.kinds or scale not in self.scales:
            raise UsageError("the page offers no such model or scale; load it again")
        with self._lock:
            if (kind, scale) not in self._opened:
                own = min(each for each in models.DEFAULTS[kind] if each >= scale)
                names = models.chain(kind, own)
                if names not in self._chains:
                    chain = srsdk.Chain.of(kind, own, **self._options)
                    self._chains[names] = self._stack.enter_context(chain)
                self._opened[kind, scale] = self._chains[names]
            return self._opened[kind, scale]

    def upscale(self, kind: str, scale: int, source: Path, target: Path) -> None:
        """Upscale a file into a file that does not exist.

        Raises:
            SrsdkError: as for `up`, and for `Upscaler.upscale_file`.
        """
        up = self.up(kind, scale)
        options = None if scale == up.scale else PictureOptions(scale=scale)
        up.upscale_file(source, target, options=options)

    def close(self) -> None:
        """Close all models."""
        self._stack.close()


def _upscaler(
    model: str | os.PathLike[str], path: Path, is_vae: bool, options: Mapping[str, Any]
) -> Any:
    """Open an Upscaler, or a Sampler for a `vae` file."""
    if not is_vae:
        return srsdk.Upscaler(model, **options)
    if importlib.util.find_spec("srsdk.sampler") is None:
        raise ModelError(f"{path} is a vae, which this version of srsdk cannot run")
    return importlib.import_module("srsdk.sampler").Sampler(model, **options)
