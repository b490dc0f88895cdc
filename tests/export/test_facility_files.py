"""Writing all exports into a folder in which others may have files."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.errors import AttpcError
from attpc_ioc.export.facility import (
    ALARMS,
    ARCHIVER,
    FRAGMENT,
    SAVESET,
    SCREENS,
    FacilityFiles,
    facility_files,
    write_facility,
)
from attpc_ioc.export.protocol import over_pva
from attpc_ioc.pvs.table import PvEntry

OTHERS = (ALARMS, FRAGMENT, ARCHIVER, SAVESET)
FOREIGN = {
    ALARMS: '<?xml version="1.0"?>\n<config name="Vacuum"/>\n',
    FRAGMENT: "<config/>",
    ARCHIVER: '[{"pv": "V:Pressure", "samplingmethod": "SCAN", "samplingperiod": "1.0"}]',
    SAVESET: "PV,READBACK,READ_ONLY\nV:Valve,V:Valve_RBV,false\n",
}
"""What somebody else has, in the same form as ours."""


@pytest.fixture(scope="module")
def made(table: tuple[PvEntry, ...]) -> FacilityFiles:
    return facility_files(table, "/srv/screens")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_own_files_are_replaced(tmp_path: Path, made: FacilityFiles):
    for _ in range(2):
        assert write_facility(tmp_path / "new", made) == ()
        assert names(tmp_path / "new") == sorted([SCREENS, *OTHERS])
    fewer = FacilityFiles(
        made.prefix,
        made.screens,
        {**made.others, SAVESET: "PV,READBACK,READ_ONLY\n", ALARMS: made.others[FRAGMENT]},
    )
    write_facility(tmp_path / "new", fewer)
    write_facility(tmp_path / "new", made)
    assert (tmp_path / "new" / SAVESET).read_text() == made.others[SAVESET]


def test_files_by_the_other_protocol_are_its_own(
    tmp_path: Path, made: FacilityFiles, table: tuple[PvEntry, ...]
):
    by_pva = facility_files(over_pva(table), "/srv/screens", tables=True)
    for files in (made, by_pva, made):
        write_facility(tmp_path, files)
        assert {name: (tmp_path / name).read_text() for name in OTHERS} == files.others


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_somebody_else_keeps_all_from_being_written(tmp_path: Path, made: FacilityFiles, name: str):
    for text in (
        FOREIGN[name],
        "",
        "\udcff",
        '["a"]',
        '[{"pv": 1}]',
        'PV,"x',
        "PV,READBACK,READ_ONLY\nX:Y\n",
    ):
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(AttpcError, match=rf"{name}: not made by this command"):
            write_facility(tmp_path, made)
        assert names(tmp_path) == [name]
        assert (tmp_path / name).read_bytes() == text.encode(errors="surrogateescape")
    write_facility(tmp_path, made, force=True)
    assert (tmp_path / name).read_text() == made.others[name]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_in_the_way_is_named_and_nothing_is_written(
    tmp_path: Path, made: FacilityFiles, force: bool
):
    (tmp_path / ALARMS).mkdir()
    with pytest.raises(AttpcError, match=rf"{ALARMS}: a folder has that name"):
        write_facility(tmp_path, made, force=force)
    assert names(tmp_path) == [ALARMS]


def test_a_foreign_screen_keeps_the_other_files_from_being_written(tmp_path: Path, made: FacilityFiles):
    (tmp_path / SCREENS).mkdir()
    (tmp_path / SCREENS / "main.bob").write_text("<display/>")
    with pytest.raises(AttpcError, match=r"main\.bob: not made by this command"):
        write_facility(tmp_path, made)
    assert names(tmp_path) == [SCREENS]
