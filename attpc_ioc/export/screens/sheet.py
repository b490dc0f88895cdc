"""The run sheet: what is written of each run, and the observables (`Obs:`)."""

from __future__ import annotations

from dataclasses import replace

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Record

from . import theme
from .bob import Display, Rule, Widget
from .frame import SHEET, part, screen
from .parts import STRING, card, choice, embedded, entry, label, name_of, refusal, value
from .table import OBSERVABLES, Pvs

TEXT_ROW, NUMBER_ROW = "observable_text.bob", "observable_number.bob"

WIDTH = 1300
_INNER = WIDTH - 2 * theme.EDGE
_LIST = _INNER - 2 * theme.PAD
_TOP = theme.BAR_HEIGHT + theme.EDGE
_LINE = 36
_REFUSED = 44
"""Of what was refused of the entries."""


def sheet_screen(pvs: Pvs) -> Display:
    """Return the screen, as high as its observables need."""
    run = _run_lines(pvs)
    height = theme.TITLE_HEIGHT + len(run) * _LINE + _REFUSED + 8
    widgets: list[Widget] = [*card("Run", theme.EDGE, _TOP, _INNER, height)]
    x = theme.EDGE + theme.PAD
    for number, (name, widget) in enumerate(run):
        at = _TOP + theme.TITLE_HEIGHT + number * _LINE
        widgets += [name_of(name, x, at + 3, 140), replace(widget, y=at)]
    widgets += refusal(x, _TOP + theme.TITLE_HEIGHT + len(run) * _LINE, _LIST, _REFUSED - 4)
    top = _TOP + height + theme.EDGE
    rows = pvs.observables
    list_height = theme.TITLE_HEIGHT + max(1, len(rows)) * _LINE + 10
    widgets += card("Observables", theme.EDGE, top, _INNER, list_height)
    for number, row in enumerate(rows):
        macros = {
            "NAME": row.part.removeprefix(OBSERVABLES),
            "TEXT": row.desc.replace("$(", "$ ("),
        }
        file = TEXT_ROW if row.record is Record.LONG_TEXT else NUMBER_ROW
        at = top + theme.TITLE_HEIGHT + number * _LINE
        widgets.append(embedded(file, x, at, _LIST, _LINE, macros))
    if not rows:
        text = "None yet: they are named in the settings, or with `attpc-ioc observables`."
        widgets.append(label(text, x, top + theme.TITLE_HEIGHT, _LIST, 28, color=theme.MUTED))
    return screen(pvs, SHEET, "Run sheet", tuple(widgets), top + list_height + theme.EDGE, width=WIDTH)


def _run_lines(pvs: Pvs) -> list[tuple[str, Widget]]:
    x = theme.EDGE + theme.PAD + 150
    room = _INNER - 150 - 2 * theme.PAD
    lines = [
        ("Number", value("$(P)Run:Number_RBV", x, 0, 200, 30, font=theme.STRONG)),
        ("Title", entry("$(P)Run:Title", x, 0, room, fmt=STRING)),
        ("Operator", entry("$(P)Run:Operator", x, 0, room, fmt=STRING)),
        ("Class", choice("$(P)Run:Class", x, 0, 260)),
    ]
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        lines += [
            ("Quality", choice("$(P)Run:Quality", x, 0, 260)),
            ("Comment", entry("$(P)Run:Comment", x, 0, room, fmt=STRING)),
        ]
    return lines


def observable_row(fmt: int) -> Display:
    """Return the row of an observable: name, field and description; macros NAME and TEXT.

    The number of one that has no value yet is grey, and beside it is said so.
    """
    pv = f"$(P){OBSERVABLES}$(NAME)"
    unset = Rule("visible", (("pvSev0 > 2", True),), (pv,))
    grey = Rule("foreground_color", (("pvSev0 > 2", theme.LINE),), (pv,))
    said = label("not set", 740, 3, 70, 28, color=theme.MUTED, rules=(unset,))
    widgets = (
        label("$(NAME)", 0, 3, 300, 28, font=theme.STRONG),
        replace(entry(pv, 310, 3, 420, 28, fmt=fmt), rules=(grey,)),
        replace(said, properties={**said.properties, "visible": False}),
        label("$(TEXT)", 816, 3, _LIST - 816, 28, color=theme.MUTED, font=theme.SMALL),
    )
    return part("Observable $(NAME)", _LIST, _LINE, widgets)
