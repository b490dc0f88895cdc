"""The section of the settings file about PVAccess."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Annotated

from pydantic import AfterValidator, Field

from .section import Section
from .values import Interface, Port, Whole, YesNo


def _beacon_address(value: str) -> str:
    host, colon, port = value.partition(":")
    try:
        address = IPv4Address(host)
    except AddressValueError:
        raise ValueError(
            "must be an IPv4 address, also a broadcast one, with or without a port, such as '192.168.41.255' "
            f"or '192.168.41.255:5076', not {value!r}"
        ) from None
    if address.is_unspecified:
        raise ValueError(f"must be an address that can be sent to, not {value!r}")
    if colon and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"must have a port from 1 to 65535 after the colon, not {value!r}")
    return value


BeaconAddress = Annotated[str, AfterValidator(_beacon_address)]


class PvaSettings(Section):
    """`[pva]`: PVAccess, the second protocol of the same PVs."""

    enabled: YesNo = Field(
        default=True, description="Whether the PVs are served over PVAccess too, beside Channel Access."
    )
    server_port: Port | None = Field(
        default=None,
        examples=[5075],
        description="TCP port of PVAccess; where another server has it, a free one is taken, and clients "
        "find it by their searches. Default: `EPICS_PVAS_SERVER_PORT`, else `EPICS_PVA_SERVER_PORT`, "
        "else 5075.",
    )
    broadcast_port: Port | None = Field(
        default=None,
        examples=[5076],
        description="UDP port of searches and beacons; servers of one host share it. "
        "Default: `EPICS_PVAS_BROADCAST_PORT`, else `EPICS_PVA_BROADCAST_PORT`, else 5076.",
    )
    interfaces: tuple[Interface, ...] | None = Field(
        default=None,
        min_length=1,
        examples=[["192.168.41.2", "127.0.0.1"]],
        description="IPv4 addresses of this host on which PVAccess is served. Default: "
        "`EPICS_PVAS_INTF_ADDR_LIST`, else `ioc.interfaces`, else all.",
    )
    beacon_addresses: tuple[BeaconAddress, ...] | None = Field(
        default=None,
        examples=[["192.168.41.255"]],
        description="IPv4 addresses to which beacons are sent, with or without a port; an empty list: none. "
        "Default: `EPICS_PVAS_BEACON_ADDR_LIST`, else `EPICS_PVA_ADDR_LIST`, and the broadcast addresses of "
        "the interfaces unless `EPICS_PVAS_AUTO_BEACON_ADDR_LIST` (or `EPICS_PVA_AUTO_ADDR_LIST`) is NO.",
    )
    max_puts: Whole = Field(
        default=4096,
        ge=1,
        le=100_000,
        description="Running puts of one client; further ones are refused. When four times as "
        "many of all clients are running, only clients without a running one may put.",
    )
