"""The values of `Alarm_RBV` and `AlarmText_RBV`, from the readings of the other rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attpc_ioc.model.command import Scope, ScopeKind
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Severity

from .row import Reading
from .table import PvEntry

MAX_LINES = 100
"""Maximum alarms listed; further ones are counted: a thousand servers may be offline."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A PV of the alarm tree that is in alarm.

    `stated` is the text of its `reason_row`; `since` is when it got its severity, in seconds since 1970.
    """

    entry: PvEntry
    reading: Reading
    stated: str = ""
    since: float = 0.0


def worst(alarms: Iterable[Alarm]) -> Severity:
    """Return the worst severity of all; the number is the label's of `Alarm_RBV`."""
    return max((alarm.reading.severity for alarm in alarms), default=Severity.NO_ALARM)


def alarm_text(alarms: Iterable[Alarm], fleet: Fleet) -> str:
    """Return every alarm with its reason, one per line, in the order of `with_reasons`; empty without alarms.

    PVs of one scope that are in alarm for the same reason share a line.
    """
    ordered = worst_first(alarms)
    lines: dict[tuple[Scope, Severity, str], list[str]] = {}
    for alarm, reason in with_reasons(ordered[:MAX_LINES], fleet):
        parts = lines.setdefault((alarm.entry.scope, alarm.reading.severity, reason), [])
        parts.append(alarm.entry.row.part)
    text = [_line(*key, parts) for key, parts in lines.items()]
    if len(ordered) > MAX_LINES:
        text.append(f"and {len(ordered) - MAX_LINES} more")
    return "\n".join(text)


def _line(scope: Scope, severity: Severity, reason: str, parts: Iterable[str]) -> str:
    return f"{severity.name.capitalize()}: {where(scope)}{', '.join(parts)}: {reason}"


def worst_first(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Return the alarms by falling severity, else in their order."""
    return sorted(alarms, key=lambda alarm: -alarm.reading.severity)


def with_reasons(ordered: Iterable[Alarm], fleet: Fleet) -> list[tuple[Alarm, str]]:
    """Return each alarm with its reason; a cause goes before what is INVALID because of it.

    That has the same scope and reason: the free disk of a host is not known where its data router is gone.
    """
    found = [(alarm, reason_of(alarm, fleet)) for alarm in ordered]
    places: dict[tuple[Scope, str], int] = {}
    for place, (alarm, reason) in enumerate(found):
        places.setdefault((alarm.entry.scope, reason), place)
    return sorted(
        found,
        key=lambda one: (places[one[0].entry.scope, one[1]], one[0].reading.severity is Severity.INVALID),
    )


def reason_of(alarm: Alarm, fleet: Fleet) -> str:
    """Return why a PV is in alarm, in one line."""
    return " ".join(_reason(alarm, fleet).split())


def _reason(alarm: Alarm, fleet: Fleet) -> str:
    row, value = alarm.entry.row, alarm.reading.value
    if alarm.stated:
        return alarm.stated
    try:
        reason = row.reason(fleet, alarm.entry.scope) if row.reason else ""
    except Exception as error:  # a plugin's fault; the alarm itself must still be shown
        reason = f"its reason is unknown: {error!r}"
    return reason or f"{row.desc}: {as_people_read(alarm.entry, value)}"


def where(scope: Scope) -> str:
    """Return the part of a PV name before its last part, without the prefix."""
    return {
        ScopeKind.SYSTEM: "",
        ScopeKind.RUN: "Run:",
        ScopeKind.IOC: "IOC:",
        ScopeKind.PLUGIN: f"Plugin:{scope.name}:",
    }.get(scope.kind, f"{scope.name}:")


def as_people_read(entry: PvEntry, value: object) -> str:
    """Return a value for people: the label of a number, a list with commas, a number with its unit."""
    row = entry.row
    if row.labels and isinstance(value, int) and 0 <= value < len(row.labels):
        return row.labels[value]
    if isinstance(value, (tuple, list)):
        return ", ".join(str(item) for item in value)
    text = f"{value:.{row.precision}f}" if isinstance(value, float) else str(value)
    return f"{text} {row.units}" if row.units else text
