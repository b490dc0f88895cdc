"""Interfaces by PVI: commands, setpoints and readbacks, for programs that build themselves from them.

PVI is read by ophyd-async (`PviDeviceConnector`); the names here become its attributes.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Sequence

from attpc_ioc.model.command import RUN, SYSTEM, Scope, ScopeKind
from attpc_ioc.pva import Form, Interface
from attpc_ioc.pvs.row import Record, full_name
from attpc_ioc.pvs.table import PvEntry

PVI = "PVI"
ECC, SOURCES = "Ecc", "Sources"
"""`$(P)Ecc:PVI` names the ECC servers, `$(P)Sources:PVI` the data sources."""

_READBACK = "_RBV"

Entries = dict[str, dict[str, str]]


def interfaces(
    table: Sequence[PvEntry], tables: Iterable[str], form_of: Callable[[PvEntry], Form]
) -> tuple[Interface, ...]:
    """Return the interfaces of the system, of the run, of each ECC server and of each data source.

    `tables` are the full names of the tables, `form_of` returns how a PV is carried.
    """
    prefix = table[0].name.removesuffix(table[0].row.part)
    by_scope: dict[Scope, list[PvEntry]] = {}
    for entry in table:
        by_scope.setdefault(entry.scope, []).append(entry)

    def described(scope: Scope, desc: str) -> Interface:
        return Interface(full_name(prefix, scope, PVI), desc, _entries(by_scope[scope], form_of))

    def group(kind: ScopeKind, name: str, each: str) -> tuple[Interface, ...]:
        scopes = [scope for scope in by_scope if scope.kind is kind]
        parts: Entries = {}
        for scope in scopes:
            _add(parts, _identifier(scope.name), {"d": full_name(prefix, scope, PVI)})
        whole = Interface(f"{prefix}{name}:{PVI}", f"Each {each}", parts)
        return (whole, *(described(scope, f"The {each} {scope.name}") for scope in scopes))

    servers = group(ScopeKind.ECC, ECC, "ECC server")
    sources = group(ScopeKind.SOURCE, SOURCES, "data source")
    run = described(RUN, "The run")
    parts = {"run": {"d": run.name}, "ecc": {"d": servers[0].name}, "sources": {"d": sources[0].name}}
    for name in tables:
        _add(parts, _attribute(name.removeprefix(prefix)), {"r": name})
    for attribute, ways in _entries(by_scope[SYSTEM], form_of).items():
        _add(parts, attribute, ways)
    system = Interface(full_name(prefix, SYSTEM, PVI), "Run control of the AT-TPC", parts)
    return (system, run, *servers, *sources)


def _entries(entries: Iterable[PvEntry], form_of: Callable[[PvEntry], Form]) -> Entries:
    """Return what one scope has; a setpoint and its readback of the same form are one entry."""
    of_part = {entry.row.part: entry for entry in entries if entry.used}
    found: Entries = {}
    for part, entry in of_part.items():
        readback = of_part.get(part + _READBACK)
        setpoint = of_part.get(part.removesuffix(_READBACK))
        if readback is not None and form_of(readback) is form_of(entry):
            _add(found, _attribute(part), {"r": readback.name, "w": entry.name})
        elif entry.row.command is not None and entry.row.record is Record.BO:
            # Not the bare verb: Bluesky has meanings of its own for `stop`, `prepare` and `describe`.
            _add(found, f"do_{_attribute(part)}", {"x": entry.name})
        elif entry.row.writable:
            _add(found, _attribute(part), {"rw": entry.name})
        elif setpoint is None or setpoint is entry or form_of(setpoint) is not form_of(entry):
            _add(found, _attribute(part), {"r": entry.name})
    return found


def _add(found: Entries, name: str, ways: dict[str, str]) -> None:
    while name in found:
        name += "_"
    found[name] = ways


def _attribute(part: str) -> str:
    """Return `disk_free` for `DiskFree_RBV`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part.removesuffix(_READBACK))
    name = _identifier(words.lower())
    return f"run_{name}" if keyword.iskeyword(name) else name


def _identifier(name: str) -> str:
    found = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{found}" if found[:1].isdigit() else found
