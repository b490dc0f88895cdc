"""The operator's main screen: the run, the detector as a whole, each ECC server and each data router."""

from __future__ import annotations

from attpc_ioc.model.command import GOTO_TARGETS, CommandName, ScopeKind
from attpc_ioc.model.states import State

from . import rows, theme
from .bob import Display, Widget
from .frame import MAIN, screen
from .parts import Box, Extra, Row, card, place, refusal
from .plots import disk_plot, rate_plot
from .table import Pvs

ROWS = 11
"""ECC servers and data routers visible without scrolling: ten CoBos and a MuTAnT."""
TOP, UPPER = theme.BAR_HEIGHT + theme.EDGE, 264
LIST = TOP + UPPER + theme.EDGE
LIST_HEIGHT = theme.TITLE_HEIGHT + rows.HEADING + 4 + ROWS * theme.ROW + 4
LOWER = LIST + LIST_HEIGHT + theme.EDGE
LOWER_HEIGHT = theme.HEIGHT - theme.EDGE - LOWER

_START: Extra = {"text": "Start run"}
_STOP: Extra = {"text": "Stop run", "confirm": "Stop the run? Data taking ends on all its members."}
_ADOPT: Extra = {"confirm": "Adopt the modules that are Running as the next run, under its number?"}


def main_screen(pvs: Pvs) -> Display:
    """Return the screen; parts for data routers and the run history appear if their PVs exist."""
    run, system = ScopeKind.RUN, ScopeKind.SYSTEM
    widgets = (
        *card("Run", Box(8, TOP, 428, UPPER), run, _run(pvs)),
        *card("Run information", Box(444, TOP, 440, UPPER), run, _information(pvs)),
        *card("Before a start", Box(892, TOP, 470, UPPER), run, _check(pvs)),
        *card("All ECC servers", Box(1370, TOP, 512, UPPER), system, _detector()),
        *_lists(pvs),
        *_lower(pvs),
    )
    return screen(pvs, MAIN, "AT-TPC run control", widgets, theme.HEIGHT)


def _run(pvs: Pvs) -> list[Row]:
    number = "$(P)Run:Number_RBV"
    table: list[Row] = [
        ("tile large run", "State_RBV", 0, 0, 196, 48),
        ("label large muted", "Run", 208, 0, 60, 48),
        # A dash instead of the number before the first run.
        ("value huge", number, 268, 0, 136, 48, {"hidden": ("pvInt0 < 0", number)}),
        ("label huge muted", "\N{EN DASH}", 268, 0, 136, 48, {"shown": ("pvInt0 < 0", number)}),
        ("value huge center", "DurationText_RBV", 0, 48, 196, 46),
        ("name", "Started", 208, 48, 80, 22),
        ("moment", "StartTime_RBV", 208, 70, 196, 24),
    ]
    if pvs.has(ScopeKind.RUN, "Rate_RBV", "Written_RBV"):
        table += [
            ("name", "Rate", 0, 94, 60, 24),
            ("value strong", "Rate_RBV", 66, 94, 130, 24),
            ("name", "Written", 208, 94, 60, 24),
            ("value strong", "Written_RBV", 268, 94, 136, 24),
        ]
    if pvs.has(ScopeKind.RUN, "Events_RBV", "Sync_RBV"):
        table += [
            ("name", "Events", 0, 118, 60, 24),
            ("value strong", "Events_RBV", 66, 118, 130, 24),
            ("name", "Boards", 208, 118, 60, 24),
            ("tile normal", "Sync_RBV", 268, 119, 136, 22),
        ]
    return [
        *table,
        ("name", "Running", 0, 142, 62, 24),
        ("value strong", "Modules_RBV", 66, 142, 52, 24),
        ("name", "of", 120, 142, 16, 24),
        ("value strong", "Expected_RBV", 138, 142, 54, 24),
        ("name", "Lost", 208, 142, 60, 24),
        ("value string", "Lost_RBV", 268, 142, 136, 24),
        ("command start", CommandName.START, 0, 173, 196, 47, _START),
        ("command stop", CommandName.STOP, 208, 173, 196, 47, _STOP),
    ]


def _information(pvs: Pvs) -> list[Row]:
    """Return the entries for the run, and below them the last refused one."""
    fields = [("Title", "entry string"), ("Operator", "entry string"), ("Class", "choice")]
    class_y = 27 * len(fields) - 27
    if pvs.has(ScopeKind.RUN, "Comment", "Quality"):
        fields += [("Comment", "entry string"), ("Quality", "choice")]
    table: list[Row] = []
    for number, (name, look) in enumerate(fields):
        table += [
            ("name", name, 0, number * 27, 88, 24),
            (look, name, 92, number * 27, 140 if name == "Class" else 324, 25),
        ]
    y = len(fields) * 27
    limits = (("MaxDuration", 92, 78), ("MaxEvents", 174, 132), ("MaxWritten", 310, 106))
    table += [("entry", name, x, y, width, 25) for name, x, width in limits if pvs.has(ScopeKind.RUN, name)]
    return [
        *table,
        ("name", "Stop after", 0, y, 88, 24),
        ("name", "Experiment", 0, y + 27, 88, 24),
        ("entry string", "Experiment", 92, y + 27, 324, 25),
        ("name", "Next run", 244, class_y, 70, 24),
        ("value strong", "NextNumber_RBV", 316, class_y - 1, 100, 26),
        refusal(0, y + 56, 416, 37, by_pva=pvs.by_pva),
    ]


def _check(pvs: Pvs) -> list[Row]:
    table: list[Row] = [
        ("tile", "Ready_RBV", 326, -30, 120, 26),
        ("text", "Checklist_RBV", 0, 0, 446, 98),
        ("command", CommandName.ADOPT, 326, 103, 120, 28, _ADOPT),
        ("name", "Last start or stop", 0, 137, 150, 24),
        ("tile", "Result_RBV", 326, 136, 120, 26),
        ("text small", "Message_RBV", 0, 166, 446, 58),
    ]
    if pvs.has(ScopeKind.RUN, "Override"):
        table += [
            ("name", "Pass what may be passed", 0, 105, 180, 24),
            ("switch", "Override", 184, 103, 66, 28),
        ]
    return table


def _detector() -> list[Row]:
    columns = (76, 180, 284, 388)
    steps = (CommandName.DESCRIBE, CommandName.PREPARE, CommandName.CONFIGURE)
    targets = [(number, target) for number, target in enumerate(GOTO_TARGETS) if target is not None]
    goto: list[Row] = []
    for (number, target), x in zip(targets, columns, strict=True):
        extra: Extra = {"text": target.label, "number": number}
        if target is not State.READY:
            extra["confirm"] = (
                f"Take all enabled ECC servers to {target.label}? Those that are beyond it go back."
            )
        goto.append(("command", CommandName.GOTO, x, 134, 98, 28, extra))
    reset: Extra = {"confirm": "Take all enabled ECC servers one step back?"}
    return [
        ("tile large module", "State_RBV", 0, 0, 186, 36),
        ("name", "Online", 204, 6, 52, 24),
        ("value strong", "Online_RBV", 258, 5, 56, 26),
        ("name", "Enabled", 320, 6, 60, 24),
        ("value strong", "Enabled_RBV", 382, 5, 56, 26),
        ("name", "Operation", 0, 42, 76, 24),
        ("value small", "Operation_RBV", 76, 41, 348, 26),
        ("value right", "Progress_RBV", 428, 41, 60, 26),
        ("name", "Config", 0, 72, 76, 24),
        ("entry string", "Config", 76, 71, 170, 26),
        ("value strong string", "Config_RBV", 256, 71, 126, 26),
        ("command", CommandName.REFRESH_CONFIGS, 388, 70, 98, 28, {"text": "Refresh"}),
        ("name", "One step", 0, 104, 76, 24),
        *(("command", step, x, 102, 98, 28) for step, x in zip(steps, columns, strict=False)),
        ("command", CommandName.RESET, 388, 102, 98, 28, reset),
        ("name", "Go to", 0, 136, 76, 24),
        *goto,
        ("name", "Result", 0, 168, 76, 24),
        ("tile", "Result_RBV", 76, 166, 202, 27),
        ("command", CommandName.ABORT, 388, 166, 98, 28),
        ("text small", "Message_RBV", 0, 198, 488, 26),
    ]


def _lists(pvs: Pvs) -> tuple[Widget, ...]:
    """Return the list of ECC servers, and beside it that of data routers if there are any."""
    margin = 6 + theme.SCROLL_BAR + 4
    box = Box(theme.EDGE, LIST, rows.ECC_WIDTH + margin, LIST_HEIGHT)
    widgets = _list("ECC servers", box, rows.ECC_WIDTH, rows.ECC_HEADINGS, rows.ECC_ROWS)
    if not rows.has_routers(pvs):
        return widgets
    left = box.x + box.width + theme.EDGE
    box = Box(left, LIST, theme.WIDTH - theme.EDGE - left, LIST_HEIGHT)
    widgets += _list("Data routers", box, rows.ROUTER_WIDTH, rows.router_headings(pvs), rows.ROUTER_ROWS)
    if pvs.has(ScopeKind.RUN, "Closing_RBV", "CloseAgain"):
        right = box.x + box.width - theme.PAD
        closing: list[Row] = [
            ("name right", "Files of the last run", -414, 5, 150, 24),
            ("tile", "Closing_RBV", -254, 4, 130, 26),
            ("write", "CloseAgain", -116, 3, 116, 28, {"text": "Close again"}),
        ]
        widgets += place(ScopeKind.RUN, right, LIST, closing)
    return widgets


def _list(title: str, box: Box, width: int, headings: list[Row], file: str) -> tuple[Widget, ...]:
    """Return the card of a list that scrolls below its headings."""
    inside: Row = ("list", file, 0, rows.HEADING + 4, width + theme.SCROLL_BAR, ROWS * theme.ROW)
    table = [*headings, inside]
    kind = ScopeKind.SYSTEM
    return (*card(title, box, kind), *place(kind, box.x + 6, box.y + theme.TITLE_HEIGHT, table))


def _lower(pvs: Pvs) -> tuple[Widget, ...]:
    kind, height = ScopeKind.SYSTEM, LOWER_HEIGHT - theme.TITLE_HEIGHT - 8
    alarms: Row = ("text small", "AlarmText_RBV", -4, 0, 444, height)
    widgets = [*card("Alarms", Box(8, LOWER, 460, LOWER_HEIGHT), kind, [alarms])]
    if pvs.has(kind, "Log:Text_RBV"):
        log: Row = ("text small", "Log:Text_RBV", -4, 0, 564, height)
        widgets += card("Log", Box(476, LOWER, 580, LOWER_HEIGHT), kind, [log])
    width = (theme.WIDTH - 2 * theme.EDGE - 1064) // 2
    if pvs.has(ScopeKind.RUN, "Rate_RBV"):
        widgets += rate_plot(Box(1064, LOWER, width, LOWER_HEIGHT))
    if pvs.has(ScopeKind.SOURCE, "Router:DiskUsed_RBV"):
        box = Box(1064 + width + theme.EDGE, LOWER, width, LOWER_HEIGHT)
        widgets += disk_plot(pvs.scopes(ScopeKind.SOURCE, "Router:DiskUsed_RBV"), box)
    return tuple(widgets)
