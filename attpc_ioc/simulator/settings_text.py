"""The settings file of an IOC for a simulated fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .data.settings_text import SECTION, data_routers_text

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
    lines = ["[ioc]", f"prefix = {json.dumps(prefix)}"]
    if state_dir is not None:
        lines.append(f"state_dir = {json.dumps(str(state_dir))}")
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
            f"name = {json.dumps(plan.name)}",
            f"host = {json.dumps(server.host)}",
            f"port = {server.port}",
            f"kind = {json.dumps(plan.kind.value)}",
            f"describe = {json.dumps(plan.describe)}",
        ]
        for link in fleet.links(plan.name):
            lines += [
                "[[ecc.source]]",
                f"id = {json.dumps(link.sender)}",
                "[[ecc.source.link]]",
                f"name = {json.dumps(link.router)}",
                f"address = {json.dumps(link.address)}",
                f"port = {link.port}",
                f"type = {json.dumps(link.type)}",
            ]
    return "\n".join([*lines, ""])
