"""The run sheet: the entries for each run, and the observables (`Obs:`)."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Record

from . import theme
from .bob import Display, Rule
from .frame import SHEET, part, screen
from .parts import Box, Row, card, refusal
from .table import OBSERVABLES, Pvs

TEXT_ROW, NUMBER_ROW = "observable_text.bob", "observable_number.bob"

WIDTH = 1300
_INNER = WIDTH - 2 * theme.EDGE
_LIST = _INNER - 2 * theme.PAD
_LINE = 36
"""Pixels of height of a row."""


def sheet_screen(pvs: Pvs) -> Display:
    """Return the screen, with the height that its observables need."""
    run, top = _run(pvs), theme.BAR_HEIGHT + theme.EDGE
    # The last row shows a refused entry.
    height = theme.TITLE_HEIGHT + (len(run) - 1) // 2 * _LINE + 52
    widgets = [*card("Run", Box(theme.EDGE, top, _INNER, height), ScopeKind.RUN, run)]
    top += height + theme.EDGE
    rows: list[Row] = []
    for number, row in enumerate(pvs.observables):
        macros = {"NAME": row.part.removeprefix(OBSERVABLES), "TEXT": row.desc.replace("$(", "$ (")}
        file = TEXT_ROW if row.record is Record.LONG_TEXT else NUMBER_ROW
        rows.append(("file", file, 0, number * _LINE, _LIST, _LINE, {"macros": macros}))
    if not rows:
        text = "None yet: they are named in the settings, or with `attpc-ioc observables`."
        rows.append(("label muted", text, 0, 0, _LIST, 28))
    height = theme.TITLE_HEIGHT + len(rows) * _LINE + 10
    widgets += card("Observables", Box(theme.EDGE, top, _INNER, height), ScopeKind.SYSTEM, rows)
    return screen(pvs, SHEET, "Run sheet", tuple(widgets), top + height + theme.EDGE, width=WIDTH)


def _run(pvs: Pvs) -> list[Row]:
    fields = [
        ("Number", "value strong", "Number_RBV", 200),
        ("Title", "entry string", "Title", 1110),
        ("Operator", "entry string", "Operator", 1110),
        ("Class", "choice", "Class", 260),
    ]
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        fields += [
            ("Quality", "choice", "Quality", 260),
            ("Comment", "entry string", "Comment", 1110),
        ]
    rows: list[Row] = []
    for number, (name, look, pv, width) in enumerate(fields):
        y = number * _LINE
        rows += [("name", name, 0, y + 3, 140, 24), (look, pv, 150, y, width, 30)]
    return [*rows, refusal(0, len(fields) * _LINE, _LIST, 40, by_pva=pvs.by_pva)]


def observable_row(look: str) -> Display:
    """Return the row of an observable: name, field and description; macros NAME and TEXT.

    An observable that is not set has a grey number, with a note beside it.
    """
    pv = f"$(P){OBSERVABLES}$(NAME)"
    unset = "pvSev0 > 2"
    grey = Rule("foreground_color", ((unset, theme.LINE),), (pv,))
    rows: list[Row] = [
        ("label strong", "$(NAME)", 0, 3, 300, 28),
        (look, pv, 310, 3, 420, 28, {"rules": (grey,)}),
        ("label muted", "not set", 740, 3, 70, 28, {"shown": (unset, pv)}),
        ("label small muted", "$(TEXT)", 816, 3, _LIST - 816, 28),
    ]
    return part("Observable $(NAME)", _LIST, _LINE, ScopeKind.SYSTEM, rows)
