"""Writing the screens, the command, and what the model of a file refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from attpc_ioc.errors import AttpcError
from attpc_ioc.export.protocol import over_pva
from attpc_ioc.export.screens import screens, write_screens
from attpc_ioc.export.screens.bob import Color, Display, Part, Rule, ScreenError, Value, Widget, xml
from attpc_ioc.export.screens.files import NAMES
from attpc_ioc.pvs.table import PvEntry
from tests.export.bobfiles import table_of
from tests.support.forked import SHELL, run_forked

GREY = Color(1, 2, 3)


def _display(widget: Widget) -> Display:
    return Display("A display", 100, 100, GREY, (widget,))


def _widget(
    properties: dict[str, Value] | None = None,
    kind: str = "label",
    rules: tuple[Rule, ...] = (),
    place: tuple[int, int, int, int] = (0, 0, 10, 10),
) -> Widget:
    return Widget(kind, "One", *place, properties or {}, rules)


@pytest.mark.parametrize(
    ("widget", "said"),
    [
        (_widget({"text": ""}), "text is empty"),
        (_widget({"text": " \n"}), "text is empty"),
        (_widget({"pv_name": "X"}), "a label has no pv_name"),
        (_widget(kind="gauge"), "gauge is not a known widget type"),
        (_widget(rules=(Rule("enabled", (("pvInt0 == 1", True),), ("X",)),)), "a label has no enabled"),
        (_widget(rules=(Rule("visible", (("pvInt0 == 1", True),), ("",)),)), "pv_name is empty"),
        (_widget(place=(-1, 0, 10, 10)), "place or size is wrong"),
        (_widget(place=(0, 0, 0, 10)), "place or size is wrong"),
        (_widget(place=(95, 0, 10, 10)), "is not within the display"),
        (_widget({"traces": (Part("trace", {"y_pv": ""}),)}, kind="stripchart"), "y_pv is empty"),
        (_widget({"traces": (Part("trace", {"z_pv": "X"}),)}, kind="stripchart"), "a trace has no z_pv"),
    ],
)
def test_what_phoebus_would_not_understand_is_refused(widget: Widget, said: str):
    with pytest.raises(ScreenError, match=said):
        xml(_display(widget))


def test_text_is_kept_as_it_is():
    text = xml(_display(_widget({"text": "a < b & \"c\" 'd' µ"})))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!-- Made by attpc-ioc export screens')
    assert "<text>a &lt; b &amp; \"c\" 'd' µ</text>" in text


def test_no_table_no_screens():
    with pytest.raises(AttpcError, match="no PVs"):
        screens(())


def test_files_are_written_and_replaced(tmp_path: Path, files: dict[str, str]):
    folder = tmp_path / "new" / "screens"
    write_screens(folder, files)
    assert {path.name: path.read_text() for path in folder.iterdir()} == files
    changed = {**files, "main.bob": files["main.bob"].replace("AT-TPC", "Another")}
    write_screens(folder, changed)
    assert (folder / "main.bob").read_text() == changed["main.bob"]
    assert len(list(folder.iterdir())) == len(files), "nothing else is left behind"


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path, files: dict[str, str]):
    (tmp_path / "main.bob").write_text("<display/>")
    (tmp_path / "other.bob").write_text("<display/>")
    with pytest.raises(AttpcError, match=r"main\.bob: not made by this command"):
        write_screens(tmp_path, files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main.bob", "other.bob"], "nothing is written"
    write_screens(tmp_path, files, force=True)
    assert (tmp_path / "main.bob").read_text() == files["main.bob"]
    assert (tmp_path / "other.bob").read_text() == "<display/>"


def test_own_files_that_are_no_longer_made_are_deleted(tmp_path: Path, files: dict[str, str]):
    assert set(files) == set(NAMES), "all that can be made"
    out, fleet = tmp_path / "out", tmp_path / "fleet"
    fleet.mkdir()
    write_screens(out, files)
    (out / "mine.bob").write_text(files["ecc_row.bob"])
    (out / "history.bob").write_text("<display/>")
    less = screens(table_of(fleet, plugins=False))
    gone = write_screens(out, less)
    assert {"plots.bob", "router_row.bob", "router_rows.bob", "plugin_row.bob"} - set(less) <= set(gone)
    assert {path.name for path in out.iterdir()} == {*less, "mine.bob", "history.bob"}
    assert (out / "history.bob").read_text() == "<display/>"
    assert write_screens(out, less) == ()


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_that_name_is_reported_before_anything_is_written(tmp_path: Path, files, force: bool):
    (tmp_path / "status.bob").mkdir()
    with pytest.raises(AttpcError, match=r"status\.bob: a folder has that name"):
        write_screens(tmp_path, files, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["status.bob"]


def test_same_table_same_files(table: tuple[PvEntry, ...], files: dict[str, str]):
    assert screens(table, tables=True) == files


def _export(*words: str, settings: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ATTPC_IOC_SETTINGS": settings}
    return run_forked(SHELL, "export", "screens", *words, env=env)


def test_the_command(tmp_path: Path):
    table = table_of(tmp_path)
    out, fleet = tmp_path / "screens", str(tmp_path / "fleet.toml")
    done = _export(str(out), "--settings", fleet)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_text() for path in out.iterdir()} == screens(table, tables=True)
    assert f"open {out / 'main.bob'}" in done.stdout
    (out / "ecc.bob").write_text("my own")
    done = _export(str(out), settings=fleet)
    assert done.returncode == 1
    assert "ecc.bob: not made by this command" in done.stderr
    done = _export(str(out), "--force", settings=fleet)
    assert done.returncode == 0, done.stderr
    assert "Made by attpc-ioc export screens" in (out / "ecc.bob").read_text()
    done = _export(str(out))
    assert done.returncode == 1
    assert "no settings file" in done.stderr


def test_by_pvaccess_and_without_it(tmp_path: Path):
    table = table_of(tmp_path)
    out, fleet = tmp_path / "screens", tmp_path / "fleet.toml"
    done = _export(str(out), "--pva", "--settings", str(fleet))
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_text() for path in out.iterdir()} == screens(over_pva(table), tables=True)
    fleet.write_text(fleet.read_text().replace("[pva]\n", "[pva]\nenabled = false\n"))
    done = _export(str(out), "--settings", str(fleet))
    assert done.returncode == 0, done.stderr
    assert "tables.bob deleted (no longer made)" in done.stdout
    assert {path.name: path.read_text() for path in out.iterdir()} == screens(table)
    assert "pva://" not in (out / "main.bob").read_text()
    done = _export(str(out), "--pva", "--settings", str(fleet))
    assert done.returncode == 1
    assert f"{fleet}: pva.enabled is false" in done.stderr
