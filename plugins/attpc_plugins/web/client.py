"""Where a request comes from: the browser's address, who can read on the way, and what a proxy says."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from aiohttp import hdrs, web

from .problems import Problem
from .settings import ProxySettings
from .tokens import name_fault


@dataclass(frozen=True, slots=True)
class Client:
    """The origin of a request.

    - `host`, `port`: of the browser; the port is 0 behind a proxy.
    - `private`: nobody can read the request on its way: TLS, or the same machine.
    - `tls`: the browser uses TLS.
    - `named`: the name that the proxy gives, or empty.
    """

    host: str
    port: int
    private: bool
    tls: bool
    named: str = ""

    @property
    def address(self) -> str:
        """`IP:port`."""
        return f"{self.host}:{self.port}"


def client_of(request: web.Request, proxy: ProxySettings | None) -> Client:
    """Return where a request comes from; raises `Problem` for a header that only a proxy may send."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    sock = transport.get_extra_info("socket") if transport is not None else None
    by_socket = sock is not None and sock.family == socket.AF_UNIX
    host, port = (_plain(peer[0]), peer[1]) if isinstance(peer, tuple) and not by_socket else ("", 0)
    tls = transport is not None and transport.get_extra_info("sslcontext") is not None
    here = by_socket or _is_loopback(host)
    if proxy is None:
        return Client(host, port, tls or here, tls)
    names = request.headers.getall(proxy.header, ())
    if not by_socket and host not in proxy.addresses:
        if names:
            raise Problem(403, f"{proxy.header} from {host}: it is not in addresses of [plugins.web.proxy]")
        return Client(host, port, tls or here, tls)
    if names and not (tls or here):
        raise Problem(403, f"{proxy.header} from {host} over plain HTTP: a proxy there must use TLS")
    if len(names) > 1 or (names and names[0] and name_fault(names[0])):
        raise Problem(400, f"{proxy.header}: {name_fault(names[0]) or 'there are several'}")
    browser = _forwarded(request, proxy, host)
    schemes = ",".join(request.headers.getall("X-Forwarded-Proto", ())).split(",")
    outer_tls = schemes[-1].strip().lower() == "https"
    private = (tls or here) and (outer_tls or browser == host or _is_loopback(browser))
    return Client(browser, port if browser == host else 0, private, outer_tls, names[0] if names else "")


def _forwarded(request: web.Request, proxy: ProxySettings, host: str) -> str:
    """Return the address of the browser: the last one that is not a proxy's."""
    listed = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
    for text in reversed([text.strip() for text in listed if text.strip()]):
        try:
            host = _plain(str(ipaddress.ip_address(text)))
        except ValueError:
            raise Problem(400, f"{hdrs.X_FORWARDED_FOR}: {text!r} is no IP address") from None
        if host not in proxy.addresses:
            break
    return host


def _plain(host: str) -> str:
    """Return an address without the zone, and IPv4 as IPv4 where the socket is of IPv6."""
    host = host.partition("%")[0]
    mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None)
    return str(mapped or host)


def _is_loopback(host: str) -> bool:
    return bool(host) and ipaddress.ip_address(host).is_loopback
