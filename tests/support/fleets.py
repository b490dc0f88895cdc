"""Settings and snapshots of fleets for tests of the PV table and of the records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from attpc_ioc.model.fleet import Fleet, ModuleView, SourceView
from attpc_ioc.model.run import RunState, RunView
from attpc_ioc.model.states import Kind, State
from attpc_ioc.pvs.row import Row
from attpc_ioc.pvs.table import PvEntry, build_table
from attpc_ioc.settings import Settings


def make_settings(cobos: int = 1, prefix: str = "T:", **ioc: object) -> Settings:
    """Return settings with `cobos` ECC servers named cobo0 ... and one named mutant."""
    servers = [_server(f"cobo{i}", "cobo", f"CoBo[{i}]", 9000 + i) for i in range(cobos)]
    servers.append(_server("mutant", "mutant", "Mutant[master]", 8999))
    return Settings.model_validate({"ioc": {"prefix": prefix, **ioc}, "ecc": servers})


def _server(name: str, kind: str, sender: str, port: int) -> dict[str, object]:
    link = {"name": "router", "address": "127.0.0.1"}
    return {
        "name": name,
        "host": "127.0.0.1",
        "port": port,
        "kind": kind,
        "source": [{"id": sender, "link": [link]}],
    }


def table_of(
    settings: Settings, rows: Iterable[Row] = (), plugins: Iterable[str] = ()
) -> tuple[PvEntry, ...]:
    """Return the PV table of settings, with rows of plugins and their names."""
    return build_table(settings.ioc.prefix, settings.fleet_names, settings.slow_poll_s, rows, plugins)


def make_module(settings: Settings, name: str, **changes: object) -> ModuleView:
    """Return the view of a module as it is before its first poll, with `changes`."""
    server = next(server for server in settings.ecc if server.name == name)
    sources = tuple(SourceView(board.pv_name, board.id, name) for board in server.source)
    module = ModuleView(name, Kind(server.kind), server.url, server.host, sources)
    return replace(module, **changes)  # type: ignore[arg-type]


def make_fleet(settings: Settings, state: State = State.IDLE, **changes: object) -> Fleet:
    """Return a fleet with all modules in one state, no run on and nothing at work, with `changes`."""
    seen = None if state is State.OFFLINE else state
    modules = [make_module(settings, s.name, state=state, last_state=seen) for s in settings.ecc]
    return replace(Fleet(as_mapping(modules), RunView(RunState.STOPPED)), **changes)  # type: ignore[arg-type]


def with_module(fleet: Fleet, name: str, **changes: object) -> Fleet:
    """Return the fleet with one module changed."""
    module = replace(fleet.modules[name], **changes)  # type: ignore[arg-type]
    return replace(fleet, modules=MappingProxyType({**fleet.modules, name: module}))


def as_mapping(modules: Iterable[ModuleView]) -> MappingProxyType[str, ModuleView]:
    """Return modules as a fleet has them."""
    return MappingProxyType({module.name: module for module in modules})
