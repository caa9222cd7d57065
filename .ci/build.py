"""Hooks of hatchling: what the wheel carries beyond the package itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


class AbsoluteLinks(MetadataHookInterface):
    """Make the README's relative links absolute, because package indexes show it as well."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description of the package."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        address = metadata["urls"]["Repository"]

        def absolute(match: re.Match[str]) -> str:
            kind = "raw" if match[1] else "blob"
            return f"{match[1]}[{match[2]}]({address}/{kind}/main/{match[3]})"

        parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
        text = "".join(
            part if index % 2 else LINK.sub(absolute, part) for index, part in enumerate(parts)
        )
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class ModelCards(BuildHookInterface):
    """Put the card of each shipped model and their sources into `srsdk/models/cards`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to a wheel; an editable install has them in the checkout."""
        root = Path(self.root)
        # a container is built from the package alone, without the cards
        if version != "standard" or not (root / "training").is_dir():
            return
        files = sorted((root / "srsdk" / "models").glob("*.onnx"))
        names = [f"{model.stem}.md" for model in files if "." not in model.stem]
        for name in (*names, "sources.toml"):
            path = root / "training" / "weights" / name
            build_data["force_include"][str(path)] = f"srsdk/models/cards/{name}"
