"""The alarm tree for the Phoebus alarm server, made from the rows of the PV table.

`XmlModelReader` of Phoebus reads this format: a `config` of `component`s and `pv`s. It takes names from the
attribute `name`, each PV only once, and of `config` itself only its name and its content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus
from xml.etree import ElementTree as ET

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.command import Scope, ScopeKind
from attpc_ioc.printable import LINES, visible
from attpc_ioc.pvs.table import PvEntry

from .protocol import bare
from .screens.frame import ECC, MAIN, SOURCE, STATUS

GUIDANCE_TITLE = "What to do"
CONFIG_PATTERN = r"[A-Za-z_][A-Za-z0-9_.-]*"
"""A valid configuration name: it becomes a Kafka topic and, by the schema, an XML name."""

_CONFIG_MAX = 200
"""Kafka topics have at most 249 characters, and the alarm server appends a word to the name."""

_FOLDERS: dict[ScopeKind, str] = {
    ScopeKind.RUN: "Run",
    ScopeKind.SYSTEM: "System",
    ScopeKind.ECC: "ECC",
    ScopeKind.SOURCE: "Data",
    ScopeKind.PLUGIN: "Plugins",
    ScopeKind.IOC: "IOC",
}
"""The top components, in the order of the tree."""

_SCREENS: dict[ScopeKind, tuple[str, str, str]] = {
    ScopeKind.RUN: (MAIN, "Run control", ""),
    ScopeKind.SYSTEM: (MAIN, "Run control", ""),
    ScopeKind.ECC: (ECC, "ECC server", "ECC"),
    ScopeKind.SOURCE: (SOURCE, "Data source", "SOURCE"),
    ScopeKind.PLUGIN: (STATUS, "IOC status", ""),
    ScopeKind.IOC: (STATUS, "IOC status", ""),
}
"""By scope: the screen's file, its title, and the macro for the scope's name."""

_SPOKEN: dict[ScopeKind, str] = {
    ScopeKind.SYSTEM: "AT-TPC",
    ScopeKind.RUN: "Run",
    ScopeKind.IOC: "AT-TPC",
}
"""The start of an alarm's text if the scope has no name."""


@dataclass(frozen=True, slots=True)
class AlarmPv:
    """A PV of the alarm tree; `display` is empty if the location of the screens is unknown."""

    name: str
    description: str
    guidance: str
    display: str
    display_title: str
    latching: bool
    annunciating: bool
    delay_s: int


@dataclass(frozen=True, slots=True)
class Component:
    """A branch of the alarm tree."""

    name: str
    pvs: tuple[AlarmPv, ...] = ()
    children: tuple[Component, ...] = field(default_factory=tuple)


def default_config(prefix: str) -> str:
    """Return the name of the configuration for a prefix: `DEMO` for `DEMO:`."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", bare(prefix)).strip("_.-")
    return name if re.fullmatch(CONFIG_PATTERN, name) else f"_{name}"


def config_fault(name: str) -> str:
    """Return what is wrong with a configuration name; empty if nothing is."""
    if not re.fullmatch(CONFIG_PATTERN, name):
        return f"{name!r}: a name begins with a letter or _ and has letters, digits, _, . and - only"
    return f"a name has at most {_CONFIG_MAX} characters" if len(name) > _CONFIG_MAX else ""


def screens_fault(where: str) -> str:
    """Return what is wrong with the location of the screens; empty if nothing is."""
    if not where or where.startswith(("/", "$(")) or re.match(r"[a-z]+:", where):
        return ""
    return f"{where!r}: give an absolute folder, a URL, or a macro such as $(SCREENS)"


def alarm_tree(table: Sequence[PvEntry], screens: str = "") -> tuple[Component, ...]:
    """Return the top components of the tree that have alarms.

    `screens` is where the alarm clients find the screens: an absolute folder, a URL, or a macro of the
    clients; empty for no displays. Raises `AttpcError` for anything else.
    """
    if fault := screens_fault(screens):
        raise AttpcError(fault)
    root = screens if not screens.startswith("/") else Path(screens).as_uri()
    prefix = prefix_of(table)
    scopes: dict[Scope, list[AlarmPv]] = {}
    for entry in table:
        if entry.in_alarm_tree:
            scopes.setdefault(entry.scope, []).append(_pv(entry, prefix, root.rstrip("/")))
    folders = (_folder(kind, scopes) for kind in _FOLDERS)
    return tuple(folder for folder in folders if folder is not None)


def prefix_of(table: Sequence[PvEntry]) -> str:
    """Return the prefix of all names, with its protocol, from the first row, a system row; empty without."""
    return table[0].name.removesuffix(table[0].row.part) if table else ""


def _folder(kind: ScopeKind, scopes: dict[Scope, list[AlarmPv]]) -> Component | None:
    found = {scope.name: tuple(pvs) for scope, pvs in scopes.items() if scope.kind is kind}
    if not found:
        return None
    if "" in found:
        return Component(_FOLDERS[kind], found[""])
    return Component(_FOLDERS[kind], (), tuple(Component(name, pvs) for name, pvs in found.items()))


def _pv(entry: PvEntry, prefix: str, screens: str) -> AlarmPv:
    row, scope = entry.row, entry.scope
    file, title, macro = _SCREENS[scope.kind]
    macros = {"P": prefix, **({macro: scope.name} if macro else {})}
    query = "&".join(f"{name}={quote_plus(value, safe=':')}" for name, value in macros.items())
    return AlarmPv(
        name=entry.name,
        description=f"{scope.name or _SPOKEN[scope.kind]}: {row.alarm.says or row.desc}",
        guidance=row.guidance,
        display=f"{screens}/{file}?{query}" if screens else "",
        display_title=title,
        latching=row.alarm.latching,
        annunciating=row.alarm.annunciating,
        delay_s=row.alarm.delay_s,
    )


def whole_text(tree: Sequence[Component], config: str) -> str:
    """Return the file of a complete configuration.

    Raises `AttpcError` for an invalid name.
    """
    comment = (
        f"The whole alarm configuration {config}, made by attpc-ioc export alarms.\n"
        f"An import first deletes everything that the alarm server has below {config}, including manual\n"
        "changes, and replaces it with this."
    )
    return _document(config, "", comment, [_component(component) for component in tree])


def fragment_text(tree: Sequence[Component], config: str) -> str:
    """Return a file to include in a facility's file: one component, which that file refers to by id.

    Raises `AttpcError` for an invalid name.
    """
    comment = (
        "A fragment to include in another alarm configuration, made by attpc-ioc export alarms:\n"
        f'<xi:include href="/path/to/this/file.xml" xpointer="{config}" '
        'xmlns:xi="http://www.w3.org/2001/XInclude"/>\n'
        "Import the file that includes it, never this one: an import first deletes all that the alarm\n"
        "server has below the configuration that the imported file names."
    )
    below = ET.Element("component", name=config, id=config)
    below.extend(_component(component) for component in tree)
    doctype = "<!DOCTYPE config [\n  <!ATTLIST component id ID #IMPLIED>\n]>\n"
    return _document(f"{config}-fragment", doctype, comment, [below])


def _document(config: str, doctype: str, comment: str, below: Sequence[ET.Element]) -> str:
    if fault := config_fault(config):
        raise AttpcError(fault)
    root = ET.Element("config", name=config)
    root.extend(below)
    ET.indent(root)
    # An XML comment must not contain two hyphens, but names may.
    text = comment.replace("--", "- -")
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}<!--\n{text}\n-->\n{body}\n'


def _component(component: Component) -> ET.Element:
    element = ET.Element("component", name=component.name)
    element.extend(_pv_element(pv) for pv in component.pvs)
    element.extend(_component(child) for child in component.children)
    return element


def _pv_element(pv: AlarmPv) -> ET.Element:
    element = ET.Element("pv", name=pv.name)
    values = {
        "description": pv.description,
        "enabled": "true",
        "latching": str(pv.latching).lower(),
        "annunciating": str(pv.annunciating).lower(),
        **({"delay": str(pv.delay_s)} if pv.delay_s else {}),
    }
    for tag, value in values.items():
        ET.SubElement(element, tag).text = visible(value, LINES)
    _detail(element, "guidance", GUIDANCE_TITLE, pv.guidance)
    _detail(element, "display", pv.display_title, pv.display)
    return element


def _detail(element: ET.Element, tag: str, title: str, details: str) -> None:
    if details:
        inner = ET.SubElement(element, tag)
        ET.SubElement(inner, "title").text = visible(title, LINES)
        ET.SubElement(inner, "details").text = visible(details, LINES)
