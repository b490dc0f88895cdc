"""The entry in ChannelFinder: what recceivers get of the PV table, and how far they are."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from attpc_ioc.errors import AttpcError, system_reason
from attpc_ioc.ioc.records import FORMS
from attpc_ioc.pvs.row import Archive
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.recsync import RecordInfo, RecSyncClient, State, Times, bound_socket
from attpc_ioc.settings import ChannelFinderSettings, Settings

ASK = "channel_finder"
"""The `ask` of the question how far the upload is."""

ENVIRONMENT = (
    "EPICS_BASE",
    "TOP",
    "ARCH",
    "IOC",
    "EPICS_CA_ADDR_LIST",
    "EPICS_CA_AUTO_ADDR_LIST",
    "EPICS_CA_MAX_ARRAY_BYTES",
    "PWD",
    "EPICS_HOST_ARCH",
    "IOCNAME",
    "ENGINEER",
    "LOCATION",
)
"""The variables that RecCaster of EPICS IOCs sends if they are set, and recceivers know by these names."""


def records_of(table: Sequence[PvEntry]) -> tuple[RecordInfo, ...]:
    """Return every PV with its type and info tags.

    `recordDesc` is its description. `archive` is its sampling method and period in seconds, such as
    `monitor@0.1`: ChannelFinder's processor for the Archiver Appliance reads it. `alarm` is what the alarm
    tree says of it, for a PV of that tree.
    """
    return tuple(RecordInfo(entry.name, FORMS[entry.row.record].rtyp, infos=_infos(entry)) for entry in table)


def _infos(entry: PvEntry) -> Mapping[str, str]:
    row = entry.row
    archived = entry.archive is not Archive.NONE
    return {
        "recordDesc": row.desc,
        "archive": f"{entry.archive.value}@{row.archive_period_s:g}" if archived else "",
        "alarm": (row.alarm.says or row.desc) if entry.in_alarm_tree else "",
    }


def ioc_infos(
    settings: Settings, ca_port: int, pva_port: int | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return what recceivers get about the IOC; `pva_port` is None if PVAccess is not served."""
    infos = {"HOSTNAME": environ.get("HOSTNAME") or socket.gethostname()}
    infos |= {name: environ[name] for name in ENVIRONMENT if environ.get(name)}
    infos["IOCNAME"] = settings.channel_finder.ioc_name or environ.get("IOCNAME") or settings.ioc.prefix[:-1]
    contact = {"ENGINEER": settings.ioc.engineer, "LOCATION": settings.ioc.location}
    infos |= {name: value for name, value in contact.items() if value}
    infos["RSRV_SERVER_PORT"] = str(ca_port)
    if pva_port is not None:
        infos["PVAS_SERVER_PORT"] = str(pva_port)
    return infos


def networks(section: ChannelFinderSettings) -> tuple[IPv4Network, ...] | None:
    """Return where recceivers may be; None: anywhere."""
    return None if section.servers is None else tuple(IPv4Network(one) for one in section.servers)


def announcement_socket(section: ChannelFinderSettings) -> socket.socket:
    """Return a socket that hears announcements; raises `AttpcError`."""
    try:
        return bound_socket(section.listen_address, section.port)
    except OSError as error:
        raise AttpcError(
            f"recceivers cannot be heard on {section.listen_address} port {section.port}: "
            f"{system_reason(error)}; look at channel_finder.listen_address and channel_finder.port"
        ) from error


class ChannelFinder:
    """Uploads the PV table to recceivers, and says how far they are."""

    def __init__(self, settings: Settings, table: Sequence[PvEntry]) -> None:
        self._settings = settings
        self._table = table
        self._client: RecSyncClient | None = None

    async def run(self, sock: socket.socket, ca_port: int, pva_port: int | None) -> None:
        """Serve the recceivers heard on the socket until cancelled; PVs must be served on the ports."""
        section = self._settings.channel_finder
        self._client = RecSyncClient(
            records_of(self._table),
            ioc_infos(self._settings, ca_port, pva_port, os.environ),
            servers=networks(section),
            most=section.max_servers,
            times=Times(section.holdoff_s, section.timeout_s, backoff_max=section.backoff_max_s),
        )
        await self._client.run(sock)

    def answer(self) -> dict[str, Any]:
        """Return how far the recceivers are, for shell commands."""
        client = self._client
        if client is None:
            return {"enabled": False}
        now = asyncio.get_running_loop().time()
        return {
            "enabled": True,
            "pvs": len(self._table),
            "heard": client.heard,
            "last_failure": client.last_failure,
            "servers": [
                {
                    "address": one.server[0],
                    "port": one.server[1],
                    "state": one.state.value,
                    "taken": one.state is State.TAKEN,
                    "seconds": round(now - one.since, 1),
                }
                for one in client.uploads.values()
            ],
        }
