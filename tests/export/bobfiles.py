"""Screens as Phoebus opens them: from `main.bob` on, every file with every set of macros it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from attpc_ioc.app import load_plugins, make_table
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.settings import load_settings
from attpc_ioc.settings.template import FleetRequest, fleet_text

OBSERVABLES = """
[[plugins.run_history.observable]]
name = "pressure"
units = "mbar"
comment = "Of the gas"
[[plugins.run_history.observable]]
name = "gas"
type = "string"
[[plugins.run_history.observable]]
name = "triggers"
type = "integer"
"""

_MACRO = re.compile(r"\$\((\w+)\)")


_ROUTER = """
[[plugins.data_routers.router]]
sources = ["{source}"]
access = "local"
staging = "/data/{source}"
"""


def router(source: str) -> str:
    """Return the settings of a source's data router on this machine."""
    return _ROUTER.format(source=source)


def table_of(
    folder: Path, *, cobos: int = 3, extra: str = "", plugins: bool = True, routers: int | None = None
) -> tuple[PvEntry, ...]:
    """Return the PV table of a fleet of CoBos and a MuTAnT and of the plugins unless they are off.

    Of the sources the first `routers` have a data router, all without it.
    """
    text = fleet_text(FleetRequest(cobos, "10.0.0.10", "10.0.0.200", "", "T:"))
    if not plugins:
        text += "\n[plugins.run_history]\nenabled = false\n[plugins.data_routers]\nenabled = false\n"
    else:
        sources = [*(f"CoBo{number}" for number in range(cobos)), "MuTAnT"]
        text += "".join(map(router, sources[:routers]))
    file = folder / "fleet.toml"
    file.write_text(text + extra)
    settings = load_settings(file)
    return make_table(settings, load_plugins(settings))


@dataclass(frozen=True)
class Shown:
    """A widget as it is shown: its file, its macros with those from outside, and its element."""

    file: str
    macros: Mapping[str, str]
    element: ET.Element

    @property
    def type(self) -> str:
        return self.element.get("type", "")

    def text(self, tag: str, default: str = "") -> str:
        """Return a property with its macros expanded."""
        return self.expand(self.element.findtext(tag, default))

    def expand(self, text: str) -> str:
        return _MACRO.sub(lambda found: self.macros.get(found[1], found[0]), text)

    @property
    def pvs(self) -> Iterator[str]:
        """Yield every PV that it reads or writes, those of formulas too."""
        for tag in ("pv_name", "y_pv"):
            for element in self.element.iter(tag):
                name = self.expand(element.text or "")
                yield from re.findall(r"`([^`]+)`", name) if name.startswith("eq://") else [name]

    @property
    def where(self) -> str:
        return f"{self.file}: {self.element.findtext('name')}"


def shown(files: Mapping[str, str], start: str = "main.bob") -> list[Shown]:
    """Return every widget that can be reached, once for each set of macros; a missing file is a KeyError."""
    roots = {name: ET.fromstring(text.encode()) for name, text in files.items()}
    needed = _needed(files, roots)
    found: list[Shown] = []
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    waiting: list[tuple[str, dict[str, str]]] = [(start, {})]
    while waiting:
        file, given = waiting.pop()
        root = roots[file]
        macros = {key: text for key, text in (given | _macros(root)).items() if key in needed[file]}
        key = (file, tuple(sorted(macros.items())))
        if key in seen:
            continue
        seen.add(key)
        for element in root.iter("widget"):
            widget = Shown(file, macros, element)
            found.append(widget)
            targets = [*element.iter("action"), *([element] if widget.type == "embedded" else [])]
            for target in targets:
                name = target.findtext("file")
                if name is not None:
                    inner = {key: widget.expand(text) for key, text in _macros(target).items()}
                    waiting.append((widget.expand(name), macros | inner))
    return found


def _needed(files: Mapping[str, str], roots: Mapping[str, ET.Element]) -> dict[str, set[str]]:
    """Return the macros that make a difference to each file: its own, and those that it hands on.

    Without the others a fleet's screens are looked at once each, not once for each way that leads to them.
    """
    needed = {name: set(_MACRO.findall(text)) for name, text in files.items()}
    steps = [
        (name, inner, set(_macros(target)))
        for name, root in roots.items()
        for target in (*root.iter("action"), *root.iter("widget"))
        for inner in files
        if target.findtext("file") == inner
    ]
    changed = True
    while changed:
        before = sum(map(len, needed.values()))
        for name, inner, given in steps:
            needed[name] |= needed[inner] - given
        changed = sum(map(len, needed.values())) > before
    return needed


def _macros(element: ET.Element) -> dict[str, str]:
    inside = element.find("macros")
    return {} if inside is None else {one.tag: one.text or "" for one in inside}
