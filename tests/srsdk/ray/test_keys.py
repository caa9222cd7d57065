"""What the ledger records of a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import srsdk
from srsdk import models
from srsdk.ray.callables import key_of, sha256_of


def test_one_key_means_one_result(tmp_path: Path) -> None:
    """It changes with the precision, and with the INT8 file that `auto` may open."""
    float32, int8 = models.find("gan_x2"), models.find("gan_x2.int8")
    assert key_of(float32) == key_of("gan_x2", "fp32") == sha256_of("gan_x2")
    assert key_of("gan_x2.int8") == key_of(int8) == sha256_of(int8)
    keys = [key_of("gan_x2", precision) for precision in ("auto", "fp32", "bf16", "int8")]
    assert len(set(keys)) == 4
    alone = shutil.copy(float32, tmp_path)
    assert key_of(alone) == sha256_of("gan_x2")
    with pytest.raises(srsdk.ModelError, match="not a shipped model"):
        key_of("nothing")
