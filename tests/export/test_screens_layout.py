"""The screens as a shift has them before it: all there on a full-HD monitor, nothing cut, nothing covered."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from attpc_ioc.export.screens import screens
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import AccessGroup, Record, Row
from attpc_ioc.pvs.table import PvEntry
from tests.export.bobfiles import OBSERVABLES, Shown, shown, table_of
from tests.export.phoebus import compute, properties
from tests.export.text_width import text_width

VIEW = (1895, 900)
"""Pixels that Phoebus has for a display on a full-HD monitor with its menu, tool bar, tabs and status bar."""
SCROLL_BAR = 16
"""Pixels of a scroll bar of Phoebus."""
SCREENS = ("main", "ecc", "source", "run_sheet", "history", "plots", "status", "tables")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[PvEntry, ...]:
    """Return the PV table of the AT-TPC: ten CoBos and a MuTAnT."""
    return table_of(Path(tmp_path_factory.mktemp("fleet")), cobos=10, extra=OBSERVABLES)


@pytest.fixture(scope="module")
def files(table: tuple[PvEntry, ...]) -> dict[str, str]:
    return screens(table, tables=True)


@pytest.fixture(scope="module")
def roots(files: dict[str, str]) -> dict[str, ET.Element]:
    return {name: ET.fromstring(text.encode()) for name, text in files.items()}


@pytest.fixture(scope="module")
def widgets(files: dict[str, str]) -> list[Shown]:
    return shown(files)


@pytest.fixture(scope="module")
def rows(table: tuple[PvEntry, ...]) -> dict[str, Row]:
    return {entry.name: entry.row for entry in table}


def place(element: ET.Element) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom."""
    x, y, width, height = (int(element.findtext(tag, "0")) for tag in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def test_every_screen_is_there_as_a_whole_on_a_full_hd_monitor(roots: dict[str, ET.Element]):
    for name in SCREENS:
        _, _, width, height = place(roots[f"{name}.bob"])
        assert (width, height) <= VIEW, name
        assert height <= VIEW[1], name


def test_every_widget_lies_within_its_display_and_its_card(roots: dict[str, ET.Element]):
    for file, root in roots.items():
        _, _, width, height = place(root)
        cards = [
            place(element)
            for element in root.iter("widget")
            if element.findtext("name", "").endswith(" area")
        ]
        for element in root.iter("widget"):
            x, y, right, bottom = place(element)
            where = f"{file}: {element.findtext('name')}"
            assert 0 <= x < right <= width, where
            assert 0 <= y < bottom <= height, where
            for left, top, end, low in cards:
                if left <= x < end and top <= y < low:
                    assert (right <= end, bottom <= low) == (True, True), f"{where} leaves its card"


def test_what_is_embedded_never_gets_scroll_bars_or_has_room_for_one(roots: dict[str, ET.Element]):
    ways = properties("embedded")["resize"]["values"]
    seen = set()
    for file, root in roots.items():
        for element in root.iter("widget"):
            if element.get("type") != "embedded":
                continue
            inner = roots[element.findtext("file", "")]
            size = int(inner.findtext("width", "")), int(inner.findtext("height", ""))
            frame = int(element.findtext("width", "")), int(element.findtext("height", ""))
            where = f"{file}: {element.findtext('name')}"
            way = ways[int(element.findtext("resize", "0"))]
            seen.add(way)
            if way == "Crop":
                assert size == frame, where
            else:
                assert way == "None", where
                assert frame[0] >= size[0] + SCROLL_BAR, where
    assert seen == {"Crop", "None"}


@pytest.mark.parametrize("inner", ["ecc_rows.bob", "router_rows.bob"])
def test_the_rows_of_the_att_pc_are_there_without_scrolling(roots: dict[str, ET.Element], inner: str):
    (frame,) = (e for e in roots["main.bob"].iter("widget") if e.findtext("file") == inner)
    assert roots[inner].findtext("height") == "330"
    assert int(frame.findtext("height", "")) >= 330


def test_without_a_legend_no_trace_has_a_name(files: dict[str, str]):
    seen = set()
    for text in files.values():
        for element in ET.fromstring(text.encode()).iter("widget"):
            if element.get("type") == "stripchart":
                legend = element.findtext("show_legend") == "true"
                seen.add(legend)
                for trace in element.iter("trace"):
                    assert bool(trace.findtext("name")) == legend
                    assert trace.find("name") is not None, "else Phoebus names it after its PV"
    assert seen == {True, False}


def test_plots_on_the_main_screen_have_the_whole_height_of_their_cards(roots: dict[str, ET.Element]):
    cards = [e for e in roots["main.bob"].iter("widget") if e.findtext("name") == "Card area"]
    charts = [e for e in roots["main.bob"].iter("widget") if e.get("type") == "stripchart"]
    assert len(cards) == len(charts) == 2
    for card, chart in zip(cards, charts, strict=True):
        assert int(chart.findtext("height", "")) >= int(card.findtext("height", "")) - 10
        assert chart.find("title") is None
        assert chart.findtext("y_axes/y_axis/title"), "said along the axis"


# ---------------------------------------------------------------------- texts

_DIGITS = {"MB/s": 999.99, "GB": 99999.0, "%": 100.0, "s": 86400.0, "ms": 2000.0, "h": 999.0, "1/s": 9999.0}
_TEXTS = {
    "DurationText_RBV": "999:59:59",
    "Operation_RBV": "e" * 39,
    "Ecc_RBV": "cobo0_of_the_left_half",
    "UPTIME": "999 days, 23:59:59",
    "Config_RBV": "mutant/e20009/e20009",
    "Loaded_RBV": "mutant/e20009/e20009",
    "Lost_RBV": "cobo0, cobo1",
}
_LONG = "e" * 20
"""Of any other text of one line; all of it is in the tooltip."""


def longest(row: Row) -> str:
    """Return the longest text that a PV of a row shows in practice."""
    if row.labels:
        return max(row.labels, key=len)
    if row.record in (Record.STRINGIN, Record.LONG_TEXT):
        part = row.part.split(":")[-1]
        return (
            "e20009_beam" if row.scope is ScopeKind.SYSTEM and "Config" in part else _TEXTS.get(part, _LONG)
        )
    number = _DIGITS.get(row.units, 99999.0)
    return f"{number:.{row.precision}f} {row.units}".strip()


def _texts(widget: Shown, rows: dict[str, Row]) -> list[str]:
    """Return what a widget can show in its one line."""
    kind = widget.type
    if kind in ("label", "action_button"):
        set_by_rule = [
            case.findtext("value", "")
            for rule in widget.element.iter("rule")
            if rule.get("prop_id") == "text"
            for case in rule.findall("exp")
        ]
        computed = ["2026-11-23 04:57:49"] if widget.element.find(".//expression") is not None else []
        return [widget.text("text"), *filter(None, set_by_rule), *computed]
    if kind not in ("textupdate", "combo", "bool_button") or widget.text("interactive") == "true":
        return []
    pv = widget.text("pv_name")
    if pv.startswith("eq://"):
        return [_LONG if "elementAt" in pv else "99999"]
    return [longest(rows[pv])]


_AROUND = {"action_button": 16, "bool_button": 16, "combo": 36}
"""Pixels of a widget's width that its text does not have: edges, and the arrow of a list."""


def test_every_text_fits_into_its_widget(widgets: list[Shown], rows: dict[str, Row]):
    count, cut = 0, []
    for widget in widgets:
        font = widget.element.find("font/font")
        if font is None:
            continue
        room = int(widget.text("width")) - _AROUND.get(widget.type, 0)
        for text in _texts(widget, rows):
            count += 1
            wide = text_width(text, font)
            if wide > room:
                cut.append(f"{widget.where}: {text!r} needs {wide:.0f} of {room} pixels")
            high = 1.17 * float(font.get("size", "0")) * len(text.splitlines())
            if high > int(widget.text("height")):
                cut.append(f"{widget.where}: {text!r} needs {high:.0f} pixels of height")
    assert not cut, "\n" + "\n".join(sorted(set(cut)))
    assert count > 500


def test_the_ends_of_a_run_are_entries_that_show_a_long_one_with_its_unit(widgets: list[Shown]):
    longest = {"MaxDuration": "864000 s", "MaxEvents": "1000000 events", "MaxWritten": "9999.000 GB"}
    found = [w for w in widgets if w.file == "main.bob" and w.text("pv_name").split(":")[-1] in longest]
    assert len(found) == len(longest)
    for widget in found:
        font = widget.element.find("font/font")
        assert font is not None
        text, room = longest[widget.text("pv_name").split(":")[-1]], int(widget.text("width")) - 4
        assert text_width(text, font) <= room, text
        assert widget.text("show_units") != "false"


def test_what_is_computed_shows_no_unit_that_is_not_its_own(widgets: list[Shown]):
    computed = [w for w in widgets if w.text("pv_name").startswith("eq://") and w.text("format") != "6"]
    assert computed
    assert all(widget.text("show_units") == "false" for widget in computed)


def test_times_are_written_in_one_way(widgets: list[Shown], rows: dict[str, Row]):
    raw = {"StartTime_RBV", "StopTime_RBV", "TOD", "STARTTOD"}
    for widget in widgets:
        if widget.type == "textupdate" and widget.text("pv_name") in rows:
            assert rows[widget.text("pv_name")].part not in raw, widget.where
    times = {_moment(widget) for widget in widgets if widget.element.find(".//expression") is not None}
    assert times == {"2026-11-23 04:57:49"}


def _moment(widget: Shown) -> str:
    """Compute what a label shows of its PV's time, as Phoebus does."""
    pv, how = widget.text("rules/rule/pv_name"), widget.text("rules/rule/exp/expression")
    given = "11/23/2026 04:57:49" if pv.endswith("TOD") else "2026-11-23T04:57:49+01:00"
    assert re.fullmatch(r'[pvStr0\[\]:\d +"-]+', how), how
    return eval(how, {"__builtins__": {}}, {"pvStr0": given})


# ---------------------------------------------------------------------- what is said


class _Pv:
    """A PV as a rule of Phoebus has it."""

    def __init__(self, writable: bool) -> None:
        self.isReadonly = lambda: not writable


def test_the_head_of_every_screen_says_what_its_user_may_do(widgets: list[Shown], rows: dict[str, Row]):
    seen = {}
    for widget in widgets:
        if widget.text("text") != "Rights not known":
            continue
        (rule,) = widget.element.iter("rule")
        operate, expert, beat = (widget.expand(pv.text or "") for pv in rule.iter("pv_name"))
        assert rows[operate].access_group is AccessGroup.OPERATOR
        assert rows[expert].access_group is AccessGroup.EXPERT
        assert beat == "T:IOC:HEARTBEAT", "Phoebus computes a rule when a value comes, not when a right does"
        said = []
        for may in ((False, False), (True, False), (True, True)):
            pvs = [_Pv(one) for one in (*may, False)]
            cases = rule.findall("exp")
            said.append(
                next(c.findtext("value") for c in cases if compute(c.get("bool_exp", ""), pvs=pvs, pvInt2=1))
            )
        seen[widget.file] = said
    assert seen == {
        f"{name}.bob": ["You may look only", "You may operate", "You may do everything"] for name in SCREENS
    }


def test_why_an_entry_was_refused_is_on_the_screens_with_entries_of_the_run(widgets: list[Shown]):
    found = {w.file: w for w in widgets if w.text("pv_name") == "T:Refused_RBV"}
    assert set(found) == {"main.bob", "run_sheet.bob", "history.bob"}
    for widget in found.values():
        assert widget.text("visible") == "false", "nothing is there while nothing was refused"
        (case,) = widget.element.iter("exp")
        assert [compute(case.get("bool_exp", ""), pvInt0=first) for first in (0, ord("2"))] == [False, True]


def test_an_observable_without_a_value_differs_from_one_that_is_0(files: dict[str, str]):
    for file in ("observable_number.bob", "observable_text.bob"):
        root = ET.fromstring(files[file].encode())
        (said,) = (e for e in root.iter("widget") if e.findtext("text") == "not set")
        (number,) = (e for e in root.iter("widget") if e.get("type") == "textentry")
        assert said.findtext("visible") == "false"
        for widget, prop in ((said, "visible"), (number, "foreground_color")):
            (rule,) = widget.iter("rule")
            assert rule.get("prop_id") == prop
            (case,) = rule.iter("exp")
            severities = [compute(case.get("bool_exp", ""), pvSev0=severity) for severity in range(5)]
            assert severities == [False, False, False, True, True], "INVALID, and not known"
