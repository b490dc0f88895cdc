"""The plugin's section of the settings file, `[plugins.web]`."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from attpc_ioc.settings import Section
from attpc_ioc.settings.values import host_fault

LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


def _name(value: str) -> str:
    if fault := host_fault(value):
        raise ValueError(fault)
    return value.lower()


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(
            f"must be an IP address of this machine, such as '127.0.0.1', not {value!r}"
        ) from None


class WebSettings(Section):
    """The page for browsers and the HTTP API. Without a `port` there is neither."""

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port of the page and the API; 0: none."""
    address: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """The IP address of this machine at which it listens; by default only this machine reaches it."""
    names: tuple[Annotated[str, AfterValidator(_name)], ...] = ()
    """Names by which browsers reach the page, besides localhost and IP addresses; others are refused.

    Otherwise a foreign page could make a browser read this one by a name that it points here.
    """
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Open connections; further ones are closed at once."""
    requests_per_s: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 100.0
    """Requests a second of one address, over some time; those beyond are answered with 429."""

    @property
    def on(self) -> bool:
        """Whether there is a page at all."""
        return self.port != 0

    @property
    def on_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def known_names(self) -> frozenset[str]:
        """The names, besides IP addresses, that a request may have as its host."""
        return frozenset((*LOOPBACK_NAMES, *self.names))

    @property
    def url(self) -> str:
        """The address of the page, for people on this machine."""
        address = ipaddress.ip_address(self.address)
        host = "127.0.0.1" if address.is_unspecified else str(address)
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"
