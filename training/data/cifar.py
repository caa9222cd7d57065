"""CIFAR-10's python batches (Krizhevsky 2009): 32x32 pictures in pickled dicts.

A pickle can run any code, so these are read with an unpickler that accepts numpy arrays only.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.pictures import DataError
from training.data.resize import Picture

SIDE_PX = 32
ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a CIFAR-10 batch")
        # numpy renamed its internals in version 2; the files keep the old name
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def find_batches(folder: Path) -> list[Path]:
    """Return the training batches `data_batch_*` in `folder`, sorted, without the test batch."""
    return sorted(path for path in folder.glob("data_batch_*") if path.is_file())


def read(files: Sequence[Path], *, min_px: int = 1) -> Iterator[tuple[str, Picture]]:
    """Yield all pictures, (32, 32, 3) uint8 RGB, with the names `data_batch_1/0` and so on.

    Raises:
        DataError: a file is not such a batch, or the pictures are too small for the recipe.
    """
    if min_px > SIDE_PX:
        raise DataError(f"{files[0].parent}: CIFAR-10 is 32x32, the recipe needs {min_px} px")
    for path in files:
        try:
            with path.open("rb") as file:
                table = _ArraysOnly(file, encoding="bytes").load()
            rows = np.asarray(table[b"data"], np.uint8).reshape(-1, 3, SIDE_PX, SIDE_PX)
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a CIFAR-10 python batch: {error}") from error
        for number, planes in enumerate(rows):
            yield f"{path.name}/{number}", planes.transpose(1, 2, 0)
