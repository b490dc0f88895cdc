"""The frame of all screens: the bar with title and navigation, and the file around the widgets."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Display, Rule, Widget
from .parts import HEADS, Row, place
from .table import Pvs

MAIN, SHEET, HISTORY, STATUS = "main.bob", "run_sheet.bob", "history.bob", "status.bob"
ECC, SOURCE, PLOTS, TABLES = "ecc.bob", "source.bob", "plots.bob", "tables.bob"
"""The files that are complete screens; the others are parts of them."""

NAVIGATION = (
    (MAIN, "Run control"),
    (SHEET, "Run sheet"),
    (HISTORY, "History"),
    (PLOTS, "Plots"),
    (TABLES, "Tables"),
    (STATUS, "IOC status"),
)

LOOK, OPERATE, EXPERT = "You may look only", "You may operate", "You may do everything"
"""The bar shows the viewer's rights; Phoebus only greys what cannot be written, without a reason."""


def screen(
    pvs: Pvs,
    file: str,
    title: str,
    widgets: tuple[Widget, ...],
    height: int,
    *,
    width: int = theme.WIDTH,
    expert: ScopeKind = ScopeKind.RUN,
) -> Display:
    """Return a screen with the bar at its top, in which its own `file` is marked.

    A viewer who may write the expert commands of the scope `expert` counts as an expert.
    """
    bar = place(ScopeKind.SYSTEM, 0, 0, _bar(pvs, file, title, width, expert))
    return Display(title, width, height, theme.PAGE, (*bar, *widgets), {"P": pvs.prefix})


def part(name: str, width: int, height: int, kind: ScopeKind, rows: list[Row]) -> Display:
    """Return a file that is embedded in others; its macros come from there."""
    return Display(name, width, height, theme.CARD, place(kind, 0, 0, rows))


def _bar(pvs: Pvs, file: str, title: str, width: int, expert: ScopeKind) -> list[Row]:
    rows: list[Row] = [
        ("stripe dark", "Stripe", 0, 0, width, theme.BAR_HEIGHT),
        ("label heading white", title, theme.EDGE + theme.PAD, 6, 310 - theme.EDGE - theme.PAD, 34),
    ]
    x = 320
    for target, text in _pages(pvs, width):
        look = "open here" if target == file else "open elsewhere"
        rows.append((look, target, x, 8, 100, 30, {"text": text, "target": "replace"}))
        x += 106
    if not pvs.by_pva:  # PVAccess does not say whether a client may write
        rows.append(_rights(HEADS[expert] + ("Start" if expert is ScopeKind.ECC else "Adopt"), x + 14))
    right = width - theme.EDGE - theme.PAD
    if width == theme.WIDTH and pvs.has(ScopeKind.IOC, "TOD"):
        rows.append(("clock right white", "IOC:TOD", right - 450, 8, 230, 30))
    rows.append(("tile", "Alarm_RBV", right - 120, 8, 120, 30))
    rows.append(("label right white", "Alarms", right - 200, 8, 72, 30))
    return rows


def _rights(expert: str, x: int) -> Row:
    """Return the row that shows what the viewer may do, from the write access of this Phoebus."""
    operate, beat = "$(P)Run:Start", "$(P)IOC:HEARTBEAT"
    cases = (("pvs[0].isReadonly()", LOOK), ("pvs[1].isReadonly()", OPERATE), ("pvInt2 >= 0", EXPERT))
    # Phoebus evaluates a rule when a value arrives, not when rights change: the heartbeat comes each second.
    rule = Rule("text", cases, (operate, expert, beat))
    tooltip = (
        f"By the IOC's access security: who may write {operate} may operate,\n"
        f"who may write {expert} as well may do everything."
    )
    return ("label white", "Rights not known", x, 8, 190, 30, {"rules": (rule,), "tooltip": tooltip})


def _pages(pvs: Pvs, width: int) -> list[tuple[str, str]]:
    """Return the screens that the bar leads to; a narrow one has no room for all."""
    wide = width == theme.WIDTH
    there = {HISTORY: has_history(pvs), PLOTS: has_rates(pvs), TABLES: wide and bool(pvs.tables)}
    return [(file, text) for file, text in NAVIGATION if there.get(file, True)]


def has_history(pvs: Pvs) -> bool:
    """Return whether the table has the run history's PVs."""
    return pvs.has(ScopeKind.SYSTEM, "History:Text_RBV")


def has_rates(pvs: Pvs) -> bool:
    """Return whether the table has rates and disks to plot."""
    return pvs.has(ScopeKind.SOURCE, "Router:Rate_RBV", "Router:DiskUsed_RBV")
