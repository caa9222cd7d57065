"""Find a network's value range and order of channels by what it does to known pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from srsdk.adoption import hints
from srsdk.adoption.form import Form
from srsdk.adoption.graph import Graph
from srsdk.adoption.io import IO
from srsdk.adoption.trial import Floats, Trial, shapes
from srsdk.errors import BackendError, UsageError

WHITE = 255.0
PLAUSIBLE = 16.0
"""Mean difference from the enlarged source, in levels of 255, up to which a result can be right."""
CLEARLY = 2.0
"""Factor by which another range has to be closer than 0 to 1 to be proposed."""
RANGES = (hints.UNIT, hints.LEVELS, hints.SIGNED)


@dataclass(frozen=True)
class Found:
    """A form with range and order, and how they were found."""

    form: Form
    """The form."""
    told: tuple[str, ...]
    """What graph or run show, in words."""
    assumed: tuple[str, ...]
    """What neither shows."""


def find_values(trial: Trial, graph: Graph, io: IO, size: tuple[int, int], scale: int) -> Found:
    """Complete a form: what `io` says, else what the graph says, else what a run shows."""
    form, told, assumed = _given(trial.form, io), list[str](), list[str]()
    if io.range is None:
        form = _ranges(trial, form, graph, io, size, scale, told, assumed)
    elif io.output_range is None and form.dtypes[1] == "uint8":
        form = replace(form, output_range=hints.LEVELS)
    if form.channels >= 3:
        form = _order(trial, form, io, size, told, assumed)
    return Found(form, tuple(told), tuple(assumed))


def _given(form: Form, io: IO) -> Form:
    order = io.order or "rgb"
    for name, given in zip(("mean", "std"), io.normalization, strict=True):
        if given is not None and len(given) not in (1, form.channels):
            raise UsageError(
                f"io: {name} has {len(given)} values, expected 1 or {form.channels}, one for each "
                "channel that the network reads"
            )
    (given_in, given_out), (mean, std) = io.ranges, io.normalization
    return replace(
        form,
        range=given_in or hints.UNIT,
        mean=mean or (0.0,),
        std=std or (1.0,),
        output_range=given_out,
        order=order,
        output_order=io.output_order or order,
    )


def _ranges(
    trial: Trial, form: Form, graph: Graph, io: IO, size: tuple[int, int], scale: int,
    told: list[str], assumed: list[str],
) -> Form:  # fmt: skip
    """Return the form with the ranges of input and output."""
    hint, reason = _hint(form, graph)
    forms = _candidates(form, graph, hint)
    errors = _errors(trial, forms, size, scale)
    plain = min(e for each, e in zip(forms, errors, strict=True) if each.range == hints.UNIT)
    least = min(errors)
    # 0 to 1 is so common that it takes more than a closer result to leave it
    good = [
        (each, error)
        for each, error in zip(forms, errors, strict=True)
        if error <= PLAUSIBLE and (error <= CLEARLY * least + 1 or each.range == hints.UNIT)
    ]
    if not good:
        # nothing comes back as it went in: a guess, unless the types say it
        assumed.append(f"range {shown(forms[0].range)} (no range gives a plausible result)")
        return forms[0]
    candidate, error = good[0]
    text = f"range {_both(candidate)}"
    if candidate.range == hint:
        told.append(f"{text} ({reason})")
    elif len(good) == 1:
        off = f"a test picture comes back {error:.1f} levels off"
        told.append(f"{text} ({off}{_otherwise(candidate, plain)})")
    else:
        assumed.append(text)
    return candidate


def _candidates(form: Form, graph: Graph, hint: tuple[float, float] | None) -> list[Form]:
    """Return the forms to try; an earlier one wins over a later one that is no better."""
    ends = hints.output_range(graph, form.output)
    found = list[Form]()
    for each in dict.fromkeys((hint or hints.UNIT, *RANGES)):
        if form.output_range is None and form.dtypes[1] == "uint8":
            found.append(_ranged(form, each, hints.LEVELS))
            continue
        if form.output_range is None and ends is not None and ends[0] != each:
            found.append(_ranged(form, each, ends[0]))
        found.append(_ranged(form, each, form.output_range))
    # the same range on both sides is the rule
    return sorted(found, key=lambda each: (each.range != hint, each.output_range is not None))


def _ranged(form: Form, given: tuple[float, float], out: tuple[float, float] | None) -> Form:
    return replace(form, range=given, output_range=out)


def _hint(form: Form, graph: Graph) -> tuple[tuple[float, float] | None, str]:
    """Return the input's range that the types or the operators suggest, and why."""
    if form.dtypes[0] == "uint8":
        return hints.LEVELS, "uint8"
    for found in (hints.input_range(graph, form.input), hints.output_range(graph, form.output)):
        if found is not None:
            return found
    return None, ""


def _errors(trial: Trial, forms: list[Form], size: tuple[int, int], scale: int) -> list[float]:
    """Return how far each form's result is from its enlarged source, in levels."""
    picture = shapes(*size, forms[0].channels)
    large = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    outputs = dict[tuple[float, float], Floats | None]()
    found = []
    for form in forms:
        if form.range not in outputs:
            try:
                outputs[form.range] = trial.run(into(picture, form))
            except BackendError:
                outputs[form.range] = None
        output = outputs[form.range]
        error = float("inf")
        if output is not None:
            result = out_of(output, form)[..., : large.shape[2]]
            error = float(np.abs(result - large[..., : result.shape[2]]).mean()) * WHITE
        found.append(error if np.isfinite(error) else float("inf"))
    return found


def _both(form: Form) -> str:
    text = shown(form.range)
    if form.output_range is not None and form.output_range != form.range:
        text += f", output {shown(form.output_range)}"
    return text


def _otherwise(form: Form, plain: float) -> str:
    return "" if form.range == hints.UNIT else f", in 0..1 {min(plain, WHITE):.0f}"


def _order(
    trial: Trial, form: Form, io: IO, size: tuple[int, int], told: list[str], assumed: list[str]
) -> Form:
    """Return the form with the order of the output's channels, which a red picture shows."""
    if io.output_order is None:
        red = np.full((*size, form.channels), 0.1, np.float32)
        red[..., 0] = 0.9
        if form.channels == 4:
            red[..., 3] = 1
        try:
            output = out_of(trial.run(into(red, form)), form)
        except BackendError:
            output = red
        first, last = float(output[..., 0].mean()), float(output[..., 2].mean())
        if last - first > 0.4:
            other = "bgr" if form.order == "rgb" else "rgb"
            told.append(f"it reads {form.order} and writes {other} (red comes back blue)")
            form = replace(form, output_order=other)
    if io.order is None:
        assumed.append("RGB")
    return form


def into(picture: Floats, form: Form) -> Floats:
    """Return values 0 to 1 as the network reads them."""
    low, high = form.range
    values = (low + (high - low) * picture - np.asarray(form.mean, np.float32)) / np.asarray(
        form.std, np.float32
    )
    return np.asarray(values, np.float32)


def out_of(output: Floats, form: Form) -> Floats:
    """Return what the network writes as values 0 to 1."""
    low, high = form.output_range or form.range
    if form.output_range is None:
        output = output * np.asarray(form.std, np.float32) + np.asarray(form.mean, np.float32)
    return np.asarray((output - low) / (high - low), np.float32)


def shown(pair: tuple[float, float]) -> str:
    """Return `0..255`."""
    return f"{pair[0]:g}..{pair[1]:g}"
