"""Where to listen and where to send beacons, and the TCP sockets."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from attpc_ioc.ioc.ca.variables import Variables

ANY = "0.0.0.0"
_PORT, _BEACON_PORT, _BEACON_PERIOD_S, _SHORTEST_PERIOD_S = 5064, 5065, 15.0, 0.1
_INTERFACES, _BEACONS, _SEARCHES, _IGNORED = (
    *("EPICS_CAS_INTF_ADDR_LIST", "EPICS_CAS_BEACON_ADDR_LIST", "EPICS_CA_ADDR_LIST"),
    "EPICS_CAS_IGNORE_ADDR_LIST",
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses a server binds to, sends to, and ignores; ports in host order, the period in seconds."""

    interfaces: tuple[str, ...]
    port: int
    beacons: tuple[tuple[str, int], ...]
    beacon_period_s: float
    ignored: frozenset[str] = frozenset()
    searches: tuple[tuple[str, int], ...] = ()
    """Where a client configured like this server searches for names."""
    faults: tuple[str, ...] = ()
    """What is wrong in the variables and what is used instead, one line each, for people."""


def broadcast_addresses(interfaces: tuple[str, ...]) -> list[str]:
    """Return the broadcast addresses of `interfaces` (`0.0.0.0`: all); loopback is its own."""
    found: list[str] = []
    loopback: list[str] = []
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family != socket.AF_INET:
                continue
            if interfaces != (ANY,) and address.address not in interfaces:
                continue
            if address.address.startswith("127."):
                loopback.append(address.address)
            elif address.broadcast:
                found.append(address.broadcast)
    own = [i for i in interfaces if i.startswith("127.")]
    return list(dict.fromkeys(found + own or loopback))


def server_port(environ: Mapping[str, str]) -> int:
    """Return the port of a server according to the variables."""
    return _server_port(Variables(environ))


def _server_port(env: Variables) -> int:
    return env.port(_PORT, "EPICS_CAS_SERVER_PORT", "EPICS_CA_SERVER_PORT")


def from_environment(
    environ: Mapping[str, str] | None = None, *, interfaces: list[str] | None = None, port: int | None = None
) -> Addresses:
    """Return where a server listens and sends beacons; `interfaces` and `port` override the variables.

    The variables, their defaults and the treatment of invalid values are those of EPICS base's `rsrv`
    (Channel Access Reference Manual, "Configuring a Channel Access server"): an invalid address is left out,
    an invalid number is replaced by the default. Host names are looked up, which blocks for at most
    `variables.RESOLVE_S`.
    """
    env = Variables(os.environ if environ is None else environ)
    env.look_up(_BEACONS, _SEARCHES, _IGNORED, *(() if interfaces else (_INTERFACES,)))
    listen = tuple(dict.fromkeys(interfaces)) if interfaces else _own_interfaces(env)
    if port is None:
        port = _server_port(env)
    beacon_port = env.port(_BEACON_PORT, "EPICS_CAS_BEACON_PORT", "EPICS_CA_REPEATER_PORT")
    searches = env.addresses(_SEARCHES, port)
    if env.is_set(_BEACONS):
        beacons = env.addresses(_BEACONS, beacon_port)
    else:
        # A port given there is a server's, so beacons to it would go to the wrong socket.
        beacons = [(address, beacon_port) for address, _ in searches]
    searches_too = env.client_says_yes("EPICS_CA_AUTO_ADDR_LIST")
    if env.server_says_yes("EPICS_CAS_AUTO_BEACON_ADDR_LIST", searches_too):
        beacons += [(address, beacon_port) for address in broadcast_addresses(listen)]
    if searches_too:
        searches += [(address, port) for address in broadcast_addresses(listen)]
    period_s = env.period_s(_BEACON_PERIOD_S, "EPICS_CAS_BEACON_PERIOD", "EPICS_CA_BEACON_PERIOD")
    return Addresses(
        listen,
        port,
        tuple(dict.fromkeys(beacons)),
        max(_SHORTEST_PERIOD_S, period_s),
        frozenset(address for address, _ in env.addresses(_IGNORED, 0)),
        tuple(dict.fromkeys(searches)),
        env.faults,
    )


def _own_interfaces(env: Variables) -> tuple[str, ...]:
    """Return the addresses of this host that the variable names; all interfaces if it names none.

    If it names only addresses of other hosts, those are returned, so that the bind fails.
    """
    found = list(dict.fromkeys(address for address, _ in env.addresses(_INTERFACES, 0)))
    if ANY in found:
        if len(found) > 1:
            env.fault(f"{_INTERFACES} has {ANY}, which is all interfaces: its other addresses are ignored")
        return (ANY,)
    single: list[str] = []
    own: list[str] = []
    for address in found:
        if ipaddress.ip_address(address).is_multicast:
            env.fault(f"{_INTERFACES}: {address!r} is left out: multicast groups are not joined")
            continue
        single.append(address)
        if _is_own(address):
            own.append(address)
        else:
            env.fault(f"{_INTERFACES}: {address!r} is left out: it is not an address of this host")
    if not single and env.is_set(_INTERFACES):
        env.fault(f"{_INTERFACES} names no interface: Channel Access is served on all")
    return tuple(own or single) or (ANY,)


def _is_own(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def search_addresses(interfaces: tuple[str, ...]) -> list[str]:
    """Return addresses to bind for searches, with broadcast ones: other sockets get no broadcasts."""
    single = tuple(i for i in interfaces if i != ANY and not i.startswith("127."))
    return [*interfaces, *(broadcast_addresses(single) if single else ())]


def tcp_sockets(where: Addresses) -> list[socket.socket]:
    """Return TCP sockets bound to every interface on one port: the requested one, else a free one."""
    try:
        return _bind_all(where.interfaces, where.port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    for _ in range(20):
        first = _bind_all(where.interfaces[:1], 0)
        try:
            return first + _bind_all(where.interfaces[1:], first[0].getsockname()[1])
        except OSError as error:
            first[0].close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no TCP port is free on all interfaces")


def _bind_all(interfaces: tuple[str, ...], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for interface in interfaces:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((interface, port))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets
