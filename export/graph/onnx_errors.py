"""Say in one sentence what is wrong with an ONNX file: which node, what was found, what to do.

onnx, its checker and version converter, protobuf and ONNX Runtime report in texts of their own,
some with C++ signatures. The exceptions that carry our sentences keep them as their cause.
"""

from __future__ import annotations

import re

from export.graph.onnx_file import OPSET

LONGEST = 200
"""Characters of a library's text that is not known here."""
AGAIN = f"export the model again with opset {OPSET}"
_NODE = r"[Nn]ame: ?'?(?P<node>[^\s']*)'? OpType: ?(?P<op>\w+)"
_KNOWN = (
    (
        r"No Op registered for (?P<op>\w+) with domain_version of (?P<opset>\d+).*?"
        r"Name: (?P<node>\S*) OpType",
        "{where} is no operator of ONNX at opset {opset}; correct its name, or export the model "
        "again with standard operators",
    ),
    (
        rf"Unrecognized attribute: (?P<what>\w+) for operator \w+.*?{_NODE}",
        "{where} has an attribute {what!r} that its opset does not know; " + AGAIN,
    ),
    (
        rf"Required attribute '(?P<what>\w+)' is missing.*?{_NODE}",
        "{where} lacks its attribute {what!r}; " + AGAIN,
    ),
    (
        r"ir_version (?P<what>\d+) is higher than the checker's \((?P<most>\d+)\)",
        "IR version {what}, and the installed onnx reads up to {most}; pip install -U onnx, or "
        "export the model again with an older one",
    ),
    (
        r"must specify opset_import",
        "it does not say its opset; " + AGAIN,
    ),
    (
        r"Graph output '(?P<what>.*?)' is not an output of any node",
        "no node makes its output {what!r}; it was edited: " + AGAIN,
    ),
    (
        rf"input '(?P<what>.*?)' of node: ?\s*{_NODE} is not output of any previous",
        "{where} reads {what!r}, which no input, weight or earlier node makes; it was edited: "
        + AGAIN,
    ),
    (
        r"however '(?P<what>.*?)' has been used as (?:output|graph input) names multiple times",
        "two nodes make {what!r}; give each output a name of its own",
    ),
    (
        r"tensor name: (?P<what>[^)]*)\) raw_data size \((?P<got>\d+) bytes\) is too small.*?"
        r"\((?P<most>\d+) bytes required",
        "weights {what!r} have {got} bytes, expected {most}; the file is truncated: copy it again",
    ),
    (
        r"External data length \((?P<most>\d+)\) exceeds available data \((?P<got>\d+) bytes.*?"
        r"for tensor '(?P<what>.*?)'",
        "weights {what!r} have {got} bytes in the file beside it, expected {most}; copy both files "
        "again",
    ),
    (
        r"Error parsing message|DecodeError|[Pp]rotobuf parsing failed",
        "it is no ONNX file, or it is truncated; copy it again",
    ),
    (
        r"(?P<domain>[\w.]+):(?P<op>\w+)\(-?\d+\) is not a registered function/op",
        "operator {op} of domain {domain} is not standard: ONNX Runtime and TensorRT lack it; "
        "export the model again with standard operators",
    ),
    (
        r"[Oo]pset (?P<opset>\d+) is under development.*?till opset (?P<most>\d+)",
        "opset {opset}, and ONNX Runtime computes up to {most}; " + AGAIN,
    ),
    (
        r"Node \((?P<node>.*?)\) Op \((?P<op>\w+)\) \[\w+\] (?P<what>.*)",
        "{where}: {what}; " + AGAIN,
    ),
    (
        r"running (?P<op>\w+) node\. Name:'(?P<node>.*?)' Status Message: (?P<what>.*)",
        "{where} cannot be computed: {what}",
    ),
)
"""What libraries write, and what it means."""
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Fatal error: |/\S+?\.(?:h|cc|cpp):\d+ .*?\) "
    r"|==> Context: .*"
)


def sentence(error: Exception) -> str:
    """Return a library's error in our words, on one line, with the fix if it is known."""
    text = " ".join(str(error).split())
    for pattern, known in _KNOWN:
        if found := re.search(pattern, text):
            facts = {key: (value or "").rstrip(" .") for key, value in found.groupdict().items()}
            what = facts.get("what", "")[:LONGEST]
            return known.format(**{**facts, "what": what, "where": _where(facts)})
    return _NOISE.sub("", text).strip()[:LONGEST] or type(error).__name__


def _where(facts: dict[str, str]) -> str:
    """Return `node 'conv1' (Conv)`."""
    name = f" {facts['node']!r}" if facts.get("node") else ""
    return f"node{name} ({facts.get('op', 'of unknown kind')})"
