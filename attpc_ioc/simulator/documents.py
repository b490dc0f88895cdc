"""The two XML documents that travel inside a call: `configID` and `table`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_PARTS = ("describe", "prepare", "configure")
_LINK_TYPES = ("TCP", "FDT", "ICE", "ZBUF")

NOWHERE = "255.255.255.255"
"""The address that the ECC server uses for one that it cannot read."""


class BadSubConfigId(Exception):
    """A `SubConfigId` that crashes the ECC server: empty, blank, or without one of the three types."""


@dataclass(frozen=True, slots=True)
class ConfigIds:
    """The sub-ids that a call carried; None for a missing one."""

    describe: str | None = None
    prepare: str | None = None
    configure: str | None = None

    def __str__(self) -> str:
        return "/".join(part or "" for part in (self.describe, self.prepare, self.configure))

    def to_xml(self) -> str:
        """Return the `ConfigId` element with its sub-ids."""
        parts = "".join(
            f'<SubConfigId type="{part}">{escape(name)}</SubConfigId>'
            for part in _PARTS
            if (name := getattr(self, part)) is not None
        )
        return f"<ConfigId>{parts}</ConfigId>"


@dataclass(frozen=True, slots=True)
class Link:
    """A data link: which sender (`CoBo[0]`) sends to which data router, and how."""

    sender: str
    router: str
    address: str
    port: int
    type: str

    def to_xml(self) -> str:
        """Return the `DataLink` element."""
        router = f'name="{attribute(self.router)}" ipAddress="{self.address}" port="{self.port}"'
        sender = f'<DataSender id="{attribute(self.sender)}"/>'
        return f'<DataLink>{sender}<DataRouter {router} type="{self.type}"/></DataLink>'


def escape(text: str) -> str:
    """Escape `text` for the inside of an element; tabs and newlines stay as they are."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#xD;") if "\r" in text else text


def attribute(text: str) -> str:
    """Escape `text` for the inside of an attribute in double quotes."""
    return escape(text).replace('"', "&quot;")


def config_id(text: str) -> str:
    """Return the `configID` document of `describe/prepare/configure`."""
    names = [part.strip() or None for part in text.split("/")]
    return ConfigIds(*names).to_xml() if text else ""


def link_table(links: tuple[Link, ...]) -> str:
    """Return the `table` document of `links`."""
    return f"<DataLinkSet>{''.join(link.to_xml() for link in links)}</DataLinkSet>"


def read_xml(text: str) -> etree._Element | None:
    """Return the root element of `text`, or None if it is empty or not XML."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        return etree.fromstring(_DECLARATION.sub("", text).encode(), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def parse_config_id(text: str) -> ConfigIds:
    """Read `configID` as the ECC server does; an empty one is not an error here.

    Raises `BadSubConfigId` for what crashes the server.
    """
    root = read_xml(text)
    if root is None:
        return ConfigIds()
    found: dict[str, str] = {}
    for element in root.iter("SubConfigId"):
        part = element.get("type")
        name = (element.text or "").strip()
        if part not in _PARTS or not name:
            raise BadSubConfigId(etree.tostring(element, with_tail=False).decode())
        found.setdefault(part, name)
    return ConfigIds(**found)


def parse_table(text: str) -> tuple[Link, ...]:
    """Read `table` as the ECC server does: an unreadable link is skipped, a bad address is `NOWHERE`."""
    root = read_xml(text)
    if root is None:
        return ()
    links: list[Link] = []
    for element in root.iter("DataLink"):
        sender, router = element.find("DataSender"), element.find("DataRouter")
        if sender is None or router is None:
            continue
        port, kind = router.get("port", ""), router.get("type", "")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or kind not in _LINK_TYPES:
            continue
        try:
            address = str(IPv4Address(router.get("ipAddress", "")))
        except AddressValueError:
            address = NOWHERE
        links.append(Link(sender.get("id", ""), router.get("name", ""), address, int(port), kind))
    return tuple(links)
