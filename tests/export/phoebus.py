"""What Phoebus reads of a display file (`phoebus_widgets.toml`), and how it computes a rule's expression."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

FACTS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "phoebus_widgets.toml").read_text())


def properties(kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of a type of widget or of `display`, those of the classes it extends too."""
    one = FACTS["display"] if kind == "display" else FACTS["widget"][kind]
    found: dict[str, dict[str, Any]] = dict(one["properties"])
    above = one["extends"]
    while above:
        found = FACTS["class"][above].get("properties", {}) | found
        above = FACTS["class"][above].get("extends")
    return found


def fault(element: ET.Element, fact: dict[str, Any]) -> str:
    """Return what is wrong with a property's value for its kind; empty where nothing is."""
    text, inner = element.text or "", [child.tag for child in element]
    kind = fact["kind"]
    right = {
        "text": lambda: not inner,
        "integer": lambda: re.fullmatch(r"-?\d+", text),
        "number": lambda: re.fullmatch(r"-?\d+(\.\d+)?", text),
        "boolean": lambda: text in ("true", "false"),
        "enum": lambda: text.isdecimal() and int(text) < len(fact["values"]),
        "color": lambda: inner == ["color"] and {"red", "green", "blue"} <= set(element[0].attrib),
        "font": lambda: inner == ["font"] and {"family", "style", "size"} == set(element[0].attrib),
        "list": lambda: set(inner) == {fact["of"]},
        "actions": lambda: set(inner) == {"action"},
        "rules": lambda: set(inner) == {"rule"},
        "macros": lambda: inner and not any(len(child) for child in element),
    }[kind]()
    return "" if right else f"{element.tag} is no {kind}: {text.strip() or inner}"


def compute(condition: str, **names: object) -> object:
    """Compute a rule's expression as Phoebus does: with the operators of JavaScript made those of Python."""
    python = re.sub(r"\$\(N\)", "1", condition).replace("&&", " and ").replace("||", " or ")
    return eval(python, {"__builtins__": {}}, names)
