"""Converts the value of a PV to the type of its observable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from attpc_ioc.model import outside
from attpc_ioc.printable import LINES, visible
from attpc_plugins.run_history.store.model.values import Value, ValueKind

INT_MAX = 2**63 - 1
TEXT_MAX = 1000
"""Maximum characters of a text on a run sheet."""
UNITS_MAX = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of one PV; `stamped_s` is its time stamp, or None.

    `value` is None if it cannot be converted; `fault` says what is odd, even if there is a value.
    """

    pv: str
    value: Value | None = None
    units: str = ""
    severity: int = 0
    stamped_s: float | None = None
    fault: str = ""


def reading_of(answer: dict[str, Any], kind: ValueKind) -> Reading:
    """Return an answer of `ca_child` as a reading of an observable of this kind."""
    pv = str(answer["pv"])
    if answer.get("fault"):
        return Reading(pv, severity=3, fault=str(answer["fault"]))
    value, fault = fit(str(answer["type"]), answer["value"], kind)
    stamp = answer["stamp"]
    return Reading(
        pv,
        value,
        units=outside.text(str(answer["units"]), UNITS_MAX),
        severity=min(3, max(0, int(answer["severity"]))),
        stamped_s=None if stamp is None else stamp[0] + stamp[1] / 1e9,
        fault=fault,
    )


def fit(native: str, raw: Any, kind: ValueKind) -> tuple[Value | None, str]:
    """Return a PV's value converted to `kind`, and what is odd about it.

    `native` is the type from `ca_child`. An enum gives its label, or as an integer its number; a text that is
    a number is converted; a number that is not whole does not convert to an integer.
    """
    if native == "array":
        return None, f"an array of {raw} elements"
    if native == "enum":
        number, label = int(raw[0]), str(raw[1])
        if kind is ValueKind.STRING:
            return visible(label, LINES)[:TEXT_MAX] or str(
                number
            ), "" if label else f"state {number} has no label"
        if kind is ValueKind.INTEGER:
            return number, ""
        return None, f"an enum ({outside.text(label, 100)}), not a float"
    if kind is ValueKind.STRING:
        text = visible(str(raw), LINES)
        return (text, "") if len(text) <= TEXT_MAX else (text[:TEXT_MAX], f"cut to {TEXT_MAX} characters")
    if native in ("string", "text"):
        return parse(str(raw), kind)
    number = float(raw) if native == "float" else int(raw)
    return _number(number, kind)


def parse(text: str, kind: ValueKind) -> tuple[Value | None, str]:
    """Return a text converted to `kind`, or None and why it cannot be."""
    if kind is ValueKind.STRING:
        return text, ""
    shown = repr(text[:100])
    try:
        if kind is ValueKind.INTEGER and "_" not in text:
            return _number(int(text), kind)
    except ValueError:
        pass
    try:
        if "_" in text:
            raise ValueError
        number = float(text)
    except ValueError:
        return None, f"{shown} is not of type {kind}"
    return _number(number, kind)


def _number(number: int | float, kind: ValueKind) -> tuple[Value | None, str]:
    if kind is ValueKind.FLOAT:
        number = float(number)
        return number, "" if math.isfinite(number) else f"not a finite number ({number})"
    # Before converting to float, which cannot represent every integer.
    if abs(number) <= INT_MAX:
        return (int(number), "") if number == int(number) else (None, f"{number!r} is not an integer")
    if isinstance(number, float) and not math.isfinite(number):
        return None, f"not a finite number ({number})"
    return None, f"{outside.shown(number)} has more than 64 bits"
