"""The PV table: every row in every scope that a fleet has, with its full name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attpc_ioc.errors import SettingsError
from attpc_ioc.model.command import IOC, RUN, SYSTEM, Scope, ScopeKind, ecc_scope
from attpc_ioc.model.names import FleetNames

from . import ecc, ioc, plugin, run, source, system
from .row import Archive, Row, full_name

MAX_NAME = 60
"""Characters of a full name, as the PV contract promises; EPICS base itself takes 60 too."""

MAX_DESC = 40
"""Bytes of a description: the size of the DESC field."""


@dataclass(frozen=True, slots=True)
class PvEntry:
    """One PV: its row, its scope and its full name."""

    row: Row
    scope: Scope
    name: str

    @property
    def used(self) -> bool:
        """Whether the row is used in this scope."""
        return self.row.used_in is None or self.scope.name in self.row.used_in

    @property
    def in_alarm_tree(self) -> bool:
        """Whether an alarm server watches it."""
        return self.row.alarm_tree and self.used

    @property
    def archive(self) -> Archive:
        """How the archiver samples it."""
        return self.row.archive if self.used else Archive.NONE

    @property
    def reason_row(self) -> str:
        """The full name of the PV whose text has the reason of its alarm; empty for none."""
        part = self.row.reason_row
        return self.name.removesuffix(self.row.part) + part if part else ""


CORE_ROWS: dict[ScopeKind, tuple[Row, ...]] = {
    ScopeKind.SYSTEM: system.ROWS,
    ScopeKind.ECC: ecc.ROWS,
    ScopeKind.SOURCE: source.ROWS,
    ScopeKind.RUN: run.ROWS,
    ScopeKind.IOC: ioc.ROWS,
    ScopeKind.PLUGIN: plugin.ROWS,
}
"""The core's rows by the kind of their scope; `build_table` inserts limits that are settings."""


def build_table(
    prefix: str,
    fleet: FleetNames,
    slow_poll_s: float,
    plugin_rows: Iterable[Row] = (),
    plugins: Iterable[str] = (),
) -> tuple[PvEntry, ...]:
    """Return every PV of a fleet, in the order of the PV contract; `slow_poll_s` is the limit of `ecc.rows`.

    `plugin_rows` are the plugins' own rows; one of kind `ecc` or `source` makes a PV for every ECC server or
    data source, one of kind `plugin` for the plugin that owns it. `plugins` are the names of all plugins,
    each of which gets its status rows.

    Raises `SettingsError` with every duplicate, every name that is too long and every malformed row.
    """
    own = tuple(plugin_rows)
    names = tuple(dict.fromkeys([*plugins, *(row.plugin for row in own if row.plugin)]))
    scopes = _scopes(fleet, names)
    entries: list[PvEntry] = []
    rows_of = {**CORE_ROWS, ScopeKind.ECC: ecc.rows(slow_poll_s)}
    for kind, core in rows_of.items():
        for scope in scopes[kind]:
            rows = [*core, *(row for row in own if _belongs(row, scope))]
            entries += (PvEntry(row, scope, full_name(prefix, scope, row.part)) for row in rows)
    if faults := list(_faults(entries)):
        raise SettingsError("PV table", faults)
    return tuple(entries)


def _scopes(fleet: FleetNames, plugins: tuple[str, ...]) -> dict[ScopeKind, tuple[Scope, ...]]:
    return {
        ScopeKind.SYSTEM: (SYSTEM,),
        ScopeKind.ECC: tuple(ecc_scope(name) for name in fleet.ecc_servers),
        ScopeKind.SOURCE: tuple(Scope(ScopeKind.SOURCE, name) for name in fleet.sources),
        ScopeKind.RUN: (RUN,),
        ScopeKind.IOC: (IOC,),
        ScopeKind.PLUGIN: tuple(Scope(ScopeKind.PLUGIN, name) for name in plugins),
    }


def _belongs(row: Row, scope: Scope) -> bool:
    if row.scope is not scope.kind:
        return False
    return row.scope is not ScopeKind.PLUGIN or row.plugin == scope.name


def _faults(entries: list[PvEntry]) -> Iterator[str]:
    seen: dict[str, PvEntry] = {}
    for entry in entries:
        owner = f" (plugin {entry.row.plugin})" if entry.row.plugin else ""
        if entry.name in seen:
            yield f"{entry.name}: there are two PVs of this name{owner}"
        seen[entry.name] = entry
        if len(entry.name) > MAX_NAME:
            yield (
                f"{entry.name}: a PV name has at most {MAX_NAME} characters, this has {len(entry.name)}: "
                f"shorten the prefix or the name of the {entry.scope.kind}{owner}"
            )
        if len(entry.row.desc.encode()) > MAX_DESC:
            yield f"{entry.name}: a description has at most {MAX_DESC} bytes{owner}"
        if any(len(label.encode()) > 25 for label in entry.row.labels) or len(entry.row.labels) > 16:
            yield f"{entry.name}: at most 16 labels of at most 25 bytes{owner}"
