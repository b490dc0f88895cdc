"""Where to listen and whom to tell, from EPICS's environment variables, and the sockets for it.

The variables and their defaults are those of EPICS base's `rsrv` (Channel Access Reference Manual,
"Configuring a Channel Access server").
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

ANY = "0.0.0.0"
_PORT, _BEACON_PORT, _BEACON_PERIOD_S = 5064, 5065, 15.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a server binds to, sends to, and does not answer; ports in host order, the period in seconds."""

    interfaces: tuple[str, ...]
    port: int
    beacons: tuple[tuple[str, int], ...]
    beacon_period_s: float
    ignored: frozenset[str] = frozenset()
    searches: tuple[tuple[str, int], ...] = ()
    """Where a client that is set up as this server is searches for names."""


def _first(environ: Mapping[str, str], names: tuple[str, ...], default: float) -> float:
    for name in names:
        text = environ.get(name, "").strip()
        if text:
            try:
                return float(text)
            except ValueError:
                raise ValueError(f"{name}={text!r} is not a number") from None
    return default


def _port(environ: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    port = int(_first(environ, names, default))
    if not 0 < port < 65536:
        raise ValueError(f"{' or '.join(names)}: {port} is not a port")
    return port


def _resolve(text: str, port: int) -> tuple[str, int]:
    """Return (address, port) of `host` or `host:port`; raises ValueError for what cannot be resolved."""
    host, _, number = text.partition(":")
    try:
        return socket.gethostbyname(host), int(number) if number else port
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an address") from None


def broadcast_addresses(interfaces: tuple[str, ...]) -> list[str]:
    """Return where to broadcast to from `interfaces` (`0.0.0.0`: all); loopback is its own."""
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


def from_environment(
    environ: Mapping[str, str] | None = None, *, interfaces: list[str] | None = None, port: int | None = None
) -> Addresses:
    """Return where a server listens and sends its beacons; `interfaces` and `port` go before the variables.

    Raises ValueError for a variable that makes no sense.
    """
    env = os.environ if environ is None else environ
    if interfaces is None:
        listed = env.get("EPICS_CAS_INTF_ADDR_LIST", "").split()
        interfaces = [_resolve(text, 0)[0] for text in listed]
    listen = tuple(dict.fromkeys(interfaces)) or (ANY,)
    if port is None:
        port = _port(env, ("EPICS_CAS_SERVER_PORT", "EPICS_CA_SERVER_PORT"), _PORT)
    beacon_port = _port(env, ("EPICS_CAS_BEACON_PORT", "EPICS_CA_REPEATER_PORT"), _BEACON_PORT)
    listed = (env.get("EPICS_CAS_BEACON_ADDR_LIST") or env.get("EPICS_CA_ADDR_LIST") or "").split()
    automatic = (
        env.get("EPICS_CAS_AUTO_BEACON_ADDR_LIST") or env.get("EPICS_CA_AUTO_ADDR_LIST") or "YES"
    ).strip()
    # A port in EPICS_CA_ADDR_LIST is that of a server, so beacons to it would go to the wrong socket.
    own_list = bool(env.get("EPICS_CAS_BEACON_ADDR_LIST"))
    beacons = [_resolve(text if own_list else text.partition(":")[0], beacon_port) for text in listed]
    if automatic.upper() != "NO":
        beacons += [(address, beacon_port) for address in broadcast_addresses(listen)]
    period = _first(env, ("EPICS_CAS_BEACON_PERIOD", "EPICS_CA_BEACON_PERIOD"), _BEACON_PERIOD_S)
    ignored = frozenset(_resolve(a, 0)[0] for a in env.get("EPICS_CAS_IGNORE_ADDR_LIST", "").split())
    searches: list[tuple[str, int]] = []
    for text in env.get("EPICS_CA_ADDR_LIST", "").split():
        with contextlib.suppress(ValueError):  # a variable for clients: no reason for a server not to start
            searches.append(_resolve(text, port))
    if (env.get("EPICS_CA_AUTO_ADDR_LIST") or "YES").strip().upper() != "NO":
        searches += [(address, port) for address in broadcast_addresses(listen)]
    return Addresses(
        listen,
        port,
        tuple(dict.fromkeys(beacons)),
        max(0.1, period),
        ignored,
        tuple(dict.fromkeys(searches)),
    )


def search_addresses(interfaces: tuple[str, ...]) -> list[str]:
    """Return what to bind for searches: a socket bound to one address hears no broadcasts, so those too."""
    single = tuple(i for i in interfaces if i != ANY and not i.startswith("127."))
    return [*interfaces, *(broadcast_addresses(single) if single else ())]


def tcp_sockets(where: Addresses) -> list[socket.socket]:
    """Return TCP sockets bound to every interface, on one port: the wanted one, else a free one."""
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
