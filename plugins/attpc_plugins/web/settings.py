"""The plugin's section of the settings file, `[plugins.web]`."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from attpc_ioc.settings import Section
from attpc_ioc.settings.values import host_fault

from .tokens import Role

LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


def _name(value: str) -> str:
    if fault := host_fault(value):
        raise ValueError(fault)
    return value.lower()


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"must be an IP address, such as '127.0.0.1', not {value!r}") from None


def _path(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f"must be an absolute path on this machine, not {value!r}")
    return value


def _header(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,60}", value):
        raise ValueError(f"must be the name of a header, such as 'X-Remote-User', not {value!r}")
    return value


def _link(value: str) -> str:
    if not re.fullmatch(r"(https://[^/\s]+|/(?!/))[^\s\\]*", value):
        raise ValueError(f"must be a path such as '/oauth2/sign_out', or an https URL, not {value!r}")
    return value


IpAddress = Annotated[str, AfterValidator(_address)]
FilePath = Annotated[str, AfterValidator(_path)]


class ProxySettings(Section):
    """A proxy in front that knows people by name, by OpenID Connect for instance."""

    header: Annotated[str, AfterValidator(_header)]
    """The header with the name. From anybody but the proxy it is refused; the proxy must overwrite it."""
    addresses: tuple[IpAddress, ...] = ()
    """From where the proxy connects: loopback addresses, or others if it uses TLS."""
    socket: FilePath | None = None
    """A Unix socket, besides the port: who may open it, by the rights of its folder, is the proxy."""
    role: Role = Role.VIEWER
    """What the names that it gives may write at most."""
    sign_out: Annotated[str, AfterValidator(_link)] | None = None
    """Where the browser goes to sign out at the proxy, such as `/oauth2/sign_out`; the page links to it."""

    @model_validator(mode="after")
    def _connects(self) -> Self:
        if not self.addresses and self.socket is None:
            raise ValueError("`addresses` must have the proxy's address, or `socket` must be given")
        return self


class WebSettings(Section):
    """The page for browsers and the HTTP API. Without a `port` there is neither."""

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port of the page and the API; 0: none."""
    address: IpAddress = "127.0.0.1"
    """The IP address of this machine at which it listens; by default only this machine reaches it."""
    names: tuple[Annotated[str, AfterValidator(_name)], ...] = ()
    """Names by which browsers reach the page, besides localhost and IP addresses; others are refused.

    Otherwise a foreign page could make a browser read this one by a name that it points here.
    """
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Open connections; further ones are closed at once."""
    requests_per_s: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 100.0
    """Requests a second of one address, over some time; those beyond are answered with 429."""

    view: Literal["anyone", "named"] = "anyone"
    """Who sees values, runs and plots: anyone who reaches the page, or only who has a name."""
    certificate: FilePath | None = None
    """File of the certificate and its chain, in PEM; with `key` the page uses TLS."""
    key: FilePath | None = None
    """File of the certificate's private key, in PEM, without a password."""
    session_hours: Annotated[float, Field(gt=0, le=24 * 366, allow_inf_nan=False)] = 12.0
    """How long a browser stays signed in."""
    proxy: ProxySettings | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            lacks = "key" if self.key is None else "certificate"
            raise ValueError(f"`{lacks}` must be given too: `certificate` and `key` belong together")
        return self

    @property
    def tls(self) -> bool:
        """Whether it uses TLS."""
        return self.certificate is not None

    @property
    def on(self) -> bool:
        """Whether there is a page at all."""
        return self.port != 0

    @property
    def known_names(self) -> frozenset[str]:
        """The names, besides IP addresses, that a request may have as its host."""
        return frozenset((*LOOPBACK_NAMES, *self.names))

    @property
    def url(self) -> str:
        """The address of the page, for people on this machine."""
        address = ipaddress.ip_address(self.address)
        host = "127.0.0.1" if address.is_unspecified else str(address)
        scheme = "https" if self.tls else "http"
        return f"{scheme}://[{host}]:{self.port}/" if ":" in host else f"{scheme}://{host}:{self.port}/"
