"""A small model of a Display Builder file (`.bob`): displays and widgets, and their XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from attpc_ioc.export.owned import MARK
from attpc_ioc.printable import LINES, visible

from .widgets import DISPLAY_VERSION, KINDS, Kind

_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {MARK}; the next export writes it anew. -->\n'


class ScreenError(ValueError):
    """A widget that Phoebus would misread: an unknown property, an empty value."""


@dataclass(frozen=True, slots=True)
class Color:
    """A colour; each part from 0 to 255."""

    red: int
    green: int
    blue: int


@dataclass(frozen=True, slots=True)
class Font:
    """A font; `style` is REGULAR, BOLD, ITALIC or BOLD_ITALIC, `size` is in pixels."""

    size: int
    style: str = "REGULAR"
    family: str = "Liberation Sans"


@dataclass(frozen=True, slots=True)
class Part:
    """An element with child elements: an axis or a trace of a plot."""

    tag: str
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that a rule computes for its property, instead of a constant."""

    text: str


Value = str | int | float | bool | Color | Font | tuple[Part, ...]
"""The value of a property. Enumerations of Phoebus are numbers."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Sets a property from PVs: the first true expression gives the value, else the property keeps its own.

    Phoebus turns expressions into Python: names `pvInt0`, `pvSev0` and so on, comparisons, `&`, `&&`, `||`;
    `pvs[0]` is the PV itself. While a PV is disconnected the property's own value stays. The values of all
    cases are expressions, or none is.
    """

    prop: str
    cases: tuple[tuple[str, Value | Expression], ...]
    pvs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WritePv:
    """The action of a button that writes a PV."""

    pv: str
    value: str
    description: str


@dataclass(frozen=True, slots=True)
class OpenDisplay:
    """The action of a button that opens a display; `target` is replace, tab, window or standalone.

    The display gets the macros of the button. They are not repeated: a macro that refers to itself is an
    error in some versions of Phoebus.
    """

    file: str
    description: str
    target: str = "replace"


Action = WritePv | OpenDisplay


@dataclass(frozen=True, slots=True)
class Widget:
    """A widget: place and size in pixels, its own properties by Phoebus's names, rules and actions."""

    type: str
    name: str
    x: int
    y: int
    width: int
    height: int
    properties: Mapping[str, Value] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    actions: tuple[Action, ...] = ()
    macros: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Display:
    """A file: size in pixels, macros for its contents, and its widgets."""

    name: str
    width: int
    height: int
    background: Color
    widgets: tuple[Widget, ...]
    macros: Mapping[str, str] = field(default_factory=dict)


def xml(display: Display) -> str:
    """Return a display as the text of its file.

    Raises `ScreenError` if a widget is of an unknown type, has a property that its type lacks or an empty
    value, or is not within the display.
    """
    root = ET.Element("display", version=DISPLAY_VERSION)
    _text(root, "name", display.name)
    _macros(root, display.macros)
    _text(root, "width", display.width)
    _text(root, "height", display.height)
    _property(root, "background_color", display.background)
    _text(root, "grid_visible", False)
    for widget in display.widgets:
        if widget.x + widget.width > display.width or widget.y + widget.height > display.height:
            raise ScreenError(f"{display.name}: {widget.name} is not within the display")
        root.append(_widget(widget))
    ET.indent(root)
    return f"{_HEAD}{ET.tostring(root, encoding='unicode')}\n"


def _widget(widget: Widget) -> ET.Element:
    kind = KINDS.get(widget.type)
    if kind is None:
        raise ScreenError(f"{widget.name}: {widget.type} is not a known widget type")
    given = {*widget.properties, *("rules" for _ in widget.rules), *("actions" for _ in widget.actions)}
    given |= {"macros"} if widget.macros else set()
    if unknown := given - kind.properties:
        raise ScreenError(f"{widget.name}: a {widget.type} has no {', '.join(sorted(unknown))}")
    if min(widget.x, widget.y) < 0 or min(widget.width, widget.height) < 1:
        raise ScreenError(f"{widget.name}: place or size is wrong")
    element = ET.Element("widget", type=widget.type, version=kind.version)
    _text(element, "name", widget.name)
    _macros(element, widget.macros)
    for tag, number in (("x", widget.x), ("y", widget.y), ("width", widget.width), ("height", widget.height)):
        _text(element, tag, number)
    for name, value in widget.properties.items():
        _check_parts(widget, kind, value)
        _property(element, name, value)
    if widget.actions:
        actions = ET.SubElement(element, "actions")
        for action in widget.actions:
            _action(actions, action)
    if widget.rules:
        rules = ET.SubElement(element, "rules")
        for rule in widget.rules:
            if rule.prop not in kind.properties:
                raise ScreenError(f"{widget.name}: a {widget.type} has no {rule.prop}")
            _rule(rules, rule)
    return element


def _check_parts(widget: Widget, kind: Kind, value: Value) -> None:
    for part in value if isinstance(value, tuple) else ():
        if unknown := set(part.values) - kind.parts.get(part.tag, frozenset()):
            raise ScreenError(f"{widget.name}: a {part.tag} has no {', '.join(sorted(unknown))}")


def _property(parent: ET.Element, name: str, value: Value) -> None:
    if isinstance(value, Color):
        element = ET.SubElement(parent, name)
        ET.SubElement(element, "color", red=str(value.red), green=str(value.green), blue=str(value.blue))
    elif isinstance(value, Font):
        element = ET.SubElement(parent, name)
        ET.SubElement(element, "font", family=value.family, style=value.style, size=f"{value.size:.1f}")
    elif isinstance(value, tuple):
        element = ET.SubElement(parent, name)
        for part in value:
            inner = ET.SubElement(element, part.tag)
            for key, item in part.values.items():
                _property(inner, key, item)
    else:
        _text(parent, name, value)


_MAY_BE_EMPTY = (("trace", "name"), ("y_axis", "title"))
"""Without these Phoebus makes up names. Without a legend it writes the names of the traces on the axis,
unless they are empty."""


def _text(parent: ET.Element, tag: str, value: str | float) -> None:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.strip() and (parent.tag, tag) not in _MAY_BE_EMPTY:
        raise ScreenError(f"{parent.tag}: {tag} is empty")
    ET.SubElement(parent, tag).text = visible(text, LINES)


def _macros(parent: ET.Element, macros: Mapping[str, str]) -> None:
    if not macros:
        return
    element = ET.SubElement(parent, "macros")
    for name, value in macros.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise ScreenError(f"{name!r} cannot be a macro's name")
        _text(element, name, value)


def _action(parent: ET.Element, action: Action) -> None:
    if isinstance(action, WritePv):
        element = ET.SubElement(parent, "action", type="write_pv")
        _text(element, "pv_name", action.pv)
        _text(element, "value", action.value)
    else:
        element = ET.SubElement(parent, "action", type="open_display")
        _text(element, "file", action.file)
        _text(element, "target", action.target)
    _text(element, "description", action.description)


def _rule(parent: ET.Element, rule: Rule) -> None:
    computed = any(isinstance(value, Expression) for _, value in rule.cases)
    out = str(computed).lower()
    element = ET.SubElement(parent, "rule", name=rule.prop, prop_id=rule.prop, out_exp=out)
    for condition, value in rule.cases:
        case = ET.SubElement(element, "exp", bool_exp=condition)
        if isinstance(value, Expression):
            _text(case, "expression", value.text)
        else:
            _property(case, "value", value)
    for pv in rule.pvs:
        _text(element, "pv_name", pv)
