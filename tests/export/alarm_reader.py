"""An alarm configuration, read by the rules of the Phoebus alarm server's reader (`XmlModelReader`).

They are: the root is a `config`; of each branch first the PVs and then the components; a name is the
attribute `name`, and two items of one branch may not share it; a PV that is elsewhere already is left out
with a warning, and unknown tags are passed over, which both are faults here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

PV_TAGS = {
    "description",
    "enabled",
    "latching",
    "annunciating",
    "delay",
    "count",
    "filter",
    "guidance",
    "display",
    "command",
    "automated_action",
}


class NotReadable(Exception):
    """What the reader would not take, or not as it is meant."""


@dataclass(frozen=True)
class ReadPv:
    """One PV as the server has it; `guidance` and `displays` are pairs of title and details."""

    path: str
    name: str
    description: str
    enabled: bool
    latching: bool
    annunciating: bool
    delay_s: int
    guidance: tuple[tuple[str, str], ...]
    displays: tuple[tuple[str, str], ...]


@dataclass
class ReadConfig:
    """A configuration: its name and its PVs by name."""

    name: str
    pvs: dict[str, ReadPv] = field(default_factory=dict)


def read_alarms(file: Path) -> ReadConfig:
    """Read a file and what it includes; raises `NotReadable`."""
    document = etree.parse(file, etree.XMLParser(load_dtd=False, no_network=True))
    document.xinclude()
    root = document.getroot()
    if root.tag != "config":
        raise NotReadable(f"the root is {root.tag}")
    config = ReadConfig(root.get("name") or "")
    if not config.name:
        raise NotReadable("the configuration has no name")
    _branch(config, root, f"/{config.name}")
    return config


def _branch(config: ReadConfig, element: etree._Element, path: str) -> None:
    names: set[str] = set()
    for child in _elements(element, "pv"):
        name = _name(child, path, names)
        if name in config.pvs:
            raise NotReadable(f"{path}/{name} is at {config.pvs[name].path} already")
        config.pvs[name] = _pv(child, name, f"{path}/{name}")
    for child in _elements(element, "component"):
        name = _name(child, path, names)
        _branch(config, child, f"{path}/{name}")


def _name(element: etree._Element, path: str, names: set[str]) -> str:
    name = element.get("name")
    if not name:
        raise NotReadable(f"an item without a name at {path}")
    # In a path the slashes of a name are escaped (`AlarmTreePath`); those of a protocol are meant.
    if name in names or "/" in name.removeprefix("pva://"):
        raise NotReadable(f"{path}/{name} is not possible, or there twice")
    names.add(name)
    return name


def _pv(element: etree._Element, name: str, path: str) -> ReadPv:
    tags = [child.tag for child in element]
    if unknown := set(tags) - PV_TAGS:
        raise NotReadable(f"{path}: {unknown}")
    return ReadPv(
        path,
        name,
        _text(element, "description"),
        _text(element, "enabled") in ("", "true"),
        _text(element, "latching") == "true",
        _text(element, "annunciating") == "true",
        int(_text(element, "delay") or "0"),
        tuple(_details(element, "guidance")),
        tuple(_details(element, "display")),
    )


def _details(element: etree._Element, tag: str) -> Iterator[tuple[str, str]]:
    for child in _elements(element, tag):
        yield _text(child, "title"), _text(child, "details")


def _text(element: etree._Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _elements(element: etree._Element, tag: str) -> Iterator[etree._Element]:
    return (child for child in element if child.tag == tag)
