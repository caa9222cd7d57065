"""Say in one sentence why torch cannot export a network: where, what was found, what to do."""

from __future__ import annotations

import re

from export.errors import ExportError

UNABLE = "torch cannot export this network to ONNX"
"""How the sentence begins, unless the network branches on the picture."""
LONGEST = 200
"""Characters of torch's text."""
_BRANCH = re.compile(
    r"data-dependent|Dynamic control flow is not supported|generic_jump|UserErrorType.DYNAMIC"
    r"|could not evaluate unbacked|Eq\(u\d+|Ne\(u\d+|u\d+ [<>]",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\w+)\n\s*(?P<code>.+)'
)
_CAUSED = re.compile(r"\((?P<file>[^\s():]+\.py):(?P<line>\d+) in (?P<function>\w+)\)")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


class BranchError(ExportError):
    """The network takes branches that depend on the picture: no graph holds both."""


def translated(error: BaseException) -> BaseException:
    """Unwrap a KeyboardInterrupt from torch's exporter; turn other errors into one sentence."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    if any(isinstance(link, KeyboardInterrupt) for link in links):
        return KeyboardInterrupt()
    text = "\n".join(_COLORS.sub("", str(link)) for link in links)
    where = place(text)
    if _BRANCH.search(text):
        return branch_error(text)
    deepest = error.__cause__ or error
    lines = _COLORS.sub("", str(deepest)).strip().splitlines()
    reason = lines[0].strip()[:LONGEST] if lines else type(deepest).__name__
    return ExportError(f"{UNABLE}: {reason}{where}")


def branch_error(text: str) -> BranchError:
    """Return the error for a branch, with the line that a traceback names."""
    return BranchError(
        f"the network branches on values of the picture{place(text)}, and a graph has no branches: "
        "compute both results and choose with torch.where, or fix the choice before the export"
    )


def place(text: str) -> str:
    """Return ` (net.py:12 in forward: if x.mean() > 0:)`, the last line that is not torch's."""
    found = [match for match in _PLACE.finditer(text) if _is_users(match["file"])]
    if found:
        last = found[-1]
        name = last["file"].replace("\\", "/").rpartition("/")[2]
        return f" ({name}:{last['line']} in {last['function']}: {last['code'].strip()[:80]})"
    caused = [
        match
        for match in _CAUSED.finditer(text)
        if _is_users(match["file"]) and not match["function"].startswith("__torch")
    ]
    if caused:
        name = caused[-1]["file"].replace("\\", "/").rpartition("/")[2]
        return f" ({name}:{caused[-1]['line']} in {caused[-1]['function']})"
    return ""


def _is_users(file: str) -> bool:
    parts = file.replace("\\", "/").split("/")
    return (
        "torch" not in parts
        and "onnxscript" not in parts
        and not file.endswith(
            (
                "graph/wrapper.py",
                "graph/dry_run.py",
                "sources/spandrel_weights.py",
                "sources/outputs.py",
            )
        )
    )
