"""The programs in examples/ run, and type checkers accept them and refuse wrong calls."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from tests.conftest import make_picture
from tests.test_examples import load

PROGRAMS = (
    *("deadline", "fastapi_upload", "file_to_file", "mixed_batch", "numpy_array", "opencv_bgr"),
    *("pillow_image", "progress_and_cancel", "pyav_video", "thread_pool", "torch_tensor"),
)
WRONG = """
import numpy as np
import srsdk

up = srsdk.Upscaler("gan_x4", precision="int9")
srsdk.Upscaler("gan_x4", optimise="latency")
srsdk.Chain.of("photo", 4, backend="cpu")
srsdk.PictureOptions(order="gbr")
up(3)
up.submit("a.png", overwrite=True)
srsdk.models.found("gan_x4")
image: str = up(np.zeros((4, 4, 3), np.uint8))
"""
RIGHT = '''
from pathlib import Path
from typing import Any, assert_type
import io

import numpy as np
import numpy.typing as npt
from PIL import Image
import srsdk

up: srsdk.BaseUpscaler = srsdk.Chain.of("compressed", 4, precision="int8", threads=2)
bytes8 = np.zeros((4, 4, 3), np.uint8)
assert_type(up(bytes8), npt.NDArray[np.uint8])
assert_type(up(np.zeros((4, 4), np.float32)), npt.NDArray[np.float32])
assert_type(up(Image.new("RGB", (4, 4))), Image.Image)
assert_type(up(Path("a.png")), npt.NDArray[Any])
assert_type(up(io.BytesIO(b"")), npt.NDArray[Any])
assert_type(up.submit(bytes8).result(), npt.NDArray[np.uint8])
assert_type(up.batch([bytes8]), list[npt.NDArray[np.uint8]])
several: list[srsdk.Picture] = [bytes8, Image.new("RGB", (4, 4)), "a.png"]
assert_type(up.batch(several), list[npt.NDArray[Any] | Image.Image])
assert_type(srsdk.models.find("gan_x4"), Path)
assert_type(srsdk.list_models()[0].precisions, tuple[str, ...])


async def later() -> None:
    """Await both."""
    assert_type(await up.aupscale(bytes8), npt.NDArray[np.uint8])
    await up.aupscale_file(b"", io.BytesIO(), options=srsdk.PictureOptions(format="png"))
'''


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG with a resolution."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(make_picture(24, 32)).save(path, dpi=(300, 300))
    return path


def run(repository: Path, name: str, *arguments: object) -> str:
    """Run a program in its own process; return what it prints."""
    script = repository / "examples" / f"{name}.py"
    call = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=True, timeout=200).stdout


def test_array_batch_and_tensor(repository: Path, photo: Path) -> None:
    """NumPy, Pillow and files in one batch, and PyTorch."""
    assert run(repository, "numpy_array") == "(48, 64, 3) -> (192, 256, 3) uint8\n"
    assert run(repository, "mixed_batch", photo).splitlines() == [
        *("array uint8 (80, 120)", "image RGBA (120, 80)", "array uint8 (96, 128, 3)"),
        "streamed (96, 128, 3)",
    ]
    pytest.importorskip("torch")
    assert run(repository, "torch_tensor").startswith("(3, 80, 120)")


def test_files_and_images(repository: Path, photo: Path, tmp_path: Path) -> None:
    """The results are those of the library, with the metadata."""
    run(repository, "pillow_image", photo, tmp_path / "a.jpg")
    run(repository, "file_to_file", photo, tmp_path / "b.png", 100)
    printed = run(repository, "thread_pool", tmp_path, photo, tmp_path / "none.png")
    assert printed.splitlines()[0] == "photo.jpg: done"
    assert "none.png: no such file" in printed.splitlines()[1]
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.size, image.info["dpi"]) == ((128, 96), (300, 300))
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (100, 75)
    with srsdk.Upscaler("gan_x2") as up, Image.open(tmp_path / "photo_x2.png") as image:
        assert np.array_equal(np.asarray(image), up(photo))


def test_time(repository: Path, photo: Path) -> None:
    """Progress ends with a cancellation; a deadline that is too short ends with the faster one."""
    Image.fromarray(make_picture(300, 300)).save(photo)
    printed = run(repository, "progress_and_cancel", photo).splitlines()
    assert printed[0].endswith(" %")
    assert printed[-1] == "cancelled"
    assert run(repository, "deadline", photo, 1e-6).splitlines()[-1] == "gan_x4: (1200, 1200, 3)"
    assert run(repository, "deadline", photo, 100) == "gan_x4_quality: (1200, 1200, 3)\n"


def test_video(repository: Path, tmp_path: Path) -> None:
    """A clip of five frames becomes one of five frames, twice as large."""
    av = pytest.importorskip("av", reason="PyAV is in srsdk[video]")

    with av.open(str(tmp_path / "a.mkv"), "w") as clip:
        stream = clip.add_stream("ffv1", rate=25)
        stream.height, stream.width = 32, 48
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(make_picture(32, 48, seed=index), format="rgb24")
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode(None))
    run(repository, "pyav_video", tmp_path / "a.mkv", tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as clip:
        frames = list(clip.decode(video=0))
    assert [(frame.height, frame.width) for frame in frames] == [(64, 96)] * 5


def test_opencv(repository: Path, photo: Path, tmp_path: Path) -> None:
    """What OpenCV writes is what srsdk writes."""
    pytest.importorskip("cv2", reason="OpenCV is in srsdk[peers] only")
    run(repository, "opencv_bgr", photo, tmp_path / "a.png")
    with srsdk.Upscaler("gan_x4") as up, Image.open(tmp_path / "a.png") as image:
        assert np.abs(np.asarray(image).astype(int) - up(photo)).max() <= 1


def test_fastapi(repository: Path) -> None:
    """An upload is answered with a PNG; a bad one with 422 and the sentence."""
    testclient = pytest.importorskip("fastapi.testclient", reason="FastAPI is in srsdk[http]")
    program = load(repository, "fastapi_upload")
    file = io.BytesIO()
    Image.fromarray(make_picture(12, 16)).save(file, "PNG")
    with testclient.TestClient(program.app) as client:
        answer = client.post("/upscale", files={"image": ("a.png", file.getvalue())})
        assert answer.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(answer.content)) as large:
            assert large.size == (64, 48)
        refused = client.post("/upscale", files={"image": ("a.png", b"no picture")})
        assert refused.status_code == 422
        assert "is not a picture" in refused.json()["detail"]


@pytest.fixture
def checked(repository: Path, tmp_path: Path) -> Any:
    """Return a function that checks a text with mypy or pyright, and returns lines and output."""

    def check(tool: str, text: str) -> tuple[int, str]:
        (tmp_path / "program.py").write_text(text, encoding="utf-8")
        shutil.copy(repository / "pyproject.toml", tmp_path)
        calls = {
            "mypy": ("mypy", "--strict", "--cache-dir", str(tmp_path / "cache")),
            "pyright": ("basedpyright", "--level", "error", "--pythonpath", sys.executable),
        }
        call = [sys.executable, "-m", *calls[tool], "program.py"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=250)
        return done.returncode, done.stdout + done.stderr

    return check


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_types_of_results(checked: Any, tool: str) -> None:
    """Each kind of picture has the type of its result."""
    pytest.importorskip("mypy" if tool == "mypy" else "basedpyright")
    code, output = checked(tool, RIGHT)
    assert code == 0, output


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_wrong_calls_are_found(checked: Any, tool: str) -> None:
    """Each wrong line is reported before it runs."""
    pytest.importorskip("mypy" if tool == "mypy" else "basedpyright")
    code, output = checked(tool, WRONG)
    assert code == 1
    for line, text in enumerate(WRONG.splitlines(), 1):
        is_wrong = line > 4 and bool(text)
        assert (f"program.py:{line}:" in output) == is_wrong, (text, output)


@pytest.mark.parametrize("tool", ["mypy", "basedpyright"])
def test_the_programs_pass(repository: Path, tool: str, tmp_path: Path) -> None:
    """In their strict mode."""
    pytest.importorskip(tool)
    files = [f"examples/{name}.py" for name in PROGRAMS]
    # a configuration in a folder above would be preferred
    own = ("--project", str(repository), "--pythonpath", sys.executable)
    options = ("--strict", "--cache-dir", str(tmp_path), *files) if tool == "mypy" else own
    call = [sys.executable, "-m", tool, *options]
    done = subprocess.run(call, cwd=repository, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_program_is_listed(repository: Path) -> None:
    """`PROGRAMS` has all of examples/ but the two that have tests of their own."""
    found = {path.stem for path in (repository / "examples").glob("*.py")}
    assert found - {"pycuda_app", "server"} == set(PROGRAMS)
    assert asyncio.iscoroutinefunction(srsdk.Upscaler.aupscale_file)
