"""Finds other servers on the network that serve this IOC's names, such as an IOC with the same prefix.

With two IOCs of one prefix, clients reach either at random. So the IOC searches for one of its own PVs at
start-up and once a minute, as a client does. It asks each server that answers for its host and process: a
Channel Access gateway in front of this IOC returns this IOC's own and is not reported.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping

import psutil

from attpc_ioc.errors import system_reason
from attpc_ioc.ioc.ca import PV, CAServer
from attpc_ioc.ioc.ca.address import ANY, Addresses
from attpc_ioc.ioc.ca.seek import Found, find_servers, read_texts
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import IOC
from attpc_ioc.model.states import Severity, Status
from attpc_ioc.printable import one_line
from attpc_ioc.pvs.ioc import OTHER_SERVERS
from attpc_ioc.pvs.row import Reading, full_name

log = get_logger(__name__)

PERIOD_S = 60.0
"""Time between two searches."""

_PRODUCT = "attpc-ioc"
_ASKED = ("HOSTNAME", "PROCESS_ID", "STARTTOD")


class Elsewhere:
    """Searches for other servers of this prefix and shows them; start `run` as a task."""

    def __init__(
        self,
        prefix: str,
        server: CAServer,
        pvs: Mapping[str, PV],
        publish: Callable[[str, Reading], None],
        period_s: float = PERIOD_S,
    ) -> None:
        self._server = server
        self._prefix = prefix
        self._names = [full_name(prefix, IOC, part) for part in _ASKED]
        self._pvs = pvs
        self._publish = publish
        self._period_s = period_s
        self._shown: dict[Found, str] = {}
        self._fault = ""

    async def run(self) -> None:
        """Search now and once a period, until cancelled."""
        while True:
            try:
                await self.poll()
            except OSError as error:
                self._log_fault(system_reason(error))
            else:
                self._fault = ""
            await asyncio.sleep(self._period_s)

    async def poll(self) -> None:
        """Search once and show the result; raises `OSError` if no search is possible."""
        where = self._server.where
        found = await find_servers(self._names[0], where, secrets.randbits(32))
        own = own_servers(where, self._server.port)
        others = [server for server in found if server not in own]
        texts = await asyncio.gather(*(self._who(server) for server in others))
        self._show({server: text for server, text in zip(others, texts, strict=True) if text})

    async def _who(self, server: Found) -> str:
        """Describe a server that answered; empty for a gateway that serves this IOC's own PVs."""
        try:
            texts = await read_texts(server, self._names, _PRODUCT)
        except OSError as error:
            return f"{server} (it does not say who it is: {system_reason(error)})"
        if self._is_this_ioc(*texts):
            if server not in self._shown:
                log.debug("a gateway answers for this IOC", address=server)
            return ""
        host, process, _ = map(one_line, texts)
        return f"{server} ({host or 'no host'}, process {process})"

    def _is_this_ioc(self, host: str, process: str, started: str) -> bool:
        own_host, own_process, own_start = (self._pvs[name].value for name in self._names)
        try:
            same = float(process) == own_process
        except ValueError:
            return False
        return same and (host, started) == (own_host, own_start)

    def _show(self, found: dict[Found, str]) -> None:
        for server in found.keys() - self._shown.keys():
            log.warning(
                "another server answers for the prefix of this IOC: a second IOC, or a gateway to one",
                prefix=self._prefix,
                server=found[server],
            )
        for server in self._shown.keys() - found.keys():
            log.info("the other server no longer answers", server=self._shown[server])
        self._shown = found
        severity, status = (Severity.MINOR, Status.STATE) if found else (Severity.NO_ALARM, Status.NO_ALARM)
        text = "; ".join(found[server] for server in sorted(found))
        self._publish(OTHER_SERVERS, Reading(text, severity, status))

    def _log_fault(self, reason: str) -> None:
        if reason != self._fault:
            log.warning("no search for other servers of the prefix is possible", reason=reason)
        self._fault = reason


def own_servers(where: Addresses, port: int) -> frozenset[Found]:
    """Return the addresses under which this process answers itself."""
    if where.interfaces != (ANY,):
        return frozenset(Found(host, port) for host in where.interfaces)
    addresses = (address for many in psutil.net_if_addrs().values() for address in many)
    return frozenset(Found(address.address, port) for address in addresses)
