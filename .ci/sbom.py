"""Write the bill of materials of the wheel: `python .ci/sbom.py` (CycloneDX 1.6, JSON).

It lists the model files in the wheel, with their SHA-256 and license, and the packages that
`srsdk[cpu]` was tested with. The wheel carries it (PEP 770); a test compares it with what is there.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / ".ci" / "srsdk.cdx.json"
NAMESPACE = uuid.UUID("6f2f1e2c-6c7e-5f6b-9a55-8a4d3f1c9b10")

sys.path.insert(0, str(ROOT))

from srsdk import __version__  # noqa: E402 - the checkout's own
from srsdk.manifest import read_manifest  # noqa: E402


def bill() -> dict[str, Any]:
    """Return the document; equal contents give equal documents."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    models = [_model(path) for path in sorted((ROOT / "srsdk" / "models").glob("*.onnx"))]
    packages = _packages((ROOT / ".ci" / "requirements-cpu.txt").read_text(encoding="ascii"))
    own = f"pkg:pypi/{project['name']}@{__version__}"
    content = [*models, *packages]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, __version__ + digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": project["name"],
                "version": __version__,
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": own,
            }
        },
        "components": content,
        "dependencies": [{"ref": own, "dependsOn": [each["bom-ref"] for each in content]}],
    }


def _model(path: Path) -> dict[str, Any]:
    manifest = read_manifest(path)
    assert manifest is not None, path
    license_ = {"name": manifest.licence} if manifest.licence else {"name": "unknown"}
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{path.name}",
        "name": path.name,
        "version": __version__,
        "hashes": [_sha256(hashlib.sha256(path.read_bytes()).hexdigest())],
        "licenses": [{"license": license_}],
    }


def _packages(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([\w.!+]+)", line)
        if match is None:
            continue
        name, version = match.groups()
        purl = f"pkg:pypi/{name}@{version}"
        # the hashes are those of its wheels, of which an environment has one
        references = [
            {"type": "distribution", "url": purl, "hashes": [_sha256(value)]}
            for value in re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
        ]
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
                "externalReferences": references,
            }
        )
    return found


def _sha256(value: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": value}


if __name__ == "__main__":
    TARGET.write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {TARGET.relative_to(ROOT)}\n")
