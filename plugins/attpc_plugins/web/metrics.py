"""`/metrics`: every PV that is a number, as Prometheus text (version 0.0.4).

A number that is not known (severity INVALID, or not a number) has no sample: an old value would look new.
Enums have a label for that, such as Offline, and always have a sample.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.states import Severity
from attpc_ioc.plugin.contract import PvSurface
from attpc_ioc.pvs.row import Record, Shown
from attpc_ioc.pvs.table import PvEntry

from .shown import ENUMS, NUMERIC

MEDIA = "text/plain; version=0.0.4"

_LABEL = {ScopeKind.ECC: "ecc", ScopeKind.SOURCE: "source", ScopeKind.PLUGIN: "plugin"}
_NO_NAME = re.compile(r"[^a-zA-Z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def metric_name(entry: PvEntry) -> str:
    """Return the name of the metric of a PV, such as `attpc_source_router_rate` for `Router:Rate_RBV`.

    A name that ends with `_count` would be that of a histogram: `Log:Count_RBV` is `attpc_log_number`.
    """
    scope = "" if entry.scope.kind is ScopeKind.SYSTEM else f"{entry.scope.kind}_"
    part = _CAMEL.sub("_", entry.row.part.removesuffix("_RBV"))
    setting = "" if entry.row.part.endswith("_RBV") or not entry.row.writable else "_setting"
    name = f"attpc_{scope}{_NO_NAME.sub('_', part).strip('_').lower()}{setting}"
    return re.sub("_count$", "_number", name)


class Metrics:
    """The metrics of a PV table."""

    def __init__(self, pvs: PvSurface) -> None:
        self._pvs = pvs
        self._names: dict[str, list[PvEntry]] = {}
        for entry in pvs.table.values():
            row = entry.row
            if row.record in NUMERIC and row.command is None and entry.used:
                self._names.setdefault(metric_name(entry), []).append(entry)

    def text(self, hidden: frozenset[str] = frozenset()) -> str:
        """Return all samples."""
        return "\n".join(self._lines(hidden)) + "\n"

    def _lines(self, hidden: frozenset[str]) -> Iterator[str]:
        for name, entries in self._names.items():
            row = entries[0].row
            about = row.desc + (f" ({row.units})" if row.units else "")
            if row.labels:
                about += ": " + ", ".join(f"{number} {label}" for number, label in enumerate(row.labels))
            samples = []
            for entry in entries:
                shown = None if entry.name in hidden else self._pvs.read(entry.name)
                if shown is None or not _is_known(entry.row.record, shown):
                    continue
                label = _LABEL.get(entry.scope.kind)
                where = f'{{{label}="{_escaped(entry.scope.name)}"}}' if label else ""
                samples.append(f"{name}{where} {shown.value!r}")
            if samples:
                yield f"# HELP {name} {_escaped(about)}"
                yield f"# TYPE {name} gauge"
                yield from samples
        yield "# HELP attpc_alarm_severity Alarms: 1 MINOR, 2 MAJOR, 3 INVALID"
        yield "# TYPE attpc_alarm_severity gauge"
        for entry in self._pvs.table.values():
            if entry.in_alarm_tree and entry.name not in hidden:
                severity = self._pvs.read(entry.name).severity
                yield f'attpc_alarm_severity{{pv="{_escaped(entry.name)}"}} {int(severity)}'


def _is_known(record: Record, shown: Shown) -> bool:
    if record in ENUMS:
        return isinstance(shown.value, int)
    finite = isinstance(shown.value, int | float) and math.isfinite(shown.value)
    return finite and shown.severity is not Severity.INVALID


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
