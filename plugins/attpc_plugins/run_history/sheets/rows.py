"""The rows of the observables, `$(P)Obs:<name>`."""

from __future__ import annotations

from collections.abc import Iterable

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.printable import one_line
from attpc_ioc.pvs.row import Archive, Record, Row
from attpc_plugins.run_history.store.model.values import Value, ValueKind

from .names import PREFIX
from .reading import TEXT_MAX
from .settings import ObservableSettings

DESC_MAX = 40
"""Bytes of a PV's description."""

RECORDS = {ValueKind.INTEGER: Record.LONGOUT, ValueKind.FLOAT: Record.AO, ValueKind.STRING: Record.LONG_TEXT}
INITIAL: dict[ValueKind, Value] = {ValueKind.INTEGER: 0, ValueKind.FLOAT: 0.0, ValueKind.STRING: ""}


def observable_rows(items: Iterable[ObservableSettings]) -> list[Row]:
    """Return the rows of these observables; all can be written."""
    return [
        Row(
            f"{PREFIX}{item.name}",
            ScopeKind.SYSTEM,
            RECORDS[item.type],
            _description(item),
            units=one_line(item.units),
            precision=6 if item.type is ValueKind.FLOAT else 0,
            setpoint=item.name,
            max_chars=TEXT_MAX,
            elements=4 * TEXT_MAX + 1,
            initial=INITIAL[item.type],
            archive=Archive.MONITOR,
        )
        for item in items
    ]


def _description(item: ObservableSettings) -> str:
    text = item.comment.splitlines()[0] if item.comment.strip() else f"Observable {item.name}"
    return one_line(text).encode()[:DESC_MAX].decode("utf-8", "ignore")
