"""Seed inputs and dictionary words for fuzzing."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, get_type_hints

from srsdk import models
from srsdk.manifest import METADATA_KEY, Manifest, read_manifest
from srsdk.system import durable
from tests import networks
from tests.fuzz import picture_seeds
from training.recipe.schema import Recipe

COMMAND_LINES = (
    "upscale a.png b -o out --scale 2.5 --width 9000 --fit cover --quality keep --force -r",
    "upscale a.png -o b.webp --quality lossless --max-memory 1.5GB --max-pixels 7 --tile 64x96",
    "upscale s3://a -o s3://b --ray auto --workers 3 --cpus-per-worker 0.5 --batch 2",
    "video a.mkv b.mkv --codec libx265 --crf 20 --preset veryfast --resume --threads 2",
    "compare a.png b.png -o c.html --force",
    "demo --port 7861 --model gan_x2",
    "info gan_x4 --json",
    "tune gan_x4",
    "doctor --json",
    "--version",
    "-v upscale --help",
)
CLIPS = (
    *(("a.mkv", "libx264", "yuv420p"), ("a.mp4", "libx264", "yuv420p")),
    *(("a.ts", "libx264", "yuv420p"), ("a.mkv", "libx265", "yuv420p10le")),
    *(("b.mp4", "mpeg4", "yuv420p"), ("a.webm", "libvpx", "yuv420p"), ("a.flv", "flv", "yuv420p")),
    *(("a.mov", "mjpeg", "yuvj420p"), ("a.nut", "ffv1", "yuv420p"), ("a.avi", "ffv1", "yuv420p")),
)
"""Name, codec, pixel format."""
PLAYLISTS = (
    b"ffconcat version 1.0\nfile source\nduration 1\n",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
)
"""Text that FFmpeg takes for a video: it may name other files."""
REQUESTS = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:7860\r\nAccept: image/webp;q=0.5, image/jpeg\r\n\r\n",
    b"POST /x/info HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: [::1]:7860\r\nOrigin: http://[::1]:7860\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n"
    b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\r\n",
    b"GET /gradio_api/file=%2e%2e/a HTTP/1.1\r\nHost: localhost:7860\r\n\r\n",
    b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost:7860\r\nContent-Length: 9\r\n\r\n"
    b'{"data": [{"path": "/a", "meta": {}}, [null, 1.5]], "session_hash": "x"}',
    b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost:7860\r\n\r\n--x\r\n",
    b"POST /?format=avif&quality=9&scale=1.5&fit=cover HTTP/1.1\r\nHost: localhost\r\n"
    b"content-type: multipart/form-data; boundary=x\r\n\r\n"
    b'--x\r\nContent-Disposition: form-data; name="width"\r\n\r\n9\r\n'
    b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nhttp://\r\n--x--\r\n',
)
REPORT = b'{"source": "a.png", "target": "b.png", "status": "failed", "seconds": 1, "error": "e"}\n'


def seeds(target: str) -> list[bytes]:
    """Return valid inputs of a target, and crafted ones."""
    return [*_valid(target), *crafted(target)]


def crafted(target: str) -> list[bytes]:
    """Return inputs that people found, or that are longer than fuzzing would make."""
    digits, text = b"9" * 5000, _manifest().to_json()
    if target == "manifest":
        large = text.replace('"scores":{', '"scores":{"a":{"b":' + "9" * 400 + "},")
        return [b"[" * 3000, b'{"schema":1,"scale":' + digits + b"}", large.encode()]
    if target == "plan":
        return [b"vtrt" + bytes(60) + b'{"schema":' + b"[" * 3900]
    if target == "recipe":
        rate = b"[optimizer]\nlearning_rate = "
        lines = [b"steps = " + digits, rate + digits[:400], rate + b"nan", b"a = " + b"[" * 3000]
        return [b'name = "a"\nscale = 2\n' + line for line in lines]
    if target == "picture":
        return picture_seeds.crafted()
    if target in ("record", "tune"):
        return [digits, b"[" * 7000, b"\xff\xfe", b"NaN", b"1e999", durable.pack(b"[" * 7000)]
    if target == "report":
        return [REPORT * 50, REPORT + REPORT[:40], b"[" * 7000, b'{"source": "' + b"[" * 7000]
    if target == "weights":
        return [(7000).to_bytes(8, "little") + b"[" * 7000]
    if target == "request":
        body = REQUESTS[5].partition(b"{")[0]
        length = REQUESTS[5].replace(b": 9", b": " + digits)
        return [body + b"[" * 7000, length]
    return []


def _valid(target: str) -> list[bytes]:
    found = {
        "manifest": _manifests, "onnx": _graphs, "plan": _plans, "recipe": _recipes,
        "picture": picture_seeds.pictures, "animation": picture_seeds.animations,
        "icon": picture_seeds.icons, "avif": picture_seeds.avifs, "video": _videos,
        "record": _records, "tune": _choices, "report": _reports, "ledger": _ledgers,
        "parts": _parts, "weights": _weights,
        "request": _requests, "command_line": _command_lines,
    }  # fmt: skip
    return found[target]()


def words(target: str) -> list[str]:
    """Return the words of libFuzzer's dictionary for a target."""
    if target in ("manifest", "plan", "onnx"):
        return [f'"{field.name}":' for field in dataclasses.fields(Manifest)]
    if target == "recipe":
        return sorted(_keys(Recipe))
    if target == "weights":
        return [f'"{name}":' for name in (*sorted(_keys(Recipe)), "__metadata__", "facts", "step")]
    if target == "command_line":
        return sorted({word for line in COMMAND_LINES for word in line.split()})
    if target == "request":
        return sorted({word.decode() for text in REQUESTS for word in text.split()})
    if target == "video":
        return ["ftyp", "moov", "trak", "stsd", "avc1", "mdat", "RIFF", "AVI ", "hdrl", "strf"]
    if target in picture_seeds.WORDS:
        return list(picture_seeds.WORDS[target])
    return ["null", "true", "NaN", "1e999", '"path":', '"bytes":', '"sha256":', '"error":']


def _keys(kind: type[Any]) -> set[str]:
    hints = get_type_hints(kind)
    inner = [_keys(hint) for hint in hints.values() if dataclasses.is_dataclass(hint)]  # type: ignore[arg-type]
    return set(hints).union(*inner)


def _manifest() -> Manifest:
    manifest = read_manifest(models.find("gan_x2"))
    assert manifest is not None
    only: dict[str, Any] = {"profiles": ((1, 64, 64),), "size_px": (64, 64)}
    # the probe of the .onnx file has another size
    return dataclasses.replace(manifest, sms=(86, 89), probe=None, **only)


def _manifests() -> list[bytes]:
    return [_manifest().to_json().encode(), json.dumps({"schema": 1, "name": "a"}).encode()]


def _graphs() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        networks.identity(path, metadata={METADATA_KEY: _manifest().to_json()})
        other = networks.nearest(Path(folder) / "other.onnx")
        return [path.read_bytes(), other.read_bytes()]


def _plans() -> list[bytes]:
    text = _manifest().to_json()
    return [b"vtrt" + bytes(range(60)) + text.encode() + bytes(40), b"ptrt" + bytes(80)]


def _recipes() -> list[bytes]:
    recipes = Path(__file__).parents[2] / "training" / "recipes"
    return [path.read_bytes() for path in sorted(recipes.glob("*.toml"))]


def _command_lines() -> list[bytes]:
    return [line.replace(" ", "\0").encode() for line in COMMAND_LINES]


def _videos() -> list[bytes]:
    from tests.srsdk.video.clips import Clip, make

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, codec, pixel) in enumerate(CLIPS):
            clip = Clip(
                2, codec=codec, pixel=pixel, sound=not number, subtitles=False, chapters=not number
            )
            found.append(make(Path(folder) / name, clip).read_bytes())
    return [*found, *picture_seeds.animations()[:1], *PLAYLISTS]


def _records() -> list[bytes]:
    values = [{"a": [1, None, 2.5, "é"]}, [], "text", 0]
    content = [json.dumps(value).encode() for value in values]
    return [*content, *map(durable.pack, content)]


def _choices() -> list[bytes]:
    trial = {"ms": 2.5, "parity_db": 50.5, "passed": True, "why": ""}
    choice = {
        "file": "a.onnx", "precision": "bf16", "name": "bf16", "speed_up": 1.5,
        "tile_budget_px": 9216, "tiles_ms": {"96x96": 4.5},
        "trials": [{"name": "fp32", **trial}, {"name": "bf16", **trial}],
    }  # fmt: skip
    return [json.dumps(choice, indent=1).encode(), json.dumps(choice).encode()]


def _ledgers() -> list[bytes]:
    entry = {
        "source": "a.png", "source_bytes": 3, "source_mtime_ns": 4, "target": "b.png",
        "target_bytes": 5, "target_sha256": "00", "model": "m", "model_sha256": "11",
        "target_mtime_ns": 6,
    }  # fmt: skip
    done = {"source": "a.png", "target": "b.png", "status": "done", "error": "", "seconds": 1.5}
    finished = [{"entry": entry}, {"targets": ["c.png"]}]
    values = (
        finished,
        [{**done, "entry": entry}, done],
        [{"targets": ["b.png"], "alone": {"b": 2}}],
    )
    texts = ["".join(f"{json.dumps(row)}\n" for row in rows).encode() for rows in values]
    return [
        bytes([first + number]) + text for first in (0, 129) for number, text in enumerate(texts)
    ]


def _parts() -> list[bytes]:
    part = {"run": "0" * 64, "part": 0, "frames": 300, "bytes": 4, "sha256": "0" * 64}
    values = ({"source": "a.mkv", "bytes": 3, "model": {"name": "b"}}, part, [[1, 2]], part)
    texts = [json.dumps(value).encode() for value in values]
    return [
        bytes([first + number]) + text for first in (0, 128) for number, text in enumerate(texts)
    ]


def _reports() -> list[bytes]:
    return [REPORT, REPORT * 2, REPORT + REPORT[:30], b"", REPORT[:12], b"photo"]


def _weights() -> list[bytes]:
    from training.checkpoint import SCHEMA
    from training.recipe.schema import read_recipe

    path = Path(__file__).parents[2] / "training" / "recipes"
    recipe = read_recipe(min(path.glob("*.toml"))).to_dict()
    found = []
    for name in ("ema.a", "a"):
        facts = json.dumps({"recipe": recipe, "step": 3})
        tensors = {name: {"dtype": "F16", "shape": [2, 1], "data_offsets": [0, 4]}}
        metadata = {"schema": SCHEMA, "facts": facts}
        head = json.dumps({"__metadata__": metadata, **tensors}).encode()
        found.append(len(head).to_bytes(8, "little") + head + bytes(4))
    return found


def _requests() -> list[bytes]:
    body = picture_seeds.pictures()[0]
    return [*REQUESTS, *(head + body for head in REQUESTS[:1])]
