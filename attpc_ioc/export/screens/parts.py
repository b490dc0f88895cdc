"""Widgets from rows of tables: words give the look, the row gives the contents and the place.

A row is `(words, what, x, y, width, height)`, in pixels from where its table is placed, and may end with
`Extra`. The first word is one of `LOOKS`, the others are of `WORDS` and `CASES`. `what` is the text of a
label, the file of `open`, `file` and `list`, and else a PV: its part of the name behind the scope, or the
whole name where that has a macro.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

from attpc_ioc.model.command import COMMANDS, CommandName, ScopeKind
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State

from . import theme
from .bob import Action, Expression, OpenDisplay, Rule, Value, Widget, WritePv

HEADS: Mapping[ScopeKind, str] = {
    ScopeKind.SYSTEM: "$(P)",
    ScopeKind.RUN: "$(P)Run:",
    ScopeKind.ECC: "$(P)Ecc:$(ECC):",
    ScopeKind.SOURCE: "$(P)$(SOURCE):",
    ScopeKind.IOC: "$(P)IOC:",
    ScopeKind.PLUGIN: "$(P)Plugin:$(PLUGIN):",
}
"""The beginning of the names of a scope's PVs."""

ASK_OFF = 3
"""The mode of a bool button that asks for confirmation only before switching off."""

LEAVE_OUT = "Leave $(ECC) out of group commands and of the next run?"


class Extra(TypedDict, total=False):
    """Properties that few rows need."""

    text: str
    """The text of a button; the command's name by default."""
    confirm: str
    """The question before a button or switch acts."""
    number: int | str
    """The value that a button writes; 1 by default."""
    target: str
    """Where `open` opens its file; `tab` by default."""
    tooltip: str
    name: str
    """The widget's name; by default what it shows."""
    macros: Mapping[str, str]
    rules: tuple[Rule, ...]
    shown: tuple[str, str]
    """A PV and a condition on it (`pvInt0` and so on): the widget is visible only while it is true."""
    hidden: tuple[str, str]
    """A PV and a condition on it: the widget is hidden while it is true."""


Row = tuple[str, str, int, int, int, int] | tuple[str, str, int, int, int, int, Extra]


class Box(NamedTuple):
    """An area of a screen, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Look:
    """A kind of widget: Phoebus's type, the property with its contents, and its other properties.

    The properties `colored` have the colour of the PV's severity, and of its state by a word of `CASES`.
    """

    type: str
    shows: str
    properties: Mapping[str, Value] = field(default_factory=dict)
    colored: tuple[str, ...] = ()


_NORMAL = {"font": theme.NORMAL, "foreground_color": theme.TEXT}
_LEFT = {"horizontal_alignment": 0, "vertical_alignment": 1, "wrap_words": False}
_CENTER = _LEFT | {"horizontal_alignment": 1}
_BUTTON = {"font": theme.BUTTON_FONT, "background_color": theme.BUTTON, "foreground_color": theme.TEXT}
_STRING = {"format": 6}
"""A long text is a CHAR waveform, which Phoebus shows as text in this format only."""

LOOKS: Mapping[str, Look] = {
    "label": Look("label", "text", _NORMAL | _LEFT),
    "name": Look("label", "text", {"font": theme.SMALL, "foreground_color": theme.MUTED, **_LEFT}),
    "stripe": Look(
        "rectangle",
        "",
        {"background_color": theme.STRIPE, "line_color": theme.STRIPE, "line_width": 0},
    ),
    # One line, with a border in the colour of the severity.
    "value": Look("textupdate", "pv_name", {**_NORMAL, "transparent": True, **_LEFT}),
    # A time as `2026-11-23 04:57:49`, or a dash. `moment` is for a PV with ISO 8601,
    # `clock` for devIocStats's `11/23/2026 04:57:49`.
    "moment": Look("label", "", {"text": "\N{EN DASH}", **_NORMAL, **_LEFT}),
    "clock": Look("label", "", {"text": "\N{EN DASH}", **_NORMAL, **_LEFT}),
    # Several lines, with a scroll bar if they do not fit.
    "text": Look(
        "textupdate",
        "pv_name",
        {**_NORMAL, "background_color": theme.FIELD, **_STRING, "wrap_words": True, "interactive": True},
    ),
    # A state as a coloured area, visible from across the room.
    "tile": Look(
        "textupdate",
        "pv_name",
        {"font": theme.STRONG, "foreground_color": theme.TEXT, "background_color": theme.QUIET, **_CENTER},
        ("background_color",),
    ),
    "entry": Look(
        "textentry",
        "pv_name",
        {**_NORMAL, "background_color": theme.ENTRY, "border_width": 1, "border_color": theme.ENTRY_LINE},
    ),
    "choice": Look("combo", "pv_name", {**_NORMAL, "background_color": theme.ENTRY}),
    "switch": Look(
        "bool_button",
        "pv_name",
        {
            "font": theme.BUTTON_FONT,
            "foreground_color": theme.TEXT,
            "off_color": theme.BUTTON,
            "on_color": theme.FIELD,
            "show_led": False,
            "labels_from_pv": True,
        },
    ),
    "lamp": Look(
        "led",
        "pv_name",
        {"off_color": theme.QUIET, "on_color": theme.RUNNING},
        ("off_color", "on_color"),
    ),
    "bar": Look(
        "progressbar",
        "pv_name",
        {
            "fill_color": theme.READY,
            "background_color": theme.QUIET,
            "limits_from_pv": False,
            "minimum": 0.0,
            "maximum": 100.0,
        },
    ),
    # Grey while `Allowed_RBV` says that the command would be refused.
    "command": Look("action_button", "text", {**_BUTTON, "enabled": False}),
    "write": Look("action_button", "text", _BUTTON),
    "open": Look("action_button", "text", _BUTTON),
    # Another file in this one: of the same size, or with scroll bars if it is larger.
    "file": Look("embedded", "file", {"resize": 4, "transparent": True}),
    "list": Look("embedded", "file", {"resize": 0, "transparent": True}),
}

WORDS: Mapping[str, Mapping[str, Value]] = {
    "normal": {"font": theme.NORMAL},
    "strong": {"font": theme.STRONG},
    "small": {"font": theme.SMALL},
    "large": {"font": theme.LARGE},
    "huge": {"font": theme.HUGE},
    "mono": {"font": theme.MONO},
    "title": {"font": theme.TITLE},
    "heading": {"font": theme.BAR_FONT},
    "muted": {"foreground_color": theme.MUTED},
    "white": {"foreground_color": theme.WHITE},
    "left": {"horizontal_alignment": 0},
    "center": {"horizontal_alignment": 1},
    "right": {"horizontal_alignment": 2},
    "string": _STRING,
    "decimal": {"format": 1},
    "whole": {"format": 1, "precision": 0},
    "unitless": {"show_units": False},
    "unwrapped": {"wrap_words": False},
    "notice": {"background_color": theme.NOTICE},
    "plain": {"background_color": theme.CARD},
    "dark": {"background_color": theme.BAR, "line_color": theme.BAR},
    "here": {"background_color": theme.BAR_HERE, "foreground_color": theme.WHITE},
    "elsewhere": {"background_color": theme.BAR_BUTTON, "foreground_color": theme.WHITE},
    "start": {"font": theme.BIG_BUTTON, "background_color": theme.START, "foreground_color": theme.WHITE},
    "stop": {"font": theme.BIG_BUTTON, "background_color": theme.STOP, "foreground_color": theme.WHITE},
}

_SEVERITIES = (("pvSev0 == 2", theme.MAJOR), ("pvSev0 == 1", theme.MINOR), ("pvSev0 > 2", theme.INVALID))
"""Phoebus's severities: 1 MINOR, 2 MAJOR, 3 INVALID, 4 UNDEFINED."""

CASES: Mapping[str, tuple[tuple[str, Value], ...]] = {
    "module": (
        (f"pvInt0 == {int(State.RUNNING)}", theme.RUNNING),
        (f"pvInt0 == {int(State.READY)}", theme.READY),
    ),
    "flow": (('pvStr0 == "Flowing"', theme.RUNNING),),
    "run": (
        (f"pvInt0 == {int(RunState.RUNNING)}", theme.RUNNING),
        (f"pvInt0 == {int(RunState.STARTING)} || pvInt0 == {int(RunState.STOPPING)}", theme.READY),
    ),
}
"""Colours of states without alarm."""

_DATES = {"moment": "pvStr0[0:10]", "clock": 'pvStr0[6:10] + "-" + pvStr0[0:2] + "-" + pvStr0[3:5]'}


def place(kind: ScopeKind, x: int, y: int, rows: Iterable[Row]) -> tuple[Widget, ...]:
    """Return the widgets of one scope's table, placed at `x` and `y`."""
    return tuple(_widget(kind, x, y, row) for row in rows)


def card(title: str, box: Box, kind: ScopeKind, rows: Iterable[Row] = ()) -> tuple[Widget, ...]:
    """Return an area for things that belong together, with its title unless that is empty, and its rows.

    The rows are placed within its margin and below its title.
    """
    look: dict[str, Value] = {"background_color": theme.CARD, "line_color": theme.LINE, "line_width": 1}
    area = Widget(
        "rectangle", f"{title or 'Card'} area", *box, look | {"corner_width": 6, "corner_height": 6}
    )
    head: list[Row] = [("label title", title, 0, 5 - theme.TITLE_HEIGHT, 10 * len(title) + 20, 24)]
    inside = [*(head if title else []), *rows]
    return (area, *place(kind, box.x + theme.PAD, box.y + theme.TITLE_HEIGHT, inside))


def refusal(x: int, y: int, width: int, height: int, *, by_pva: bool) -> Row:
    """Return the row that shows why the last entry was refused: Phoebus shows it only in its console."""
    pv = "$(P)Refused_RBV"
    # By Channel Access a long text is an array, of which Phoebus's rules see only the first byte.
    there = 'pvStr0 != ""' if by_pva else "pvInt0 != 0"
    return ("text small notice", pv, x, y, width, height, {"shown": (there, pv)})


def _widget(kind: ScopeKind, left: int, top: int, row: Row) -> Widget:
    words, what, x, y, width, height, *more = row
    extra = more[0] if more else Extra()
    first, *others = words.split()
    look = LOOKS[first]
    pv = what if "$(" in what else HEADS[kind] + what
    text, name = extra.get("text", what), pv.removeprefix("$(P)")
    cases = _SEVERITIES + tuple(case for word in others for case in CASES.get(word, ()))
    rules = [Rule(prop, cases, (pv,)) for prop in look.colored]
    actions: tuple[Action, ...] = ()
    properties: dict[str, Value] = {}
    if look.shows:
        properties[look.shows] = pv if look.shows == "pv_name" else text
    properties |= look.properties
    for word in others:
        if word not in CASES:
            properties |= WORDS[word]
    match first:
        case "label" | "name" | "stripe":
            name = text.splitlines()[0]
        case "file" | "list":
            name = " ".join([what.removesuffix(".bob"), *extra.get("macros", {}).values()])
        case "moment" | "clock":
            shown = Expression(f'{_DATES[first]} + " " + pvStr0[11:19]')
            rules.append(Rule("text", (("len(pvStr0) > 18", shown),), (pv,)))
            properties["tooltip"] = pv
        case "open":
            name, properties["tooltip"] = f"{text} button", f"Open {what}"
            actions = (OpenDisplay(what, text, extra.get("target", "tab")),)
        case "command" | "write":
            name, properties["tooltip"] = f"{text} button", pv
            actions = (WritePv(pv, str(extra.get("number", 1)), text),)
            if first == "command":
                bit = 1 << COMMANDS[kind].index(CommandName(what))
                allowed = f"(pvInt0 & {bit}) != 0"
                rules.append(Rule("enabled", ((allowed, True),), (f"{HEADS[kind]}Allowed_RBV",)))
    if "tooltip" in extra:
        properties["tooltip"] = extra["tooltip"]
    if "confirm" in extra:
        ask = ASK_OFF if first == "switch" else True
        properties |= {"show_confirm_dialog": ask, "confirm_message": extra["confirm"]}
    if "shown" in extra:
        condition, of = extra["shown"]
        rules.append(Rule("visible", ((condition, True),), (of,)))
        properties["visible"] = False
    if "hidden" in extra:
        condition, of = extra["hidden"]
        rules.append(Rule("visible", ((condition, False),), (of,)))
    rules += extra.get("rules", ())
    return Widget(
        look.type,
        extra.get("name", name),
        left + x,
        top + y,
        width,
        height,
        properties,
        tuple(rules),
        actions,
        extra.get("macros", {}),
    )
