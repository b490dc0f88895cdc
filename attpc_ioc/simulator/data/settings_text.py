"""The tables `[plugins.data_routers]` of an IOC's settings, for simulated data hosts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .hosts import DataHosts
from .options import Access

SECTION = "plugins.data_routers"


def data_routers_text(hosts: DataHosts, xcfg: Path, ecc_logs: Mapping[str, Path], extra: str = "") -> str:
    """Return TOML: how each router's host and each ECC server's files are reached.

    `ecc_logs` are the log files by the name of the ECC server; `extra` are further lines of the section.
    """
    lines = [f"[{SECTION}]", *_ways_in(hosts), *([extra] if extra else [])]
    for host in hosts:
        lines += [
            "",
            f"[[{SECTION}.router]]",
            f"sources = [{json.dumps(host.source)}]",
            f"access = {json.dumps(host.access.value)}",
        ]
        if host.gate is not None:
            lines += [f"host = {json.dumps(host.gate.host)}", f"port = {host.gate.port}"]
        if host.access is Access.LOCAL:
            # The router is no process of this machine: there is none to be looked for.
            lines.append('process = ""')
        if host.access is not Access.SENTRY:
            lines.append(f"staging = {json.dumps(str(host.staging))}")
            lines.append(f"log = {json.dumps(str(host.log.path))}")
    for name, path in ecc_logs.items():
        lines += [
            "",
            f"[[{SECTION}.ecc]]",
            f"names = [{json.dumps(name)}]",
            f"access = {json.dumps(Access.LOCAL.value)}",
            f"xcfg = {json.dumps(str(xcfg.absolute()))}",
            f"log = {json.dumps(str(path))}",
        ]
    return "\n".join(lines)


def _ways_in(hosts: DataHosts) -> list[str]:
    keys = hosts.ssh_keys
    if keys is None:
        return []
    return [
        f"ssh_config = {json.dumps(str(keys.config))}",
        f"known_hosts = {json.dumps(str(keys.known_hosts))}",
    ]
