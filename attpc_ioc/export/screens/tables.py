"""The screen of PVAccess's tables, by Phoebus's Table widget: it reads an NTTable, headings included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attpc_ioc.export.protocol import PVA
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Record, Row
from attpc_ioc.pvs.tables import ALARMS, NAME, SEVERITY

from . import theme
from .bob import Display, Part, Value, Widget
from .frame import TABLES, screen
from .parts import Box, card
from .table import Pvs

_ACROSS = 2
"""Tables beside each other."""
_LEAST = 200
"""Minimum height of a card in pixels."""
_CHAR = 9
"""Pixels of width of a character, roughly."""
_TEXTS = {Record.LONG_TEXT: 24, Record.STRINGS: 20, Record.STRINGIN: 20}
"""Characters of texts that are seen without pulling the column wider."""
_NUMBER = 8
_ALARMS = {SEVERITY: 8, "PV": 30, "Status": 8, "Since": 25, "Reason": 60}
"""The columns of the alarms, with the characters of each."""


def tables_screen(pvs: Pvs) -> Display:
    """Return the screen of all tables."""
    shown: list[tuple[str, str, Mapping[str, int]]] = []
    for entry in pvs.tables:
        first = {} if entry.rows is None else {NAME: 12, SEVERITY: 8}
        columns = first | {column.name: _width(column.row) for column in entry.columns}
        shown.append((entry.name.removeprefix(pvs.prefix), entry.desc, columns))
    shown.append((ALARMS, "A row for each PV in alarm", _ALARMS))
    lines = -(-len(shown) // _ACROSS)
    top = theme.BAR_HEIGHT + theme.EDGE
    width = (theme.WIDTH - theme.EDGE * (_ACROSS + 1)) // _ACROSS
    height = max(_LEAST, (theme.HEIGHT - top) // lines - theme.EDGE)
    widgets: list[Widget] = []
    for number, (name, desc, columns) in enumerate(shown):
        left = theme.EDGE + number % _ACROSS * (width + theme.EDGE)
        box = Box(left, top + number // _ACROSS * (height + theme.EDGE), width, height)
        widgets += card(f"{name}: {desc[0].lower()}{desc[1:]}", box, ScopeKind.SYSTEM)
        widgets.append(_table(name, f"{'' if pvs.by_pva else PVA}$(P){name}", columns.items(), box))
    bottom = top + lines * (height + theme.EDGE)
    return screen(pvs, TABLES, "Tables", tuple(widgets), bottom)


def _table(name: str, pv: str, columns: Iterable[tuple[str, int]], box: Box) -> Widget:
    # Phoebus makes the whole table editable if one of its columns is.
    parts = [
        Part("column", {"name": heading, "width": _CHAR * max(len(heading) + 2, chars), "editable": False})
        for heading, chars in columns
    ]
    properties: dict[str, Value] = {
        "pv_name": pv,
        "font": theme.SMALL,
        "foreground_color": theme.TEXT,
        "background_color": theme.FIELD,
        "show_toolbar": False,
        "editable": False,
        "row_selection_mode": True,
        "columns": tuple(parts),
    }
    x, y, wide, high = box
    inside = (x + 6, y + theme.TITLE_HEIGHT, wide - 12, high - theme.TITLE_HEIGHT - 6)
    return Widget("table", f"{name} table", *inside, properties)


def _width(row: Row) -> int:
    """Return the characters of a column's usual cell."""
    return max(map(len, row.labels)) + 2 if row.labels else _TEXTS.get(row.record, _NUMBER)
