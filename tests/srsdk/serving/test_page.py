"""What the demo page answers to requests that its own form does not make. Needs Gradio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from srsdk.serving.offers import Offers
from srsdk.serving.page import Page
from srsdk.serving.uploads import Folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_others_send(tmp_path: Path) -> None:
    """A model or scale that the page does not offer, and a file that has gone: one sentence."""
    gradio = pytest.importorskip("gradio", reason="needs srsdk[demo]: pip install 'srsdk[demo]'")
    offers = Offers("gan_x2", {})
    page = Page(gradio, offers, Folder(tmp_path))
    try:
        wrong: list[tuple[Any, Any]] = [("photo", 2), ("gan_x2", 7), ("../x", 2), (None, None)]
        for kind, scale in wrong:
            *_, message, _, _ = page._example(kind, scale)
            assert "offers no such model or scale" in message
        *_, message, _ = page._uploaded("gan_x2", 2, {"path": "/etc/passwd"})
        assert "no longer here" in message
        *_, message, _ = page._again("gan_x2", 2, None)
        assert "click the example" in message
    finally:
        offers.close()
