"""The screens, held against what Phoebus knows of widgets and what the IOC has of PVs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from attpc_ioc.export.screens import screens
from attpc_ioc.export.screens.widgets import KINDS
from attpc_ioc.model.command import COMMANDS, CommandName, ScopeKind
from attpc_ioc.pvs.row import Record
from attpc_ioc.pvs.table import PvEntry
from tests.export.bobfiles import Shown, shown, table_of

PHOEBUS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "phoebus_widgets.toml").read_text())
NUMBERS = {Record.AI, Record.AO, Record.LONGIN, Record.LONGOUT, Record.CALC, Record.CALCOUT}
ENUMS = {Record.BI, Record.BO, Record.MBBI, Record.MBBO}
STRING_FORMAT = "6"


def known(kind: str) -> set[str]:
    """Return the properties that Phoebus has for a type of widget."""
    pv = PHOEBUS["every_pv"]
    found = {*PHOEBUS["widget"][kind]["properties"], *PHOEBUS["every"]["properties"]}
    return found | set(pv["properties"]) if kind in pv["types"] else found


def elements(files: dict[str, str]) -> Iterator[tuple[str, ET.Element]]:
    for file, text in files.items():
        for element in ET.fromstring(text.encode()).iter("widget"):
            yield f"{file}: {element.findtext('name')}", element


@pytest.fixture(scope="module")
def rows(table: tuple[PvEntry, ...]) -> dict[str, PvEntry]:
    return {entry.name: entry for entry in table}


# ---------------------------------------------------------------------- what Phoebus reads


def test_every_widget_has_the_version_and_only_properties_that_phoebus_knows(files: dict[str, str]):
    assert len(files) == 16
    for where, element in elements(files):
        kind = element.get("type", "")
        assert element.get("version") == PHOEBUS["widget"][kind]["version"], where
        tags = [child.tag for child in element if child.tag != "widget"]
        assert set(tags) <= known(kind), where
        assert len(tags) == len(set(tags)), f"{where}: twice the same property"


def test_every_display_has_the_version_and_only_properties_that_phoebus_knows(files: dict[str, str]):
    for file, text in files.items():
        root = ET.fromstring(text.encode())
        assert (root.tag, root.get("version")) == ("display", PHOEBUS["display"]["version"]), file
        assert {child.tag for child in root} - {"widget"} <= set(PHOEBUS["display"]["properties"]), file


def test_axes_and_traces_have_only_what_phoebus_knows(files: dict[str, str]):
    count = 0
    for where, element in elements(files):
        for tag in ("y_axis", "trace"):
            for inner in element.iter(tag):
                count += 1
                assert {child.tag for child in inner} <= set(PHOEBUS["inner"][tag]["properties"]), where
    assert count > 4


def test_the_programs_own_table_of_widgets_is_phoebus_s():
    assert set(KINDS) == set(PHOEBUS["widget"])
    for name, kind in KINDS.items():
        assert kind.version == PHOEBUS["widget"][name]["version"], name
        assert kind.properties - {"class", "scripts"} <= known(name), name


def test_nothing_is_empty(files: dict[str, str]):
    for file, text in files.items():
        for element in ET.fromstring(text.encode()).iter():
            if len(element) == 0 and element.tag not in ("color", "font"):
                assert (element.text or "").strip(), f"{file}: {element.tag} is empty"
            assert all(value.strip() for value in element.attrib.values()), f"{file}: {element.tag}"


def test_colours_and_fonts_are_whole(files: dict[str, str]):
    for where, element in elements(files):
        for color in element.iter("color"):
            if color.attrib:
                parts = [int(color.get(part, "-1")) for part in ("red", "green", "blue")]
                assert all(0 <= part <= 255 for part in parts), where
        for child in element.iter():
            if child.tag.endswith("_color"):
                assert [inner.tag for inner in child] == ["color"], f"{where}: {child.tag}"
        for font in element.iter("font"):
            if font.attrib:
                assert font.get("family") in ("Liberation Sans", "Liberation Mono"), where
                assert float(font.get("size", "0")) >= 15, f"{where}: too small to read"


def test_rules_set_a_property_of_the_widget_and_name_their_pvs(files: dict[str, str]):
    count = 0
    for where, element in elements(files):
        for rule in element.iter("rule"):
            count += 1
            assert rule.get("prop_id") in known(element.get("type", "")), where
            pvs = rule.findall("pv_name")
            for case in rule.findall("exp"):
                condition = case.get("bool_exp", "")
                numbers = {int(n) for n in re.findall(r"pv(?:Int|Sev|Str)?(\d)", condition)}
                assert numbers == set(range(len(pvs))), f"{where}: {condition}"
                assert isinstance(_as_phoebus(condition, 3), bool), f"{where}: {condition}"
    assert count > 40


def _as_phoebus(condition: str, value: int) -> object:
    """Compute an expression as Phoebus does: with the operators of JavaScript made those of Python."""
    python = re.sub(r"\$\(N\)", "1", condition).replace("&&", " and ").replace("||", " or ")
    names = {f"pv{kind}0": value for kind in ("", "Int", "Sev")} | {"pvStr0": str(value)}
    return eval(python, {"__builtins__": {}}, names)


# ---------------------------------------------------------------------- what the IOC has


def test_every_pv_exists(widgets: list[Shown], rows: dict[str, PvEntry]):
    named = {pv: widget.where for widget in widgets for pv in widget.pvs}
    assert {pv: where for pv, where in named.items() if pv not in rows} == {}
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
            (pv,) = (widget.expand(one.text or "") for one in rule.iter("pv_name"))
            by_value = any(re.search(r"pv(?!Sev)", case.get("bool_exp", "")) for case in rule.iter("exp"))
            assert not by_value or rows[pv].row.record in NUMBERS | ENUMS, widget.where


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
                enabled = _as_phoebus(case.get("bool_exp", ""), 1 << bit)
                assert enabled == (order[bit] is command), f"{widget.where}: bit {bit}"
    assert had == {(kind, name) for kind, names in COMMANDS.items() for name in names}


def test_stop_reset_and_all_that_moves_hardware_on_the_expert_screen_ask_first(
    widgets: list[Shown], rows: dict[str, PvEntry]
):
    asked = []
    for widget in widgets:
        for action in widget.element.iter("action"):
            name = widget.expand(action.findtext("pv_name", ""))
            command = rows[name].row.command if name else None
            if command is None:
                continue
            moves = widget.file == "ecc.bob" and command is not CommandName.REFRESH_CONFIGS
            if command in (CommandName.STOP, CommandName.RESET) or moves:
                assert widget.text("confirm_dialog") == "true", widget.where
                assert widget.text("confirm_message").endswith("?"), widget.where
                asked.append(name)
    assert {"T:Run:Stop", "T:Reset", "T:Ecc:cobo0:Reset", "T:Ecc:cobo0:Start", "T:Ecc:cobo0:GoTo"} <= set(
        asked
    )


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
    """Tell whether of two widgets one is there while a condition is true, and the other while it is not."""

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
    (dash,) = (e for _, e in elements({"main": files["main.bob"]}) if e.findtext("text") == "\N{EN DASH}")
    assert _never_both(number, dash)
    case = dash.find("rules/rule/exp")
    assert case is not None
    assert [_as_phoebus(case.get("bool_exp", ""), value) for value in (-1, 0, 7)] == [True, False, False]


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


def test_a_source_without_a_data_router_has_no_row_of_one(tmp_path: Path):
    some, none = (screens(table_of(tmp_path, routers=count)) for count in (2, 0))
    of_routers = {pv for widget in shown(some) for pv in widget.pvs if ":Router:" in pv}
    assert {pv.split(":")[1] for pv in of_routers} == {"CoBo0", "CoBo1"}
    assert not [pv for widget in shown(none) for pv in widget.pvs if ":Router:" in pv]
    assert not {"plots.bob", "router_row.bob", "router_rows.bob"} & set(none)
    assert "Run:Rate_RBV" not in none["main.bob"]


def test_every_file_can_be_reached_from_the_main_screen(files: dict[str, str], widgets: list[Shown]):
    assert {widget.file for widget in widgets} == set(files)
