"""The settings file of an IOC for a simulated fleet."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from .data.settings_tables import data_routers_tables

if TYPE_CHECKING:
    from .fleet import SimulatedFleet


def settings_text(
    fleet: SimulatedFleet,
    prefix: str,
    state_dir: str | Path | None,
    sections: Mapping[str, str],
    data_routers: bool,
) -> str:
    """Return TOML; `sections` are further keys by section, `data_routers` adds the tables of its data hosts.

    Raises `tomllib.TOMLDecodeError` for a section that is not TOML.
    """
    document: dict[str, Any] = {"ioc": {"prefix": prefix}}
    if state_dir is not None:
        document["ioc"]["state_dir"] = str(state_dir)
    for name, text in sections.items():
        _merge(document, tomllib.loads(f"[{name}]\n{text}"))
    if data_routers:
        tables = data_routers_tables(fleet.data, fleet.xcfg.path, fleet.ecc_logs)
        _merge(document, {"plugins": {"data_routers": tables}})
    document["ecc"] = [
        {
            "name": plan.name,
            "host": fleet[plan.name].host,
            "port": fleet[plan.name].port,
            "kind": plan.kind.value,
            "describe": plan.describe,
            "source": [
                {
                    "id": link.sender,
                    "link": [
                        {"name": link.router, "address": link.address, "port": link.port, "type": link.type}
                    ],
                }
                for link in fleet.links(plan.name)
            ],
        }
        for plan in fleet.plans
    ]
    return tomlkit.dumps(document)


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add keys to nested tables, and tables to lists of them."""
    for key, value in more.items():
        if isinstance(value, dict) and key in into:
            _merge(into[key], value)
        elif isinstance(value, list) and key in into:
            into[key] = into[key] + value
        else:
            into[key] = value
