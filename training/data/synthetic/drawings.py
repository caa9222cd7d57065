"""Generated drawings: flat colors, outlines, hatching, screen tone and text, free of rights.

They show, at random, what distinguishes comics, cartoons, charts and screenshots from photographs:
areas of one color or a plain gradient, bounded by smooth curves, with or without an ink line of
varying weight; soft shading; regular patterns; text. No third-party picture is needed.

Patterns and letters are coarse enough to survive the reduction: a network that has to guess dots
from a flat gray puts dots into every shade and into every sky.
"""

from __future__ import annotations

import string

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.data.pictures import Pair, make_pair
from training.data.resize import Picture, imresize

OVERSAMPLING = 3
"""Pictures are drawn this much larger and reduced, which antialiases lines as programs do."""
INK = (8, 8, 12)
CURVE_POINTS = 96
FINEST = 2.2
"""Period of the finest pattern, in pixels of the reduced picture; 2 is the limit of sampling."""

Points = npt.NDArray[np.float64]
Color = tuple[int, int, int]


def pairs(count: int, side_px: int, scale: int, seed: int) -> list[Pair]:
    """Return `count` generated pictures of side `side_px` with their reductions."""
    seeds = np.random.SeedSequence(seed).spawn(count)
    return [
        make_pair(picture(side_px, np.random.default_rng(each), scale), scale, f"drawings/{number}")
        for number, each in enumerate(seeds)
    ]


def picture(side_px: int, random: np.random.Generator, scale: int = 4) -> Picture:
    """Draw one picture, (side_px, side_px, 3) uint8, that can be reduced by `scale`."""
    side = side_px * OVERSAMPLING
    palette = _palette(random)
    canvas = Image.new("RGB", (side, side), palette[0])
    inked = random.random() < 0.75
    weight_px = OVERSAMPLING * float(random.uniform(0.8, 3.5))
    for _ in range(random.integers(8, 26)):
        _shape(canvas, palette, random, weight_px if inked else 0.0)
    for _ in range(random.integers(0, 6)):
        _shade(canvas, random)
    for _ in range(random.integers(0, 3)):
        _pattern(canvas, palette, random, scale)
    for _ in range(random.integers(0, 30)):
        _stroke(canvas, random, weight_px)
    for _ in range(random.integers(0, 7)):
        _text(canvas, palette, random, scale)
    return imresize(np.asarray(canvas), 1 / OVERSAMPLING)


def _palette(random: np.random.Generator) -> list[Color]:
    """Return a few flat colors; paper is often white, some drawings are gray only."""
    kind = random.random()
    if kind < 0.2:
        grays = [255, *random.integers(0, 256, 5).tolist()]
        return [(gray, gray, gray) for gray in grays]
    colors = [tuple(map(int, random.integers(0, 256, 3))) for _ in range(6)]
    if kind < 0.6:
        colors[0] = (255, 255, 255)
    return colors  # type: ignore[return-value]


def _blob(side: int, random: np.random.Generator) -> Points:
    """Return a smooth closed curve: a circle whose radius varies by a few harmonics."""
    angle = np.linspace(0, 2 * np.pi, CURVE_POINTS, endpoint=False)
    radius = np.ones(CURVE_POINTS)
    for harmonic in range(1, 6):
        amplitude, phase = random.normal(0, 0.35 / harmonic), random.uniform(0, 2 * np.pi)
        radius += amplitude * np.cos(harmonic * angle + phase)
    stretch = random.uniform(0.4, 1.0, 2)
    size = side * random.uniform(0.04, 0.4)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None] * stretch * size
    return np.asarray(points + random.uniform(0, side, 2))


def _polygon(side: int, random: np.random.Generator) -> Points:
    """Return three to seven corners around a center."""
    angle = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 8)))
    radius = side * random.uniform(0.05, 0.35) * random.uniform(0.6, 1.0, len(angle))
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    return np.asarray(points + random.uniform(0, side, 2))


def _shape(
    canvas: Image.Image, palette: list[Color], random: np.random.Generator, weight_px: float
) -> None:
    """Fill an area with one color or a gradient and perhaps outline it."""
    curve = (_blob if random.random() < 0.65 else _polygon)(canvas.width, random)
    mask = Image.new("1", canvas.size)
    corners = [tuple(point) for point in curve.tolist()]
    ImageDraw.Draw(mask).polygon(corners, fill=1)
    canvas.paste(_fill(canvas.width, palette, random), mask=mask)
    if weight_px:
        line = [*corners, corners[0], corners[1]]
        ImageDraw.Draw(canvas).line(line, fill=INK, width=round(weight_px), joint="curve")


def _fill(side: int, palette: list[Color], random: np.random.Generator) -> Image.Image:
    first, second = (palette[i] for i in random.integers(0, len(palette), 2))
    flat = Image.new("RGB", (side, side), first)
    if random.random() < 0.7:
        return flat
    ramp = Image.linear_gradient("L").rotate(90 * int(random.integers(4))).resize((side, side))
    return Image.composite(flat, Image.new("RGB", (side, side), second), ramp)


def _shade(canvas: Image.Image, random: np.random.Generator) -> None:
    """Add a soft shadow or highlight, as an airbrush does."""
    mask = Image.new("L", canvas.size)
    corners = [tuple(point) for point in _blob(canvas.width, random).tolist()]
    ImageDraw.Draw(mask).polygon(corners, fill=int(random.integers(40, 200)))
    softness = canvas.width * float(random.uniform(0.004, 0.06))
    tone = (0, 0, 0) if random.random() < 0.6 else (255, 255, 255)
    canvas.paste(tone, mask=mask.filter(ImageFilter.BoxBlur(softness)))


def _pattern(
    canvas: Image.Image, palette: list[Color], random: np.random.Generator, scale: int
) -> None:
    """Hatch an area, or fill it with screen tone."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    step = OVERSAMPLING * scale * float(random.uniform(FINEST, 3 * FINEST))
    left, top = random.uniform(-0.1 * side, 0.8 * side, 2)
    width, height = random.uniform(0.1 * side, 0.5 * side, 2)
    color = INK if random.random() < 0.6 else palette[random.integers(len(palette))]
    if random.random() < 0.5:
        lean = float(random.uniform(-1, 1)) * height
        for x in np.arange(left, left + width, step):
            draw.line(
                [(x, top), (x + lean, top + height)], fill=color, width=max(1, round(step / 4))
            )
        return
    radius = step * float(random.uniform(0.15, 0.4))
    for row, y in enumerate(np.arange(top, top + height, step)):
        for x in np.arange(left + step / 2 * (row % 2), left + width, step):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)


def _stroke(canvas: Image.Image, random: np.random.Generator, weight_px: float) -> None:
    """Draw a curved pen stroke that is thinner at its ends."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    start, bend, end = (random.uniform(0, side, 2) for _ in range(3))
    end = start + (end - start) * random.uniform(0.05, 0.5)
    bend = start + (bend - start) * random.uniform(0.05, 0.3)
    # dots close enough to form a line
    count = int(np.linalg.norm(bend - start) + np.linalg.norm(end - bend)) + 2
    t = np.linspace(0, 1, count)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    radii = 0.5 * weight_px * np.sin(np.pi * np.linspace(0.08, 0.92, count))
    for (x, y), radius in zip(curve.tolist(), radii.tolist(), strict=True):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=INK)


def _text(
    canvas: Image.Image, palette: list[Color], random: np.random.Generator, scale: int
) -> None:
    """Draw some text, straight or rotated."""
    letters = string.ascii_letters + string.digits + ".,!?-()" + 8 * " "
    words = "".join(random.choice(list(letters), int(random.integers(3, 24))).tolist())
    font = ImageFont.load_default(OVERSAMPLING * scale * float(random.uniform(3, 10)))
    box = [int(edge) for edge in font.getbbox(words)]
    stamp = Image.new("L", (max(1, box[2]), max(1, box[3])))
    ImageDraw.Draw(stamp).text((0, 0), words, fill=255, font=font)
    if random.random() < 0.25:
        stamp = stamp.rotate(float(random.uniform(-30, 30)), Image.Resampling.BILINEAR, expand=True)
    color = INK if random.random() < 0.7 else palette[random.integers(len(palette))]
    x, y = random.uniform(-0.1, 0.9, 2) * canvas.width
    canvas.paste(Image.new("RGB", stamp.size, color), (int(x), int(y)), stamp)
