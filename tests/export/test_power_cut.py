"""Power cuts while exported files get their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import srsdk
from export.hashing import file_sha256
from export.options import Artifact
from export.pipeline import _up_to_date
from srsdk.formats.tensorrt_plan import hash_file
from tests.powercut.disk import Tree
from tests.powercut.testing import every_cut, needs_strace, recorded

PUBLISHING = """
import sys
from pathlib import Path
from export.targets.atomic_output import Staging

disk = Path(sys.argv[1])
with Staging() as staging:
    for name in ("a.engine", "b.engine"):
        staging.path(disk / name).write_text(f"engine {name}")
        staging.path(disk / f"{name}.sha256").write_text(f"hash {name}")
    staging.publish()
print("written", flush=True)
"""


def visible(tree: Tree) -> dict[str, bytes]:
    """Return the files without those of hidden files and folders."""
    shown = {path: data for path, data in tree.items() if data is not None}
    return {path: data for path, data in shown.items() if not path.startswith(".")}


@needs_strace
def test_files_with_final_names_are_complete(tmp_path: Path) -> None:
    """No file is damaged, no engine is without its hash, and none is missing once written."""
    whole = {
        f"{name}.engine{suffix}": f"{kind} {name}.engine".encode()
        for name in "ab"
        for suffix, kind in (("", "engine"), (".sha256", "hash"))
    }
    counts = set()
    for said, tree in every_cut(recorded(PUBLISHING, tmp_path)):
        found = visible(tree)
        counts.add(len(found))
        assert found.items() <= whole.items()
        assert all(f"{name}.sha256" in found for name in found if name.endswith(".engine"))
        assert found == whole or "written" not in said
    assert counts == {0, 1, 2, 3, 4}


REPLACING = """
import sys
from pathlib import Path
from export.options import Options
from export.targets.triton import write_repository
from tests.export.targets.test_triton import plan_of

disk = Path(sys.argv[1])
made = plan_of(disk, "tensorrt", [(1, 24, 32)])
for content in (b"plan", b"another plan"):
    made.artifact.path.write_bytes(content)
    write_repository([made], disk / "repo", Options(data=Path(DATA)), force=True)
    print("wrote", content.decode(), flush=True)
"""


@needs_strace
def test_a_triton_model_is_complete_or_absent(drawn: Path, tmp_path: Path) -> None:
    """There is one whole model, or none between the two renames that replace it."""
    script = REPLACING.replace("DATA", repr(str(drawn)))
    model, files = "repo/toy_fp16/1/model.plan", 4
    for said, tree in every_cut(recorded(script, tmp_path), seeds=1):
        shown = visible(tree).items()
        found = {path: data for path, data in shown if path.startswith("repo/toy_fp16/")}
        assert len(found) in (0, files)
        if found:
            assert all(found.values())
            assert found[model] in (b"plan", b"another plan")
        if "another" in said:
            assert found[model] == b"another plan"


def test_an_engine_without_its_hash_is_not_up_to_date(tmp_path: Path) -> None:
    """The runtime refuses it; `--force` makes it again."""
    path = tmp_path / "toy.engine"
    manifest = replace(srsdk.Manifest(name="toy", scale=2, channels=3, radius_px=5), build_key="k")
    path.write_bytes(b"ptrt" + bytes(60) + manifest.to_json().encode() + bytes(40))
    artifact = Artifact(path, "fp16", "tensorrt")
    assert _up_to_date([artifact], "k") == []
    hash_file(path).write_text(f"{file_sha256(path)}  toy.engine\n", newline="")
    assert [made.artifact for made in _up_to_date([artifact], "k")] == [artifact]
    hash_file(path).write_text(f"{'0' * 64}  toy.engine\n", newline="")
    assert _up_to_date([artifact], "k") == []
