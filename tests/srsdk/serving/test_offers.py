"""The models that the demo page offers."""

from __future__ import annotations

from srsdk.serving.offers import Offers


def test_kinds_with_the_same_model_share_it() -> None:
    """Photographs and drawings, and a scale that is reached by reducing; others have their own."""
    offers = Offers(None, {"backend": "onnxruntime"})
    try:
        photo = offers.up("photo", 4)
        assert offers.up("drawing", 4) is photo
        assert offers.up("photo", 3) is photo
        assert offers.up("photo", 2) is not photo
    finally:
        offers.close()
