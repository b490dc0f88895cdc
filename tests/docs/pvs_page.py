"""The reference page of the PVs, generated from the rows of the PV table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attpc_ioc.export.pvs_list import type_name
from attpc_ioc.model.command import COMMANDS, ScopeKind
from attpc_ioc.pvs import ecc
from attpc_ioc.pvs.common import ALLOWED
from attpc_ioc.pvs.row import AccessGroup, Limits, Record, Row
from attpc_ioc.pvs.table import CORE_ROWS
from attpc_ioc.pvs.tables import ALARM_COLUMNS, ALARMS, NAME, SEVERITY, column_name
from attpc_ioc.settings import LimitSettings, PollSettings
from tests.docs.included import included_plugins, rows_of

HEAD = """# Process variables

Generated from the PV table of the program. `$(P)` is the prefix, a setting. `attpc-ioc pvs FILE` lists the
PVs of your own settings and plugins; `--json` and `--csv` are for other programs. The PVs of the included
plugins are in tables of their own below those of the program; what they mean is in
[the data routers](../how-to/data-routers.md) and [the run history](../how-to/run-history.md).

- A PV that ends in `_RBV` cannot be written; **w** marks those that can; those for experts are in a
  group of their own for [access security](../how-to/access.md). A *command* is a `bo`: write 1, it
  reads `Busy` while it runs and `Done` after. Put with completion (`caput -c -w 300`): it returns when the
  command is done, and fails if the command was refused or failed; `Message_RBV` says why.
- *Long text* is a CHAR waveform of UTF-8 (`caget -S`, `caput -S`).
- Time stamps are of the last change. A value that an ECC server reported keeps its last value, INVALID with
  COMM, while the server is not reachable; the PVs of a disabled ECC server, except `Enable`, have no alarms.
- In *alarms*, a label is followed by its severity; **A** marks the PVs of the alarm tree. Limits
  that are settings are shown with their defaults.
"""

SECTIONS: dict[ScopeKind, tuple[str, str]] = {
    ScopeKind.SYSTEM: ("System, `$(P)`", "All enabled ECC servers together."),
    ScopeKind.ECC: ("ECC server, `$(P)Ecc:<ecc>:`", "One for each `[[ecc]]` of the settings."),
    ScopeKind.SOURCE: ("Data source, `$(P)<source>:`", "One for each CoBo and MuTAnT."),
    ScopeKind.RUN: ("Run, `$(P)Run:`", "Run control."),
    ScopeKind.IOC: (
        "IOC, `$(P)IOC:`",
        "The names of devIocStats, with its types. `TOD` and `UPTIME` change every second; "
        "watch `HEARTBEAT`.",
    ),
    ScopeKind.PLUGIN: ("Plugin, `$(P)Plugin:<name>:`", "Two for each plugin, and the plugin's own."),
}

TABLES = """## Tables, over PVAccess only

The columns are PVs of the tables above, by the last part of their names; see [PVAccess](pvaccess.md).
"""

ROWS_OF = {
    ScopeKind.SYSTEM: "elements of arrays",
    ScopeKind.ECC: "ECC servers",
    ScopeKind.SOURCE: "data sources that use one of the columns",
}


def pvs_page() -> str:
    """Return the page as Markdown."""
    blocks = [HEAD]
    rows = {**CORE_ROWS, ScopeKind.ECC: ecc.rows(min(LimitSettings().freshness_s, PollSettings().timeout_s))}
    for kind, (title, text) in SECTIONS.items():
        blocks += [f"## {title}\n", f"{text}\n", "\n".join(_table(rows[kind])) + "\n"]
        if kind in COMMANDS:
            bits = ", ".join(f"{bit} `{name}`" for bit, name in enumerate(COMMANDS[kind]))
            blocks.append(f"Bits of `Allowed_RBV`: {bits}.\n")
        blocks += _advice(rows[kind])
        for name, plugin in included_plugins():
            if own := tuple(row for row in rows_of(plugin) if row.scope is kind):
                blocks += [f"Of the plugin `{name}`:\n", "\n".join(_table(own)) + "\n", *_advice(own)]
    blocks += [TABLES, "\n".join(_tables(rows)) + "\n"]
    return "\n".join(blocks)


def _tables(core: dict[ScopeKind, tuple[Row, ...]]) -> Iterator[str]:
    """Yield the tables of PVAccess with their columns."""
    yield "| table | rows | columns |"
    yield "|---|---|---|"
    every = [*core.values(), *(tuple(rows_of(plugin)) for _, plugin in included_plugins())]
    columns: dict[tuple[str, ScopeKind], list[str]] = {}
    for row in (row for rows in every for row in rows if row.table):
        columns.setdefault((row.table, row.scope), []).append(column_name(row.part))
    for (table, kind), names in sorted(columns.items()):
        first = [] if kind is ScopeKind.SYSTEM else [NAME, SEVERITY]
        yield f"| `$(P){table}` | {ROWS_OF[kind]} | {_names([*first, *names])} |"
    in_alarm = "PVs of the alarm tree that are in alarm, the worst first"
    yield f"| `$(P){ALARMS}` | {in_alarm} | {_names(ALARM_COLUMNS)} |"


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def _table(rows: tuple[Row, ...]) -> Iterator[str]:
    yield "| PV | | type | meaning | labels and units | alarms |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        kind = "command" if row.command and row.record is Record.BO else type_name(row.record)
        mark = _mark(row)
        yield f"| `{row.part}` | {mark} | {kind} | {row.desc} | {_labels(row)} | {_alarms(row)} |"


def _mark(row: Row) -> str:
    if not row.writable:
        return ""
    return "w, expert" if row.access_group is AccessGroup.EXPERT else "w"


def _labels(row: Row) -> str:
    if row.command and row.record is Record.BO:
        return ""
    if row.labels:
        return ", ".join(f"`{number} {label}`" for number, label in enumerate(row.labels))
    return row.units


def _alarms(row: Row) -> str:
    parts = ["**A**"] if row.alarm_tree else []
    parts += [f"{row.labels[number]} {severity.name}" for number, severity in row.severities.items()]
    parts += list(_limits(row.limits))
    return ", ".join(parts)


def _limits(limits: Limits) -> Iterator[str]:
    for sign, limit, severity in (
        (">=", limits.hihi, "MAJOR"),
        (">=", limits.high, "MINOR"),
        ("<=", limits.low, "MINOR"),
        ("<=", limits.lolo, "MAJOR"),
    ):
        if limit is not None:
            yield f"{sign} {limit:g} {severity}"


def _advice(rows: tuple[Row, ...]) -> list[str]:
    lines = [f"- `{row.part}`: {row.guidance}" for row in rows if row.guidance and row.part != ALLOWED]
    return ["\n".join(lines) + "\n"] if lines else []
