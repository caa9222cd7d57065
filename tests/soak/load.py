"""What the threads of the soak test do: each kind of call, compared with its result alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import srsdk
from tests.soak.material import STREAMING, Material, described, digest, upscaled

END_S = 120
"""How long a future may take."""


class Raised(Exception):  # noqa: N818 - raised on purpose
    """Raised by the soak test's progress callbacks."""


class Load:
    """Every kind of call with one Upscaler.

    Args:
        up: the Upscaler that all threads use.
        material: inputs and expected results.
        output: folder for the results.
        open_other: opens an Upscaler with another backend.
    """

    def __init__(
        self,
        up: srsdk.Upscaler,
        material: Material,
        output: Path,
        open_other: Callable[[], srsdk.Upscaler],
    ) -> None:
        self._up, self._material, self._output = up, material, output
        self._open_other = open_other
        with open_other() as other:
            self._other_expected = [digest(other(picture)) for picture in material.pictures]
        self._numbers = itertools.count()
        self.problems: list[str] = []
        self.kinds: dict[str, tuple[float, Callable[[random.Random], str]]] = {
            "call": (30, self._call), "deadline": (15, self._deadline),
            "future": (15, self._future), "stream": (6, self._stream), "batch": (4, self._batch),
            "asyncio": (6, self._asyncio), "file": (12, self._file), "late file": (6, self._late),
            "streamed": (4, self._streamed),
            "damaged": (6, self._damaged), "progress": (6, self._progress),
            "path": (4, self._path), "other backend": (1, self._other),
        }  # fmt: skip

    def any_kind(self, choice: random.Random) -> str:
        """Choose a kind of call."""
        weights = [weight for weight, _ in self.kinds.values()]
        return choice.choices(list(self.kinds), weights)[0]

    def one(self, kind: str, choice: random.Random) -> str:
        """Make one call, or several; return the outcome."""
        try:
            return self.kinds[kind][1](choice)
        except srsdk.DeadlineExceeded:
            return "late"
        except CancelledError:
            return "cancelled"
        except Exception as error:  # report any error and keep the thread running
            self.problems.append(f"{kind}: {error!r}")
            return "failed"

    def _check(self, what: object, result: object, expected: object) -> str:
        if result != expected:
            self.problems.append(f"{what}: got {result}, expected {expected}")
            return "different"
        return "equal"

    def _any(self, choice: random.Random) -> tuple[Any, str]:
        index = choice.randrange(len(self._material.pictures))
        return self._material.pictures[index], self._material.expected[index]

    def _target(self, suffix: str) -> Path:
        return self._output / f"thread-{next(self._numbers)}{suffix}"

    def _call(self, choice: random.Random) -> str:
        picture, expected = self._any(choice)
        return self._check(picture.shape, digest(self._up(picture)), expected)

    def _deadline(self, choice: random.Random) -> str:
        picture, expected = self._any(choice)
        result = self._up(picture, timeout=choice.uniform(0.001, 0.2))
        return self._check(picture.shape, digest(result), expected)

    def _future(self, choice: random.Random) -> str:
        picture, expected = self._any(choice)
        future = self._up.submit(picture)
        time.sleep(choice.uniform(0, 0.05))
        if choice.random() < 0.75:
            future.cancel()
        return self._check(picture.shape, digest(future.result(END_S)), expected)

    def _stream(self, choice: random.Random) -> str:
        several = [self._any(choice) for _ in range(choice.randrange(1, 8))]
        until = choice.choice([len(several), len(several) // 2])
        stream = self._up.stream([picture for picture, _ in several])
        with contextlib.closing(stream):
            found = [digest(result) for result in itertools.islice(stream, until)]
        return self._check("stream", found, [expected for _, expected in several[:until]])

    def _batch(self, choice: random.Random) -> str:
        several = [self._any(choice) for _ in range(choice.randrange(1, 6))]
        found = [digest(result) for result in self._up.batch([picture for picture, _ in several])]
        return self._check("batch", found, [expected for _, expected in several])

    def _asyncio(self, choice: random.Random) -> str:
        async def several() -> list[str]:
            some = [self._any(choice) for _ in range(4)]
            tasks = [asyncio.ensure_future(self._up.aupscale(picture)) for picture, _ in some]
            await asyncio.sleep(choice.uniform(0, 0.05))
            for task in tasks[: choice.randrange(4)]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            return [
                "cancelled"
                if isinstance(result, asyncio.CancelledError)
                else self._check("asyncio", _digest_or_error(result), expected)
                for result, (_, expected) in zip(found, some, strict=True)
            ]

        return "different" if "different" in asyncio.run(several()) else "equal"

    def _file(self, choice: random.Random, **options: Any) -> str:
        return self._one_of(self._material.files, choice, **options)

    def _streamed(self, choice: random.Random) -> str:
        if not self._material.streamed:
            return "needs libvips"
        timeout = choice.choice([None, None, choice.uniform(0.01, 0.5)])
        return self._one_of(self._material.streamed, choice, options=STREAMING, timeout=timeout)

    def _one_of(
        self, files: dict[tuple[Path, str], str], choice: random.Random, **options: Any
    ) -> str:
        source, suffix = choice.choice(list(files))
        target = self._target(suffix)
        try:
            found = upscaled(self._up, source, target, **options)
        except (srsdk.DeadlineExceeded, Raised):
            self._check(f"{target} after an error", target.exists(), False)
            raise
        return self._check(f"{source.name} to {suffix}", found, files[source, suffix])

    def _late(self, choice: random.Random) -> str:
        return self._file(choice, timeout=choice.uniform(0.001, 0.3))

    def _damaged(self, choice: random.Random) -> str:
        source = choice.choice(list(self._material.damaged))
        target = self._target(".png")
        try:
            self._up.upscale_file(source, target)
        except srsdk.SrsdkError as error:
            self._check(f"{target} of {source.name}", target.exists(), False)
            self._check(source.name, described(error), self._material.damaged[source])
            return "refused"
        self.problems.append(f"{source.name}: done, expected {self._material.damaged[source]}")
        return "different"

    def _progress(self, choice: random.Random) -> str:
        def stop(done: int, total: int) -> None:
            raise Raised(f"{done} of {total}")

        picture, _ = self._any(choice)
        calls: list[Callable[[], object]] = [
            lambda: self._up(picture, progress=stop),
            lambda: self._up.submit(picture, progress=stop).result(END_S),
            lambda: self._up.batch([picture] * 3, progress=stop),
            lambda: self._file(choice, progress=stop),
        ]
        try:
            choice.choice(calls)()
        except Raised:
            return "raised"
        self.problems.append("progress: its exception was lost")
        return "different"

    def _path(self, choice: random.Random) -> str:
        path = choice.choice([path for path in self._material.damaged if path.suffix == ".jpg"])
        try:
            self._up(path)
        except srsdk.PictureError:
            return "refused"
        return "different"

    def _other(self, choice: random.Random) -> str:
        with self._open_other() as other:
            index = choice.randrange(len(self._material.pictures))
            result = digest(other(self._material.pictures[index]))
        return self._check("other backend", result, self._other_expected[index])


def _digest_or_error(result: object) -> str:
    return repr(result) if isinstance(result, BaseException) else digest(result)  # type: ignore[arg-type]
