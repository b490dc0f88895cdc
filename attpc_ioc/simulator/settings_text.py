"""The settings file of an IOC for a simulated fleet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .data.settings_text import SECTION, data_routers_text, quoted

if TYPE_CHECKING:
    from .fleet import SimulatedFleet


def settings_text(
    fleet: SimulatedFleet,
    prefix: str,
    state_dir: str | Path | None,
    sections: Mapping[str, str],
    data_routers: bool,
) -> str:
    """Return TOML; `sections` are further lines by section, `data_routers` adds those of its data hosts."""
    lines = ["[ioc]", f"prefix = {quoted(prefix)}"]
    if state_dir is not None:
        lines.append(f"state_dir = {quoted(str(state_dir))}")
    if "ioc" in sections:
        lines.append(sections["ioc"])
    for name, text in sections.items():
        if name != "ioc" and not (data_routers and name == SECTION):
            lines += ["", f"[{name}]", text]
    if data_routers:
        extra = sections.get(SECTION, "")
        lines += ["", data_routers_text(fleet.data, fleet.xcfg.path, fleet.ecc_logs, extra)]
    for plan in fleet.plans:
        server = fleet[plan.name]
        lines += [
            "",
            "[[ecc]]",
            f"name = {quoted(plan.name)}",
            f"host = {quoted(server.host)}",
            f"port = {server.port}",
            f"kind = {quoted(plan.kind.value)}",
            f"describe = {quoted(plan.describe)}",
        ]
        for link in fleet.links(plan.name):
            lines += [
                "[[ecc.source]]",
                f"id = {quoted(link.sender)}",
                "[[ecc.source.link]]",
                f"name = {quoted(link.router)}",
                f"address = {quoted(link.address)}",
                f"port = {link.port}",
                f"type = {quoted(link.type)}",
            ]
    return "\n".join([*lines, ""])
