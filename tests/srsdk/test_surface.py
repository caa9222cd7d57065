"""`Upscaler`, `Restorer`, `Sampler` and `Chain` take the same calls, in all forms of a picture."""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.options import UpscalerOptions
from tests.conftest import make_picture

OPENERS: dict[str, Callable[[], srsdk.BaseUpscaler]] = {
    "Upscaler": lambda: srsdk.Upscaler("gan_x2"),
    "Restorer": lambda: srsdk.Restorer("ae_x1"),
    "Sampler": lambda: srsdk.Sampler("vae_x4"),
    "Chain": lambda: srsdk.Chain(srsdk.Restorer("ae_x1"), srsdk.Upscaler("gan_x2")),
}
BGR = srsdk.PictureOptions(order="bgr")
PNG = srsdk.PictureOptions(format="png")


@pytest.fixture(scope="module", params=OPENERS)
def up(request: pytest.FixtureRequest) -> Iterator[srsdk.BaseUpscaler]:
    """Each class, with a shipped model."""
    with OPENERS[request.param]() as opened:
        yield opened


@pytest.fixture(scope="module")
def picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A small photograph-like picture."""
    return make_picture(20, 28)


def encoded(picture: Any, kind: str = "PNG", **saved: Any) -> bytes:
    """Return the content of a picture file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **saved)
    return file.getvalue()


def decoded(data: bytes) -> Any:
    """Return the pixels of a picture file's content."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_every_form_of_a_picture(up: srsdk.BaseUpscaler, picture: Any, tmp_path: Path) -> None:
    """An array, an image, a path, bytes, a view and an open file give the same pixels."""
    expected = up(picture)
    assert expected.shape == (20 * up.scale, 28 * up.scale, 3)
    data = encoded(picture)
    (tmp_path / "a.png").write_bytes(data)
    assert np.array_equal(np.asarray(up(Image.fromarray(picture))), expected)
    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)  # as after an upload was written to it
    for form in (str(tmp_path / "a.png"), tmp_path / "a.png", data, bytearray(data), file):
        assert np.array_equal(up(form), expected)
    assert np.array_equal(up(memoryview(data)), expected)
    with (tmp_path / "a.png").open("rb") as opened:
        assert np.array_equal(up(opened), expected)


def test_the_same_result_by_every_call(up: srsdk.BaseUpscaler, picture: Any) -> None:
    """A call, a future, a coroutine, a stream and a batch agree, also with options."""
    for options in (None, BGR, srsdk.PictureOptions(width=28 * up.scale - 4)):
        expected = up(picture, options=options)
        assert np.array_equal(up.submit(picture, options=options, timeout=100).result(), expected)
        later = up.aupscale(picture, options=options, timeout=100)
        assert np.array_equal(asyncio.run(_awaited(later)), expected)
        streamed = up.stream([picture, picture], options=options, timeout=100, ahead=2)
        assert all(np.array_equal(each, expected) for each in streamed)
        assert np.array_equal(up.batch([picture], options=options, timeout=100)[0], expected)


async def _awaited(work: Any) -> Any:
    return await work


def test_a_batch_of_mixed_kinds(up: srsdk.BaseUpscaler, picture: Any, tmp_path: Path) -> None:
    """Each result is of the kind of its picture, in order."""
    Image.fromarray(picture).save(tmp_path / "a.png")
    image = Image.fromarray(picture)
    results = up.batch([picture, image, tmp_path / "a.png", encoded(picture)])
    assert [isinstance(each, Image.Image) for each in results] == [False, True, False, False]
    assert all(np.array_equal(np.asarray(each), np.asarray(results[0])) for each in results)


def test_files_by_every_call(up: srsdk.BaseUpscaler, picture: Any, tmp_path: Path) -> None:
    """From path, bytes or upload to path or open file, now, in the background, or awaited."""
    expected, data = up(picture), encoded(picture)
    source = tmp_path / "a.png"
    source.write_bytes(data)
    up.upscale_file(data, tmp_path / "b.png")
    up.submit_file(io.BytesIO(data), tmp_path / "c.png").result()
    asyncio.run(_awaited(up.aupscale_file(source, tmp_path / "d.png")))
    for name in ("b", "c", "d"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert np.array_equal(np.asarray(image), expected)
    for call in (up.upscale_file, lambda *a, **k: up.submit_file(*a, **k).result()):
        target = io.BytesIO()
        call(source, target, options=PNG)
        assert np.array_equal(decoded(target.getvalue()), expected)
    with pytest.raises(srsdk.OutputError, match="exists; overwrite=True replaces it"):
        up.upscale_file(data, tmp_path / "b.png")


def test_bgr_is_the_mirror_of_rgb(up: srsdk.BaseUpscaler, picture: Any) -> None:
    """What OpenCV calls BGR gives the same colors in that order, with alpha in its place."""
    expected = up(picture)
    assert np.array_equal(up(picture[..., ::-1], options=BGR)[..., ::-1], expected)
    assert np.array_equal(up(encoded(picture), options=BGR)[..., ::-1], expected)
    if isinstance(up, srsdk.Sampler):
        return
    rgba = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    large = up(rgba[..., [2, 1, 0, 3]], options=BGR)
    assert large.flags.c_contiguous  # as OpenCV requires
    assert np.array_equal(large[..., [2, 1, 0, 3]], up(rgba))


def test_gray_stays_gray_and_alpha_alpha(up: srsdk.BaseUpscaler, picture: Any) -> None:
    """By file as by PIL image as by array: the channels of the result are those of the source."""
    gray = picture[..., 0]
    alpha = np.full(gray.shape, 90, np.uint8)
    for mode, array in (("L", gray), ("LA", np.dstack([gray, alpha])), ("RGB", picture)):
        image = Image.fromarray(array)
        assert image.mode == mode
        file = io.BytesIO()
        image.save(file, "PNG")
        by_array, by_image, by_file = up(array), up(image), up(file)
        assert by_array.shape == (20 * up.scale, 28 * up.scale, *array.shape[2:])
        assert by_image.mode == mode
        assert np.array_equal(np.asarray(by_image), by_array)
        assert np.array_equal(by_file, by_array)
    assert np.array_equal(up(gray[..., None])[..., 0], up(gray))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": "1"}, "timeout is '1', expected seconds above 0"),
        ({"timeout": 0}, "timeout is 0, expected seconds above 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": True}, "timeout is True"),
        ({"options": {"width": 9}}, r"expected srsdk\.PictureOptions"),
    ],
)
def test_wrong_arguments_by_every_call(
    up: srsdk.BaseUpscaler, picture: Any, arguments: dict[str, Any], message: str
) -> None:
    """Each is refused before any work, by each way to call."""
    data = encoded(picture)
    calls: list[Callable[[], object]] = [
        lambda: up(picture, **arguments),
        lambda: up.submit(picture, **arguments),
        lambda: up.stream([picture], **arguments),
        lambda: up.batch([picture], **arguments),
        lambda: asyncio.run(_awaited(up.aupscale(picture, **arguments))),
        lambda: up.upscale_file(data, io.BytesIO(), **arguments),
        lambda: up.submit_file(data, io.BytesIO(), **arguments),
        lambda: asyncio.run(_awaited(up.aupscale_file(data, io.BytesIO(), **arguments))),
    ]
    for call in calls:
        with pytest.raises(srsdk.UsageError, match=message):
            call()


def test_wrong_progress(up: srsdk.BaseUpscaler, picture: Any) -> None:
    """`progress` has to be a function."""
    wrong: Any = 3
    with pytest.raises(srsdk.UsageError, match="progress is 3, expected a function"):
        up(picture, progress=wrong)


def test_closed(picture: Any) -> None:
    """After `close` every call raises, and `close` may be repeated."""
    for opener in OPENERS.values():
        up = opener()
        up.close()
        up.close()
        calls: tuple[Callable[[], object], ...] = (
            partial(up, picture),
            partial(up.submit, picture),
            partial(up.batch, [picture]),
            partial(up.upscale_file, encoded(picture), "never.png"),
        )
        for call in calls:
            with pytest.raises(srsdk.BackendError, match="closed"):
                call()


def test_the_typed_options_are_those_of_the_constructor() -> None:
    """`UpscalerOptions` has each keyword of `Upscaler` but `scale`, with its type."""
    parameters = inspect.signature(srsdk.Upscaler).parameters
    keywords = {name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    assert set(UpscalerOptions.__annotations__) == keywords - {"scale"}
    hints = get_type_hints(srsdk.Upscaler.__init__)
    assert get_type_hints(UpscalerOptions) == {n: hints[n] for n in keywords - {"scale"}}


def test_the_scale_is_checked() -> None:
    """Another scale than the model's is refused, with the name of the model that has it."""
    with srsdk.Upscaler("gan_x2", scale=2) as up:
        assert up.scale == 2
    with pytest.raises(srsdk.UsageError, match=r"enlarges 4 times, got scale=2: open 'gan_x2'"):
        srsdk.Upscaler("gan_x4", scale=2)
    with pytest.raises(srsdk.UsageError, match=r"got scale=3: pass options=srsdk\.PictureOptions"):
        srsdk.Upscaler("gan_x4", scale=3)


def test_list_models() -> None:
    """Each shipped model once, with its purpose, terms and files."""
    found = {info.name: info for info in srsdk.list_models()}
    assert list(found) == sorted(found)
    assert found["gan_x4"].scale == 4
    assert found["gan_x4"].precisions == ("fp32", "fp16", "int8", "int8.gpu")
    assert found["realtime_x2"].channels == 1
    for info in found.values():
        assert info.purpose, "srsdk.models.catalog.PURPOSES lacks it"
        assert info.license
        assert info.training_data
        assert info.psnr_y_db
        srsdk.models.find(info.name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "model is 3, expected a name such as 'gan_x4'"),
        ({"model": "https://a.b/c.onnx"}, "is a URL, and srsdk opens none"),
        ({"model": "gan-x4"}, "is not a shipped model, did you mean 'gan_x4'"),
        ({"model": "gan_x4.onnx"}, "no such file; the shipped model is 'gan_x4'"),
        ({"device": 0}, "device is 0, expected 'auto', 'cpu', 'cuda' or 'cuda:1'"),
        ({"devices": 0}, "devices is 0, expected different GPU numbers"),
        ({"health": "no"}, "health is 'no', expected True or False"),
        ({"cache": 1}, "cache is 1, expected True or False"),
        ({"budget": "1GB"}, r"budget is '1GB', expected srsdk\.Budget"),
        ({"scale": "4"}, "scale is '4', expected a whole number"),
    ],
)
def test_wrong_constructions(arguments: dict[str, Any], message: str) -> None:
    """Each is one sentence: what was got, what is expected, and the fix."""
    with pytest.raises((srsdk.UsageError, srsdk.ModelError), match=message):
        srsdk.Upscaler(**{"model": "gan_x4", **arguments})


def test_a_chain_of_names() -> None:
    """A name is no open model."""
    wrong: Any = "gan_x4"
    with pytest.raises(srsdk.UsageError, match=r"pass srsdk\.Upscaler\('gan_x4'\)"):
        srsdk.Chain(wrong)


@pytest.mark.parametrize("single", ["a.png", b"a", Path("a.png"), 3, np.zeros((4, 4, 3), np.uint8)])
def test_a_single_picture_is_no_batch(single: Any) -> None:
    """Its rows or letters are not taken for pictures."""
    with srsdk.Upscaler("gan_x2") as up:
        for call in (up.batch, up.stream):
            with pytest.raises(srsdk.UsageError, match="expected several: a list"):
                call(single)
        stack: Any = np.zeros((2, 4, 4, 3), np.uint8)
        assert [np.shape(each) for each in up.batch(stack)] == [(8, 8, 3)] * 2


def test_precision_opens_the_file_of_that_name() -> None:
    """`fp16` and `int8` mean the file beside the float32 file, which `repr` names."""
    picture = make_picture(12, 16)
    precisions: tuple[Literal["fp16", "int8"], ...] = ("fp16", "int8")
    for precision in precisions:
        with (
            srsdk.Upscaler("gan_x2", precision=precision) as up,
            srsdk.Upscaler(f"gan_x2.{precision}") as named,
        ):
            assert up.manifest == named.manifest
            assert np.array_equal(up(picture), named(picture))
    with pytest.raises(srsdk.UsageError, match=r"needs vae_x4\.int8\.onnx of the same weights"):
        srsdk.Upscaler("vae_x4", precision="int8")
