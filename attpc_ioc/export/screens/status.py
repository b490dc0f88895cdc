"""The screen of the IOC itself and of its plugins."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display
from .frame import STATUS, part, screen
from .parts import Box, Row, card
from .table import Pvs

PLUGIN_ROW = "plugin_row.bob"

WIDTH = 1300
_INNER = WIDTH - 2 * theme.EDGE
_LIST = _INNER - 2 * theme.PAD
_TOP = theme.BAR_HEIGHT + theme.EDGE
_LINE = 54
"""Pixels of height of a plugin's row."""
_ALARMS = 120
"""Minimum height of the alarms in pixels."""
_ACCESS = 166
"""Height, in pixels, of the texts on access and on other servers."""

_SECTIONS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Life",
        (
            ("Heartbeat", "value", "HEARTBEAT"),
            ("Up for", "value", "UPTIME"),
            ("Started", "clock", "STARTTOD"),
            ("Now", "clock", "TOD"),
            ("Last step of the clock", "value", "ClockStep_RBV"),
            ("IOC mode", "value", "ACCESS"),
        ),
    ),
    (
        "Load",
        (
            ("CPU of the IOC", "value", "IOC_CPU_LOAD"),
            ("CPU of the host", "value", "SYS_CPU_LOAD"),
            # The PV is in bytes; a computed value would keep that unit.
            ("Memory used, MB", "value whole unitless", "MEM_USED"),
            ("Open files", "value", "FD_CNT"),
            ("Records", "value", "RECORD_CNT"),
        ),
    ),
    (
        "Clients",
        (
            ("Clients", "value", "CA_CLNT_CNT"),
            ("Channels", "value", "CA_CONN_CNT"),
            ("Host", "value", "HOSTNAME"),
            ("Engineer", "value", "ENGINEER"),
            ("Location", "value", "LOCATION"),
        ),
    ),
)


def status_screen(pvs: Pvs) -> Display:
    """Return the screen, with a row for each plugin and with those of the IOC's own PVs that exist."""
    width = (_INNER - 2 * theme.EDGE) // 3
    height = theme.TITLE_HEIGHT + max(len(lines) for _, lines in _SECTIONS) * 28 + 4
    widgets = []
    for number, (title, lines) in enumerate(_SECTIONS):
        rows: list[Row] = []
        for name, look, pv in lines:
            if pvs.has(ScopeKind.IOC, pv):
                y = len(rows) // 2 * 28
                what = f"eq://`$(P)IOC:{pv}` / 1000000" if pv == "MEM_USED" else pv
                rows += [("name", name, 0, y, 150, 24), (look, what, 154, y, width - 178, 26)]
        box = Box(theme.EDGE + number * (width + theme.EDGE), _TOP, width, height)
        widgets += card(title, box, ScopeKind.IOC, rows)
    top = _TOP + height + theme.EDGE
    widgets += card("Access", Box(theme.EDGE, top, _INNER, _ACCESS), ScopeKind.IOC, _access())
    top += _ACCESS + theme.EDGE
    plugins = pvs.scopes(ScopeKind.PLUGIN)
    height = theme.TITLE_HEIGHT + max(1, len(plugins)) * _LINE + 8
    rows = [
        ("file", PLUGIN_ROW, 0, number * _LINE, _LIST, _LINE, {"macros": {"PLUGIN": name}})
        for number, name in enumerate(plugins)
    ]
    none: Row = ("label muted", "None is installed.", 0, 0, _LIST, 28)
    widgets += card("Plugins", Box(theme.EDGE, top, _INNER, height), ScopeKind.PLUGIN, rows or [none])
    top += height + theme.EDGE
    height = max(_ALARMS, theme.HEIGHT - theme.EDGE - top)
    alarms: Row = ("text", "AlarmText_RBV", 0, 0, _LIST, height - theme.TITLE_HEIGHT - 10)
    widgets += card("Alarms", Box(theme.EDGE, top, _INNER, height), ScopeKind.SYSTEM, [alarms])
    bottom = top + height + theme.EDGE
    return screen(pvs, STATUS, "IOC and plugins", tuple(widgets), bottom, width=WIDTH)


def _access() -> list[Row]:
    """Return the rows on access and on other servers; their texts are empty while all is well."""
    others, some = "$(P)IOC:OtherServers_RBV", "pvSev0 != 0"
    return [
        ("name", "Security file", 0, 2, 150, 24),
        ("tile", "AccessFile_RBV", 154, 0, 160, 28),
        ("text small", "AccessText_RBV", 330, 0, 930, 66),
        ("name", "Other servers", 0, 76, 150, 24),
        ("text small", others, 154, 74, 1106, 48, {"shown": (some, others)}),
        ("label muted", "None answers for these names.", 154, 76, 1106, 24, {"hidden": (some, others)}),
    ]


def plugin_row() -> Display:
    """Return the row of one plugin: status and message; macro PLUGIN."""
    rows: list[Row] = [
        ("label strong", "$(PLUGIN)", 0, 4, 200, 30),
        ("tile", "Status_RBV", 206, 4, 120, 30),
        ("text small", "Message_RBV", 340, 4, _LIST - 340, _LINE - 8),
    ]
    return part("Plugin $(PLUGIN)", _LIST, _LINE, ScopeKind.PLUGIN, rows)
