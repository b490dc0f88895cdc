"""The XML documents inside SOAP messages: config ids and data links out, config ids and senders in.

The builders accept only what cannot crash the 2021 server (a sub-id that is empty, blank or of an unknown
type does) and cannot silently become another address (the server takes a bad `ipAddress` as
255.255.255.255). The parsers accept what real servers send, and also white space, comments, further
attributes and an XML declaration.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from attpc_ioc.errors import EccBrokenReply
from attpc_ioc.log import get_logger
from attpc_ioc.model.config import RECORDS, UNKNOWN, ConfigName, Loaded
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.states import Operation

from .xml import Bomb, etree, parse, shortened

log = get_logger(__name__)

PARTS = ("describe", "prepare", "configure")
"""The types of sub-ids in the order sent; the server knows no others."""

FILLER = "unused"
"""Sent for a part that the operation does not use: the server must never receive an empty one."""

_CONFIG_ID_SET = re.compile(r"(?:<\?xml[^>]*\?>\s*)?<ConfigIdSet\b[^<>]*>.*</ConfigIdSet>", re.DOTALL)
_CONFIG_ID = re.compile(r"<ConfigId\b")
_CONFIG_ID_ENDS = "</ConfigId>"

MAX_NAME = 240
"""Characters of a name or sender id: no file system has a longer `configure-NAME.xcfg`."""

MAX_SENDERS = 256
"""Maximum data sources of one ECC server: more than twenty times those of the whole AT-TPC."""

LOGGED = 8
"""Skipped entries that are logged one by one; of the rest only the number is."""

LINK_TYPES = ("TCP", "FDT", "ICE", "ZBUF")
"""The types of data links that a data router understands."""


@dataclass(frozen=True, slots=True)
class PartialConfig:
    """A configuration with unknown parts; None and `?` both mean unknown.

    Used when a name is incomplete: for Undo of a module that was never configured, and for the names that are
    loaded in the hardware.
    """

    describe: str | None = None
    prepare: str | None = None
    configure: str | None = None

    @classmethod
    def of(cls, loaded: Loaded) -> Self:
        """Return the names that are loaded in the hardware."""
        return cls(loaded.describe, loaded.prepare, loaded.configure)


def config_id_xml(operation: Operation, config: ConfigName | PartialConfig) -> str:
    """Return the `ConfigId` document for one operation.

    The part that `operation` uses must be a real name; unknown other parts are sent as a filler. Raises
    `ValueError` if that part is unknown, or if any part is blank or cannot be written in XML.
    """
    needed = RECORDS.get(operation)
    root = etree.Element("ConfigId")
    for part in PARTS:
        name = getattr(config, part)
        if name is None or name == UNKNOWN:
            if part == needed:
                raise ValueError(f"{operation} needs the {part} part of a config name, and it is not known")
            name = FILLER
        _fill(etree.SubElement(root, "SubConfigId", type=part), name, f"the {part} part of a config name")
    return etree.tostring(root, encoding="unicode")


def data_link_set_xml(sources: Iterable[SourceView]) -> str:
    """Return the `DataLinkSet` document with every link of `sources`, in their order.

    Raises `ValueError` if a sender id or a router's name is blank or cannot be written in XML, an address
    is not an IPv4 address of one host, a port is not one of 1 to 65535, or a type is unknown.
    """
    root = etree.Element("DataLinkSet")
    for source in sources:
        for link in source.links:
            _check_link(link)
            element = etree.SubElement(root, "DataLink")
            sender = etree.SubElement(element, "DataSender")
            _attribute(sender, "id", source.sender_id, "a sender id")
            router = etree.SubElement(element, "DataRouter")
            _attribute(router, "name", link.name, "the name of a data router")
            router.set("ipAddress", link.address)
            router.set("port", str(link.port))
            router.set("type", link.type)
    return etree.tostring(root, encoding="unicode")


def configs_in(text: str) -> tuple[ConfigName, ...]:
    """Return the configurations that `GetConfigIDs` lists, in its order, without duplicates.

    An entry without a usable configuration (a part is missing, blank, too long, has a slash or cannot be
    printed, or the entry is not XML) is skipped with a warning: one bad file name must not hide the rest.
    Raises `EccBrokenReply` if `text` is not a `ConfigIdSet`.
    """
    found: dict[ConfigName, None] = {}
    left_out = 0
    for entry in _config_ids(text):
        try:
            found[_config_name(entry)] = None
        except (ValueError, EccBrokenReply) as error:
            left_out += 1
            if left_out <= LOGGED:
                shown = entry if isinstance(entry, str) else etree.tostring(entry)
                log.warning("unusable config left out", entry=shortened(shown), reason=str(error))
    if left_out > LOGGED:
        log.warning("more unusable configs left out", number=left_out - LOGGED)
    return tuple(found)


def _config_ids(text: str) -> Iterable[Any]:
    """Return the entries as elements, or each as text if one of them makes the whole invalid XML."""
    try:
        return [element for element in _root(text, "ConfigIdSet") if element.tag == "ConfigId"]
    except EccBrokenReply as error:
        if isinstance(error.__cause__, Bomb) or _CONFIG_ID_SET.fullmatch(text.strip()) is None:
            raise
    entries = []
    for piece in text.split(_CONFIG_ID_ENDS)[:-1]:
        if begin := _CONFIG_ID.search(piece):
            entries.append(piece[begin.start() :] + _CONFIG_ID_ENDS)
    return entries


def _config_name(entry: Any) -> ConfigName:
    element = _root(entry, "ConfigId") if isinstance(entry, str) else entry
    parts: dict[str, str] = {}
    for sub in element.iterchildren("SubConfigId"):
        # Of two equal types the first counts, as in the server.
        parts.setdefault(sub.get("type", ""), "".join(sub.itertext()).strip())
    return ConfigName(*(_received(parts.get(part, ""), f"the {part} part") for part in PARTS))


def _received(text: str, what: str) -> str:
    if len(text) > MAX_NAME:
        raise ValueError(f"{what} has more than {MAX_NAME} characters: {shortened(text)}")
    return _checked(text, what)


def senders_in(text: str) -> tuple[str, ...]:
    """Return the sender ids in the `Text` of a reply to Describe, such as `CoBo[0]`, in its order.

    Raises `EccBrokenReply` if `text` is not a `DataSenderSet`, has too many senders, or the id of one is
    missing, too long or cannot be printed.
    """
    senders = [e.get("id", "").strip() for e in _root(text, "DataSenderSet") if e.tag == "DataSender"]
    if not all(senders):
        raise EccBrokenReply(f"a DataSender without an id in {shortened(text)}")
    if len(senders) > MAX_SENDERS:
        raise EccBrokenReply(f"{len(senders)} DataSenders, no ECC server has more than {MAX_SENDERS}")
    try:
        return tuple(_received(sender, "the id of a DataSender") for sender in senders)
    except ValueError as error:
        raise EccBrokenReply(str(error)) from error


def _root(text: str, name: str) -> Any:
    # The text is decoded already, so the encoding in its XML declaration does not matter.
    data = text.strip().encode("utf-8", "surrogatepass")
    try:
        root = parse(data)
    except Bomb as error:
        raise EccBrokenReply(f"no {name} but {shortened(text)}: {error}") from error
    except etree.XMLSyntaxError as error:
        raise EccBrokenReply(f"no {name} but {shortened(text)}: {error.msg}") from error
    if root.tag != name:
        raise EccBrokenReply(f"no {name} but {shortened(text)}")
    return root


def _checked(text: str, what: str) -> str:
    """Return `text`; raise `ValueError` unless it reads back as written: not blank, trimmed, printable."""
    if not text.strip():
        raise ValueError(f"{what} must not be blank, it is {text!r}")
    if text != text.strip():
        raise ValueError(f"{what} must not begin or end with white space: {text!r}")
    if not text.isprintable():
        raise ValueError(f"{what} has a character that cannot be printed: {text!r}")
    return text


def _fill(element: Any, text: str, what: str) -> None:
    try:
        element.text = _checked(text, what)
    except ValueError as error:
        raise ValueError(f"{what} cannot be sent: {error}") from error


def _attribute(element: Any, key: str, text: str, what: str) -> None:
    try:
        element.set(key, _checked(text, what))
    except ValueError as error:
        raise ValueError(f"{what} cannot be sent: {error}") from error


def _check_link(link: DataLinkView) -> None:
    try:
        address = ipaddress.IPv4Address(link.address)
    except ValueError as error:
        raise ValueError(
            f"the address of a data link must be an IPv4 address, not {link.address!r}"
        ) from error
    if address.is_unspecified or address.is_multicast or link.address == "255.255.255.255":
        raise ValueError(f"the address of a data link must be one host's, not {link.address!r}")
    if not 1 <= link.port <= 65535:
        raise ValueError(f"the port of a data link must be 1 to 65535, not {link.port!r}")
    if link.type not in LINK_TYPES:
        raise ValueError(f"the type of a data link must be one of {', '.join(LINK_TYPES)}, not {link.type!r}")
