"""Read plans without TensorRT: the manifest from clear text, the header for diagnostics."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from srsdk import Manifest, ManifestError, ModelError
from srsdk.cli.main import main
from srsdk.formats.tensorrt_plan import MAX_TEXT_BYTES, read_plan_header, read_plan_text
from srsdk.manifest import read_manifest

MANIFEST = Manifest(
    name="toy",
    scale=2,
    channels=3,
    radius_px=5,
    precision="fp16",
    flavour="rtx",
    profiles=((1, 64, 64),),
    library_version="1.7.1.116",
    sms=(86, 89, 120),
    parity_of="graph",
)


def fake_plan(path: Path, text: str, *, before: int = 900, after: int = 5000) -> Path:
    """Write a fake plan of TensorRT for RTX 1.7: header, bytes, name, bytes."""
    size = 64 + before + len(text) + after
    header = struct.pack("<4s12xQ4B4xI28x", b"vtrt", size, 1, 7, 1, 116, 0b011100)
    path.write_bytes(header + bytes(before) + text.encode() + b"\xff{" * (after // 2))
    return path


def test_the_manifest_is_found(tmp_path: Path) -> None:
    """The manifest is found at any offset."""
    for before in (0, 1, 900, 1 << 20):
        path = fake_plan(tmp_path / "a.engine", MANIFEST.to_json(), before=before)
        assert read_manifest(path) == MANIFEST


def test_the_header_is_decoded(tmp_path: Path) -> None:
    """Version, GPU generations and size, as in the bytes of a real plan."""
    header = read_plan_header(fake_plan(tmp_path / "a.engine", MANIFEST.to_json()))
    assert header is not None
    assert header.library_version == "1.7.1.116"
    assert header.sms == (86, 89, 120)
    assert header.size_bytes == (tmp_path / "a.engine").stat().st_size


def test_a_plan_of_somebody_else(tmp_path: Path) -> None:
    """A foreign plan has no manifest, and other flavours have another header."""
    path = fake_plan(tmp_path / "a.engine", "Unnamed Network 0")
    assert read_manifest(path) is None
    path.write_bytes(b"ptrt" + bytes(200))
    assert read_manifest(path) is None
    assert read_plan_header(path) is None


def test_a_plan_that_only_names_itself(tmp_path: Path) -> None:
    """A file with an unknown magic counts as a plan if it carries our manifest."""
    path = tmp_path / "a.engine"
    path.write_bytes(b"????" + bytes(100) + MANIFEST.to_json().encode() + bytes(100))
    assert read_manifest(path) == MANIFEST


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello, this is text", "is not a TensorRT engine: it begins with b'hell'"),
        (b"v", "is not a TensorRT engine"),
    ],
)
def test_no_plan(tmp_path: Path, content: bytes, message: str) -> None:
    """A damaged file raises one sentence that names the file."""
    path = tmp_path / "bad.engine"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        read_manifest(path)
    assert "bad.engine" in str(error.value)


def test_a_manifest_that_is_cut_off(tmp_path: Path) -> None:
    """A manifest longer than a name can be, or truncated with the file, is an error."""
    long = MANIFEST.to_json()[:-1] + ',"licence":"' + "x" * MAX_TEXT_BYTES + '"}'
    for text, after in ((long, 5000), (MANIFEST.to_json()[:-20], 0)):
        with pytest.raises(ManifestError, match="damaged"):
            read_manifest(fake_plan(tmp_path / "a.engine", text, after=after))


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    """The error names the path."""
    (tmp_path / "folder.engine").mkdir()
    with pytest.raises(ModelError, match="is a folder"):
        read_plan_text(tmp_path / "folder.engine")
    with pytest.raises(ModelError, match="no such model file"):
        read_plan_text(tmp_path / "none.engine")


def test_info_shows_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`srsdk info` needs neither a GPU nor TensorRT."""
    path = fake_plan(tmp_path / "a.engine", MANIFEST.to_json())
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "1.7.1.116" in shown
    assert "(86, 89, 120)" in shown
    assert "plan header: sms" in shown
    assert main(["info", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["plan"]["sms"] == [86, 89, 120]
    assert values["precision"] == "fp16"
    fake_plan(path, "Unnamed Network 0")
    assert main(["info", str(path)]) == 1
    assert "carries no manifest" in capsys.readouterr().err
