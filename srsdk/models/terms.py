"""The terms of models: whether one may be shipped in a product, by the licenses that it states.

This module holds the rule and nothing else does. It compares identifiers of licenses; it is not
legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from srsdk.formats.manifest_fields import is_spdx

PERMITTED = (
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "Unlicense"),
    *("CC0-1.0", "CC-PDDC", "CC-PDM-1.0"),
    *("CC-BY-4.0", "CC-BY-3.0", "CC-BY-2.5", "CC-BY-2.0"),
    "LicenseRef-Unsplash",
)
"""SPDX identifiers of terms that allow commercial use and modification and ask at most for a notice
or the author's name. Terms that share alike (CC-BY-SA, GPL) are not among them."""
OTHERS = (
    *("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0", "CC-BY-ND-4.0"),
    *(
        "CC-BY-SA-4.0",
        "CC-BY-SA-3.0",
        "GPL-2.0-only",
        "GPL-3.0-only",
        "GPL-3.0-or-later",
        "AGPL-3.0-only",
    ),
    *("LGPL-3.0-only", "ODbL-1.0", "NOASSERTION"),
)
"""Identifiers that are known, for error messages, and not in `PERMITTED`."""
OWN_TERMS = "the training pictures keep their own terms"
"""In the license of weights that learned from pictures whose terms do not permit shipping."""

_NOT_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial|research[- ]only", re.IGNORECASE)
_PERMITTED = frozenset(name.casefold() for name in PERMITTED)


def may_be_shipped(license_text: str, training_licenses: Iterable[str]) -> bool | None:
    """Return whether a model may be shipped in a product, by the licenses that it states.

    It may if the license of its weights and the licenses of all its training data are in
    `PERMITTED`.

    Args:
        license_text: license of the weights: an SPDX identifier, or several joined by OR or AND;
            a remark may follow a semicolon.
        training_licenses: SPDX identifiers of the training data.

    Returns:
        None: one of the two is not stated, or not as SPDX identifiers, and the other permits it.
    """
    if OWN_TERMS in license_text:
        return False
    licenses = tuple(training_licenses)
    found = (
        _permits(license_text.partition(";")[0].strip()),
        all(map(is_permitted, licenses)) if licenses else None,
    )
    if False in found:
        return False
    return None if None in found else True


def is_permitted(identifier: str) -> bool:
    """Return whether an SPDX identifier is in `PERMITTED`; upper and lower case are the same."""
    return identifier.casefold() in _PERMITTED


def _permits(expression: str) -> bool | None:
    """Return whether one choice of a license permits it; None: not stated, or not in SPDX terms."""
    choices = [re.split(r"\s+AND\s+", choice) for choice in re.split(r"\s+OR\s+", expression)]
    if any(all(map(is_permitted, parts)) for parts in choices):
        return True
    stated = all(is_spdx(part) for parts in choices for part in parts)
    return False if stated or _NOT_COMMERCIAL.search(expression) else None


def in_words(answer: bool | None) -> str:
    """Return `yes`, `no` or `not stated`."""
    return "not stated" if answer is None else "yes" if answer else "no"


def identifiers(texts: Iterable[str]) -> tuple[str, ...]:
    """Check SPDX identifiers and return them sorted, each once.

    Raises:
        ValueError: one is not an SPDX identifier, or is a known one in another spelling.
    """
    return tuple(
        sorted({_checked(text) for text in texts}, key=lambda text: (text.casefold(), text))
    )


def _checked(text: str) -> str:
    """Return an identifier; of those that are not known only the form is checked."""
    known = (*PERMITTED, *OTHERS)
    if text in known:
        return text
    near = [name for name in known if _resembles(text, name)]
    if near or not is_spdx(text):
        fix = " or ".join(near[:3]) if near else "one such as CC0-1.0, or LicenseRef-NAME"
        raise ValueError(
            f"{text!r} is not an SPDX identifier (https://spdx.org/licenses), expected {fix}; "
            "for several, repeat the option"
        )
    return text


def _resembles(text: str, name: str) -> bool:
    """Return whether a text is a known identifier without its version, prefix or upper case."""
    said, full = re.sub(r"[\s_]+", "-", text.strip()).casefold(), name.casefold()
    is_part = full.startswith((f"{said}-", f"{said}.")) or full.endswith(f"-{said}")
    return said == full or (bool(said) and is_part)
