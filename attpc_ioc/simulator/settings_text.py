"""The settings file of an IOC for a simulated fleet."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from .documents import Link


def settings_text(
    prefix: str,
    state_dir: str | Path | None,
    ecc: Sequence[Mapping[str, Any]],
    sections: Mapping[str, str],
    data_routers: Mapping[str, Any] | None = None,
) -> str:
    """Return TOML: `ecc` are the tables of the servers, `data_routers` is the table of that plugin.

    `sections` are further keys by section, as TOML.
    Raises `tomllib.TOMLDecodeError` for a section that is not TOML.
    """
    document: dict[str, Any] = {"ioc": {"prefix": prefix}}
    if state_dir is not None:
        document["ioc"]["state_dir"] = str(state_dir)
    for name, text in sections.items():
        _merge(document, tomllib.loads(f"[{name}]\n{text}"))
    if data_routers:
        _merge(document, {"plugins": {"data_routers": data_routers}})
    document["ecc"] = list(ecc)
    return tomlkit.dumps(document)


def source_table(link: Link) -> dict[str, Any]:
    """Return the table of a data source with its link."""
    router = {"name": link.router, "address": link.address, "port": link.port, "type": link.type}
    return {"id": link.sender, "link": [router]}


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add keys to nested tables, and tables to lists of them."""
    for key, value in more.items():
        if isinstance(value, dict) and key in into:
            _merge(into[key], value)
        elif isinstance(value, list) and key in into:
            into[key] = into[key] + value
        else:
            into[key] = value
