"""The section of the settings file about ChannelFinder."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated

from pydantic import AfterValidator, Field

from .section import Section
from .values import Interface, Number, Port, Seconds, Whole, YesNo

IOC_NAME_MAX = 60
"""Characters; the prefix, which is the default, has fewer."""


def _server(value: str) -> str:
    try:
        IPv4Network(value)
    except ValueError:
        raise ValueError(
            "must be an IPv4 address or network of recceivers, such as '192.168.41.5' or '192.168.41.0/24' "
            f"(with zeros behind the network's bits), not {value!r}"
        ) from None
    return value


def _line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line without control characters, and not empty")
    if len(value) > IOC_NAME_MAX:
        raise ValueError(f"must have at most {IOC_NAME_MAX} characters, not {len(value)}")
    if value.isdigit():
        raise ValueError("must not be a number: ChannelFinder takes that for a port that changes")
    return value


Server = Annotated[str, AfterValidator(_server)]
IocName = Annotated[str, AfterValidator(_line)]


class ChannelFinderSettings(Section):
    """`[channel_finder]`: announces the PVs to recceivers of ChannelFinder."""

    enabled: YesNo = Field(
        default=False, description="Whether the PVs are uploaded to recceivers that announce themselves."
    )
    servers: tuple[Server, ...] | None = Field(
        default=None,
        min_length=1,
        examples=[["192.168.41.5"]],
        description="IPv4 addresses or networks of recceivers; others are ignored. Default: any host of the "
        "network that announces a recceiver of its own.",
    )
    listen_address: Interface = Field(
        default="0.0.0.0",
        examples=["192.168.41.255"],
        description="IPv4 address on which announcements are heard. Announcements are broadcasts, "
        "which arrive at 0.0.0.0 or at the broadcast address of a network, and not at the address of an "
        "interface.",
    )
    port: Port = Field(default=5049, description="UDP port of announcements; programs of one host share it.")
    ioc_name: IocName | None = Field(
        default=None,
        examples=["attpc-ioc"],
        description="The IOC's name in ChannelFinder (`iocName`), another for each IOC of a host. "
        "Default: the environment variable `IOCNAME`, else `ioc.prefix` without its last character.",
    )
    max_servers: Whole = Field(
        default=1,
        ge=1,
        le=8,
        description="Recceivers that have the PVs at a time. More than one is of use only if they "
        "write to different ChannelFinders.",
    )
    holdoff_s: Number = Field(
        default=10.0,
        ge=0,
        le=600,
        description="Longest time from an announcement to the connection, in seconds. The time is random, so "
        "that not all IOCs connect at once to a recceiver that comes up.",
    )
    timeout_s: Seconds = Field(
        default=20.0,
        description="How long a recceiver may take to accept a connection and for each piece of the upload, "
        "in seconds; four times as long for its greeting and between its pings.",
    )
    backoff_max_s: Number = Field(
        default=300.0,
        ge=5,
        le=86400,
        description="Longest time without another attempt at a recceiver that fails, in seconds; it begins "
        "with 5 s, and is doubled with each failure.",
    )
