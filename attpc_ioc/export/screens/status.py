"""The screen of the IOC itself and of its plugins."""

from __future__ import annotations

from dataclasses import replace

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display, Rule, Widget
from .frame import STATUS, part, screen
from .parts import DECIMAL, card, embedded, label, long_value, moment, name_of, tile, value
from .table import Pvs

PLUGIN_ROW = "plugin_row.bob"

WIDTH = 1300
_INNER = WIDTH - 2 * theme.EDGE
_LIST = _INNER - 2 * theme.PAD
_TOP = theme.BAR_HEIGHT + theme.EDGE
_LINE = 54
_VALUE = 28
_ALARMS = 120
"""Pixels of height of the alarms, at least."""
_WHO_HEIGHT = theme.TITLE_HEIGHT + 66 + 8 + 48 + 10

_SECTIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Life",
        (
            ("Heartbeat", "HEARTBEAT"),
            ("Up for", "UPTIME"),
            ("Started", "STARTTOD"),
            ("Now", "TOD"),
            ("Last step of the clock", "ClockStep_RBV"),
            ("IOC mode", "ACCESS"),
        ),
    ),
    (
        "Load",
        (
            ("CPU of the IOC", "IOC_CPU_LOAD"),
            ("CPU of the host", "SYS_CPU_LOAD"),
            ("Memory used, MB", "MEM_USED"),
            ("Open files", "FD_CNT"),
            ("Records", "RECORD_CNT"),
        ),
    ),
    (
        "Clients",
        (
            ("Clients", "CA_CLNT_CNT"),
            ("Channels", "CA_CONN_CNT"),
            ("Host", "HOSTNAME"),
            ("Engineer", "ENGINEER"),
            ("Location", "LOCATION"),
        ),
    ),
)


def status_screen(pvs: Pvs) -> Display:
    """Return the screen, with a row for each plugin; of the IOC's own PVs what there is."""
    width = (_INNER - 2 * theme.EDGE) // 3
    height = theme.TITLE_HEIGHT + max(len(lines) for _, lines in _SECTIONS) * _VALUE + 4
    widgets: list[Widget] = []
    for number, (title, lines) in enumerate(_SECTIONS):
        left = theme.EDGE + number * (width + theme.EDGE)
        widgets += card(title, left, _TOP, width, height)
        shown = [(name, pv) for name, pv in lines if pvs.has(ScopeKind.IOC, pv)]
        for place, (name, pv) in enumerate(shown):
            y = _TOP + theme.TITLE_HEIGHT + place * _VALUE
            x = left + theme.PAD
            widgets += [
                name_of(name, x, y, 150),
                _value(pv, x + 154, y, width - 154 - 2 * theme.PAD),
            ]
    top = _TOP + height + theme.EDGE
    widgets += _who_may(top)
    top += _WHO_HEIGHT + theme.EDGE
    plugins = pvs.scopes(ScopeKind.PLUGIN)
    list_height = theme.TITLE_HEIGHT + max(1, len(plugins)) * _LINE + 8
    x = theme.EDGE + theme.PAD
    widgets += card("Plugins", theme.EDGE, top, _INNER, list_height)
    for number, name in enumerate(plugins):
        y = top + theme.TITLE_HEIGHT + number * _LINE
        widgets.append(embedded(PLUGIN_ROW, x, y, _LIST, _LINE, {"PLUGIN": name}))
    if not plugins:
        widgets.append(label("None is installed.", x, top + theme.TITLE_HEIGHT, _LIST, 28, color=theme.MUTED))
    top += list_height + theme.EDGE
    alarms = max(_ALARMS, theme.HEIGHT - theme.EDGE - top)
    widgets += [
        *card("Alarms", theme.EDGE, top, _INNER, alarms),
        long_value("$(P)AlarmText_RBV", x, top + theme.TITLE_HEIGHT, _LIST, alarms - theme.TITLE_HEIGHT - 10),
    ]
    return screen(pvs, STATUS, "IOC and plugins", tuple(widgets), top + alarms + theme.EDGE, width=WIDTH)


def _who_may(top: int) -> tuple[Widget, ...]:
    """Return who may write, and who else answers: the texts are empty while all is well."""
    head = "$(P)IOC:"
    left, y = theme.EDGE + theme.PAD, top + theme.TITLE_HEIGHT
    texts = left + 154 + 176
    wide = _INNER - (texts - theme.EDGE) - theme.PAD
    others = f"{head}OtherServers_RBV"
    some = Rule("visible", (("pvSev0 != 0", True),), (others,))
    none = Rule("visible", (("pvSev0 != 0", False),), (others,))
    box = long_value(others, left + 154, y + 74, wide + 176, 48, font=theme.SMALL)
    return (
        *card("Access", theme.EDGE, top, _INNER, _WHO_HEIGHT),
        name_of("Security file", left, y + 2, 150),
        tile(f"{head}AccessFile_RBV", left + 154, y, 160, 28),
        long_value(f"{head}AccessText_RBV", texts, y, wide, 66, font=theme.SMALL),
        name_of("Other servers", left, y + 76, 150),
        replace(box, properties={**box.properties, "visible": False}, rules=(some,)),
        label(
            "None answers for these names.", left + 154, y + 76, wide + 176, color=theme.MUTED, rules=(none,)
        ),
    )


def plugin_row() -> Display:
    """Return the row of one plugin: how it is and what it says; macro PLUGIN."""
    head = "$(P)Plugin:$(PLUGIN):"
    widgets = (
        label("$(PLUGIN)", 0, 4, 200, 30, font=theme.STRONG),
        tile(f"{head}Status_RBV", 206, 4, 120, 30),
        long_value(f"{head}Message_RBV", 340, 4, _LIST - 340, _LINE - 8, font=theme.SMALL),
    )
    return part("Plugin $(PLUGIN)", _LIST, _LINE, widgets)


def _value(pv: str, x: int, y: int, width: int) -> Widget:
    """Return a value of the IOC; memory is told in bytes, which nobody reads."""
    name = f"$(P)IOC:{pv}"
    if pv == "MEM_USED":
        # What is computed keeps the unit that it came with: byte.
        return value(f"eq://`{name}` / 1000000", x, y, width, fmt=DECIMAL, precision=0, units=False)
    if pv in ("TOD", "STARTTOD"):
        return moment(name, x, y, width, month_first=True)
    return value(name, x, y, width)
