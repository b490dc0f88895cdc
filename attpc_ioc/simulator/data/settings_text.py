"""The tables `[plugins.data_routers]` of an IOC's settings, for simulated data hosts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .hosts import DataHosts
from .options import Access

SECTION = "plugins.data_routers"


def quoted(text: str) -> str:
    """Return a text as TOML has it; its escapes are JSON's, which has some that TOML has not."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def data_routers_text(hosts: DataHosts, xcfg: Path, ecc_logs: Mapping[str, Path], extra: str = "") -> str:
    """Return TOML: how each router's host and each ECC server's files are reached.

    `ecc_logs` are the log files by the name of the ECC server; `extra` are further lines of the section.
    """
    lines = [f"[{SECTION}]", *_ways_in(hosts), *([extra] if extra else [])]
    for host in hosts:
        lines += [
            "",
            f"[[{SECTION}.router]]",
            f"sources = [{quoted(host.source)}]",
            f"access = {quoted(host.access.value)}",
        ]
        if host.gate is not None:
            lines += [f"host = {quoted(host.gate.host)}", f"port = {host.gate.port}"]
        if host.access is Access.LOCAL:
            # The router is no process of this machine: there is none to be looked for.
            lines.append('process = ""')
        if host.access is not Access.SENTRY:
            lines.append(f"staging = {quoted(str(host.staging))}")
            lines.append(f"log = {quoted(str(host.log.path))}")
    for name, path in ecc_logs.items():
        lines += [
            "",
            f"[[{SECTION}.ecc]]",
            f"names = [{quoted(name)}]",
            f"access = {quoted(Access.LOCAL.value)}",
            f"xcfg = {quoted(str(xcfg.absolute()))}",
            f"log = {quoted(str(path))}",
        ]
    return "\n".join(lines)


def _ways_in(hosts: DataHosts) -> list[str]:
    keys = hosts.ssh_keys
    if keys is None:
        return []
    return [
        f"ssh_config = {quoted(str(keys.config))}",
        f"known_hosts = {quoted(str(keys.known_hosts))}",
    ]
