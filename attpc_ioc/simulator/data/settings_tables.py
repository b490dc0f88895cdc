"""The section `[plugins.data_routers]` of an IOC's settings, for simulated data hosts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .hosts import DataHosts
from .options import PROCESS, Access


def data_routers_tables(hosts: DataHosts, xcfg: Path, ecc_logs: Mapping[str, Path]) -> dict[str, Any]:
    """Return the section's keys: how each router's host and each ECC server's files are reached.

    `ecc_logs` are the log files by ECC server name.
    """
    section: dict[str, Any] = {}
    if (keys := hosts.ssh_keys) is not None:
        section = {"ssh_config": str(keys.config), "known_hosts": str(keys.known_hosts)}
    section["router"] = routers = []
    for host in hosts:
        router: dict[str, Any] = {"sources": [host.source], "access": host.access.value}
        if host.gate is not None:
            router |= {"host": host.gate.host, "port": host.gate.port}
        if host.access is Access.LOCAL:
            # The router is not a process of this machine.
            router["process"] = ""
        elif host.options.process != PROCESS:
            router["process"] = host.options.process
        if host.access is not Access.SENTRY:
            router |= {"staging": str(host.staging), "log": str(host.log.path)}
        routers.append(router)
    section["ecc"] = [
        {"names": [name], "access": Access.LOCAL.value, "xcfg": str(xcfg.absolute()), "log": str(path)}
        for name, path in ecc_logs.items()
    ]
    return section
