"""The screens, held against what Phoebus knows of widgets and what the IOC has of PVs."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from attpc_ioc.export.protocol import over_pva
from attpc_ioc.export.screens import screens
from attpc_ioc.export.screens.rows import READY
from attpc_ioc.model.command import COMMANDS, CommandName, ScopeKind
from attpc_ioc.pvs.row import Record
from attpc_ioc.pvs.table import PvEntry
from tests.export.bobfiles import Shown, router, shown, table_of
from tests.export.phoebus import compute, properties
from tests.export.test_screens_widgets import elements

NUMBERS = {Record.AI, Record.AO, Record.LONGIN, Record.LONGOUT, Record.CALC, Record.CALCOUT}
ENUMS = {Record.BI, Record.BO, Record.MBBI, Record.MBBO}
STRING_FORMAT = "6"


@pytest.fixture(scope="module")
def rows(table: tuple[PvEntry, ...]) -> dict[str, PvEntry]:
    return {entry.name: entry for entry in table}


def test_nothing_is_empty_but_names_in_plots(files: dict[str, str]):
    for file, text in files.items():
        root = ET.fromstring(text.encode())
        may_be = {*root.iterfind(".//trace/name"), *root.iterfind(".//y_axis/title")}
        for element in root.iter():
            if len(element) == 0 and element.tag not in ("color", "font") and element not in may_be:
                assert (element.text or "").strip(), f"{file}: {element.tag} is empty"
            assert all(value.strip() for value in element.attrib.values()), f"{file}: {element.tag}"


# ---------------------------------------------------------------------- what the IOC has


def test_every_pv_exists(widgets: list[Shown], rows: dict[str, PvEntry]):
    named = {pv: widget.where for widget in widgets for pv in widget.pvs}
    served = {f"pva://T:{name}" for name in ("Fleet", "Routers", "History", "Alarms")}
    assert {pv: where for pv, where in named.items() if pv not in rows.keys() | served} == {}
    assert served <= named.keys()
    assert len(named) > 150


def test_no_macro_is_left_open(widgets: list[Shown]):
    for widget in widgets:
        for child in widget.element.iter():
            assert "$(" not in widget.expand(child.text or ""), f"{widget.where}: {child.tag}"


def test_long_texts_are_shown_as_text_and_nothing_else_is(widgets: list[Shown], rows: dict[str, PvEntry]):
    seen = set()
    for widget in widgets:
        if widget.type not in ("textupdate", "textentry"):
            continue
        pv = widget.text("pv_name")
        if pv.startswith("eq://"):
            continue
        long = rows[pv].row.record is Record.LONG_TEXT
        assert (widget.text("format") == STRING_FORMAT) == long, f"{widget.where}: {pv}"
        seen.add(long)
    assert seen == {True, False}


def test_widgets_fit_the_kind_of_their_pv(widgets: list[Shown], rows: dict[str, PvEntry]):
    fitting = {"bool_button": {Record.BO}, "led": {Record.BI}, "combo": {Record.MBBO}, "progressbar": NUMBERS}
    for widget in widgets:
        if widget.type in fitting:
            assert rows[widget.text("pv_name")].row.record in fitting[widget.type], widget.where
        if widget.type in ("bool_button", "combo", "textentry"):
            assert rows[widget.text("pv_name")].row.writable, widget.where
        for line in widget.element.iter("y_pv"):
            assert rows[widget.expand(line.text or "")].row.record in NUMBERS, widget.where
        for rule in widget.element.iter("rule"):
            pv = [widget.expand(one.text or "") for one in rule.iter("pv_name")][-1]
            for case in rule.iter("exp"):
                condition = case.get("bool_exp", "")
                if "pvInt" in condition and condition != "pvInt0 != 0":
                    assert rows[pv].row.record in NUMBERS | ENUMS, widget.where
                if "pvInt" in condition:
                    assert rows[pv].row.record is not Record.STRINGIN, widget.where
                if "pvStr" in condition:
                    assert rows[pv].row.record in ENUMS | {Record.STRINGIN}, widget.where


def test_rules_that_look_for_a_label_look_for_one_that_there_is(
    widgets: list[Shown], rows: dict[str, PvEntry]
):
    found = 0
    for widget in widgets:
        for rule in widget.element.iter("rule"):
            pv = widget.expand(rule.findtext("pv_name", ""))
            for case in rule.findall("exp"):
                for label in re.findall(r'pvStr0 == "(\w+)"', case.get("bool_exp", "")):
                    found += 1
                    assert label in rows[pv].row.labels, widget.where
    assert found


def test_buttons_write_what_the_pv_takes(widgets: list[Shown], rows: dict[str, PvEntry]):
    written = set()
    for widget in widgets:
        for action in widget.element.iter("action"):
            if action.get("type") != "write_pv":
                continue
            entry = rows[widget.expand(action.findtext("pv_name", ""))]
            number = int(widget.expand(action.findtext("value", "")))
            assert entry.row.writable, widget.where
            assert not entry.row.labels or 0 < number < len(entry.row.labels), widget.where
            written.add(entry.name)
    assert {"T:Run:Start", "T:Run:Stop", "T:GoTo", "T:Ecc:cobo2:Start", "T:Ecc:mutant:Undo"} <= written


def test_every_command_has_a_button_that_is_grey_by_its_own_bit(
    widgets: list[Shown], rows: dict[str, PvEntry]
):
    had: set[tuple[ScopeKind, CommandName]] = set()
    for widget in widgets:
        for action in widget.element.iter("action"):
            name = widget.expand(action.findtext("pv_name", ""))
            command = rows[name].row.command if name else None
            if command is None:
                continue
            entry = rows[name]
            had.add((entry.scope.kind, command))
            (rule,) = widget.element.iter("rule")
            assert rule.get("prop_id") == "enabled"
            assert widget.text("enabled") == "false", "grey as long as nothing is known"
            assert widget.expand(rule.findtext("pv_name", "")) == f"{name.removesuffix(command)}Allowed_RBV"
            (case,) = rule.findall("exp")
            assert case.findtext("value") == "true"
            order = COMMANDS[entry.scope.kind]
            for bit in range(len(order)):
                enabled = compute(case.get("bool_exp", ""), pvInt0=1 << bit)
                assert enabled == (order[bit] is command), f"{widget.where}: bit {bit}"
    assert had == {(kind, name) for kind, names in COMMANDS.items() for name in names}


_ASKS = {CommandName.STOP, CommandName.RESET, CommandName.ADOPT}
_ACTS_AT_ONCE = {"T:Run:Start", "T:Describe", "T:Prepare", "T:Configure", "T:Abort"}


def test_what_ends_a_run_or_takes_back_asks_first_and_the_rest_does_not(
    widgets: list[Shown], rows: dict[str, PvEntry]
):
    asked, silent = set(), set()
    for widget in widgets:
        for action in widget.element.iter("action"):
            name = widget.expand(action.findtext("pv_name", ""))
            command = rows[name].row.command if name else None
            if command is None:
                assert not _asks(widget), f"{widget.where}: nothing ends and nothing goes back"
                continue
            back = command is CommandName.GOTO and action.findtext("value") != str(READY)
            alone = widget.file == "ecc.bob" and command is not CommandName.REFRESH_CONFIGS
            assert _asks(widget) == (command in _ASKS or back or alone), widget.where
            (asked if _asks(widget) else silent).add(name)
    assert {"T:Run:Stop", "T:Run:Adopt", "T:Reset", "T:GoTo", "T:Ecc:cobo0:Reset"} <= asked
    assert {"T:Ecc:cobo0:Start", "T:Ecc:cobo0:Stop", "T:Ecc:cobo0:Undo", "T:Ecc:cobo0:GoTo"} <= asked
    assert silent >= _ACTS_AT_ONCE
    assert not asked & _ACTS_AT_ONCE


def _asks(widget: Shown) -> bool:
    """Return whether a button asks before it acts, as Phoebus reads it; what it asks has to be a question."""
    if widget.text("show_confirm_dialog", "false") == "false":
        return False
    assert "?" in widget.text("confirm_message"), widget.where
    assert "$(" not in widget.text("confirm_message"), widget.where
    return True


def test_an_ecc_server_is_left_out_only_when_that_was_confirmed(widgets: list[Shown]):
    found = set()
    for widget in widgets:
        if widget.type == "bool_button" and widget.text("pv_name").endswith(":Enable"):
            ways = properties("bool_button")["show_confirm_dialog"]["values"]
            assert ways[int(widget.text("show_confirm_dialog"))] == "RELEASE", widget.where
            assert widget.macros["ECC"] in widget.text("confirm_message"), widget.where
            found.add(widget.file)
    assert found == {"ecc.bob", "ecc_row.bob"}


def test_choosing_from_a_list_does_not_ask(widgets: list[Shown]):
    assert not [widget.where for widget in widgets if widget.type == "combo" and _asks(widget)]


# ---------------------------------------------------------------------- how it looks


def test_nothing_covers_anything_else(files: dict[str, str]):
    for file, text in files.items():
        places = [
            (
                element,
                *(int(element.findtext(tag, "0")) for tag in ("x", "y", "width", "height")),
            )
            for element in ET.fromstring(text.encode()).findall("widget")
            if element.get("type") != "rectangle"
        ]
        for number, (one, x, y, width, height) in enumerate(places):
            for other, ox, oy, owidth, oheight in places[number + 1 :]:
                apart = x + width <= ox or ox + owidth <= x or y + height <= oy or oy + oheight <= y
                where = f"{file}: {one.findtext('name')} and {other.findtext('name')}"
                assert apart or _never_both(one, other), where


def _never_both(one: ET.Element, other: ET.Element) -> bool:
    """Return whether of two widgets one is there while a condition is true, and the other while it is not."""

    def shown_while(widget: ET.Element) -> tuple[str, str, str, str] | None:
        rule = widget.find("rules/rule[@prop_id='visible']")
        if rule is None or len(rule.findall("exp")) != 1:
            return None
        condition = rule.find("exp")
        assert condition is not None
        pv, so = rule.findtext("pv_name", ""), condition.findtext("value", "")
        return pv, condition.get("bool_exp", ""), so, widget.findtext("visible", "true")

    first, second = shown_while(one), shown_while(other)
    if first is None or second is None or first[:2] != second[:2]:
        return False
    return {first[2:], second[2:]} == {("true", "false"), ("false", "true")}


def test_before_the_first_run_there_is_a_dash_and_no_number(files: dict[str, str]):
    (number,) = (
        e for _, e in elements({"main": files["main.bob"]}) if e.findtext("pv_name") == "$(P)Run:Number_RBV"
    )
    (dash,) = (e for _, e in elements({"main": files["main.bob"]}) if e.findtext("name") == "\N{EN DASH}")
    assert _never_both(number, dash)
    case = dash.find("rules/rule/exp")
    assert case is not None
    assert [compute(case.get("bool_exp", ""), pvInt0=value) for value in (-1, 0, 7)] == [True, False, False]


def test_what_is_said_of_the_security_file_begins_beside_it(files: dict[str, str]):
    places = {
        element.findtext("name"): {
            tag: int(element.findtext(tag, "")) for tag in ("x", "y", "width", "height")
        }
        for _, element in elements({"status": files["status.bob"]})
    }
    file, said = places["IOC:AccessFile_RBV"], places["IOC:AccessText_RBV"]
    assert said["y"] == file["y"]
    assert "IOC mode" in places
    assert places["IOC:ACCESS"]["y"] < file["y"] - 2 * file["height"], "with the life of the IOC"


def test_rows_are_one_file_for_all_servers(tmp_path: Path):
    few, many = (screens(table_of(tmp_path, cobos=count)) for count in (1, 40))
    assert few["ecc_row.bob"] == many["ecc_row.bob"]
    assert few["router_row.bob"] == many["router_row.bob"]
    assert set(few) == set(many)
    assert many["ecc_rows.bob"].count("<file>ecc_row.bob</file>") == 41


def test_without_plugins_their_parts_are_left_out(tmp_path: Path):
    table = table_of(tmp_path, plugins=False)
    files = screens(table)
    names = {entry.name for entry in table}
    assert {pv for widget in shown(files) for pv in widget.pvs} <= names
    assert not {"history.bob", "plots.bob", "router_row.bob", "router_rows.bob"} & set(files)
    assert "stripchart" not in files["main.bob"]


def test_by_pvaccess_all_names_are_its_own_and_no_rule_is_for_channel_access_only(
    table: tuple[PvEntry, ...], widgets: list[Shown], rows: dict[str, PvEntry]
):
    by_pva = shown(screens(over_pva(table), tables=True))
    named = {pv for widget in by_pva for pv in widget.pvs}
    assert {name for name in named if not name.startswith("pva://T:")} == set()
    # What a client may do is not told by PVAccess.
    rights = {pv for w in widgets if w.text("text") == "Rights not known" for pv in w.pvs}
    by_ca = {pv.removeprefix("pva://") for widget in widgets for pv in widget.pvs}
    assert by_ca - {name.removeprefix("pva://") for name in named} <= rights
    assert not [w.where for w in by_pva if "isReadonly" in ET.tostring(w.element, "unicode")]
    for widget in by_pva:
        for rule in widget.element.iter("rule"):
            (pv, *_) = [widget.expand(one.text or "").removeprefix("pva://") for one in rule.iter("pv_name")]
            for case in rule.iter("exp"):
                condition = case.get("bool_exp", "")
                if rows[pv].row.record is Record.LONG_TEXT and "pvSev" not in condition:
                    assert [compute(condition, pvStr0=text) for text in ("", "no")] == [False, True]


def test_a_source_without_a_data_router_has_no_row_of_one(tmp_path: Path):
    some, none = (screens(table_of(tmp_path, routers=count)) for count in (2, 0))
    of_routers = {pv for widget in shown(some) for pv in widget.pvs if ":Router:" in pv}
    assert {pv.split(":")[1] for pv in of_routers} == {"CoBo0", "CoBo1"}
    assert not [pv for widget in shown(none) for pv in widget.pvs if ":Router:" in pv]
    assert not {"plots.bob", "router_row.bob", "router_rows.bob"} & set(none)
    assert "Run:Rate_RBV" not in none["main.bob"]


def test_a_source_has_one_colour_in_all_plots(tmp_path: Path):
    sentry = '[[plugins.data_routers.router]]\nsources = ["CoBo0"]\naccess = "sentry"\nhost = "10.0.0.20"\n'
    some = table_of(tmp_path, routers=0, extra=sentry + "".join(map(router, ("CoBo1", "CoBo2"))))
    colors: dict[str, set[str]] = {}
    for trace in ET.fromstring(screens(some)["plots.bob"].encode()).iter("trace"):
        color = trace.find("color/color")
        assert color is not None
        colors.setdefault(trace.findtext("name", ""), set()).add(str(color.attrib))
    assert [len(of) for of in colors.values()] == [1, 1, 1]
    assert len(set().union(*colors.values())) == 3
    events = {pv for pv in re.findall(r"<y_pv>(.*)</y_pv>", screens(some)["plots.bob"]) if "EventRate" in pv}
    assert events == {"$(P)CoBo1:Router:EventRate_RBV", "$(P)CoBo2:Router:EventRate_RBV"}


def test_every_file_can_be_reached_from_the_main_screen(files: dict[str, str], widgets: list[Shown]):
    assert {widget.file for widget in widgets} == set(files)
