"""What `make demo-facility` writes, held against the demo that `make run` serves."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aioca
import pytest

from attpc_ioc.app import load_plugins, make_table
from attpc_ioc.ioc.ca import ChannelType
from attpc_ioc.ioc.records import make_spec
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.settings import load_settings
from tests.export.alarm_reader import read_alarms
from tests.export.bobfiles import shown
from tests.support.ca import libca_place
from tests.support.forked import SHELL, run_forked
from tests.support.pages import ROOT
from tests.support.postgres import place as passable
from tests.support.process import FORKED, environment, started

OTHERS = {"alarms.xml", "alarms-fragment.xml", "archiver.json", "saveset.csv"}
SCALARS = {ChannelType.ENUM, ChannelType.LONG, ChannelType.DOUBLE, ChannelType.STRING}


def export(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    env = {key: text for key, text in os.environ.items() if key != "ATTPC_IOC_SETTINGS"}
    return run_forked(SHELL, "export", "facility", folder, *more, env=env)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facility") / "new" / "folder"
    ran = export(folder, "--demo")
    assert ran.returncode == 0, ran.stderr
    assert str(folder) in ran.stdout
    return folder


@pytest.fixture
def state_home() -> Iterator[dict[str, str]]:
    """A state home which the account of root's database can reach too."""
    with passable() as folder:
        yield {"XDG_STATE_HOME": str(folder)}


def exported(out: Path) -> dict[str, set[str]]:
    """The names of all PVs by the export that has them."""
    files = {file.name: file.read_text(encoding="utf-8") for file in (out / "screens").glob("*.bob")}
    names = {name for widget in shown(files) for name in widget.pvs if name}
    with (out / "saveset.csv").open(newline="") as stream:
        setpoints = list(csv.DictReader(stream))
    return {
        "screens": {name for name in names if not re.match(r"[a-z]+://", name)},
        "alarms": set(read_alarms(out / "alarms.xml").pvs),
        "fragment": set(read_alarms(out / "alarms-fragment.xml").pvs),
        "archiver": {request["pv"] for request in json.loads((out / "archiver.json").read_text())},
        "saveset": {line["PV"] for line in setpoints},
        "readbacks": {line["READBACK"] for line in setpoints} - {""},
    }


def test_all_is_there_and_shows_where_the_screens_are(out):
    assert {path.name for path in out.iterdir()} == {"screens", *OTHERS}
    assert (out / "screens" / "main.bob").is_file()
    pvs = read_alarms(out / "alarms.xml").pvs
    assert all(pv.displays[0][1].startswith(out.as_uri() + "/screens/") for pv in pvs.values())
    exports = exported(out)
    assert exports["alarms"] == exports["fragment"]
    assert all(len(names) > 10 for names in exports.values())
    assert all(name.startswith("DEMO:") for names in exports.values() for name in names)


def test_it_is_written_again_and_what_is_somebody_elses_stays(out):
    main = out / "screens" / "main.bob"
    text = main.read_text(encoding="utf-8")
    main.write_text(text + "<!-- edited -->\n", encoding="utf-8")
    assert export(out, "--demo").returncode == 0
    assert main.read_text(encoding="utf-8") == text
    main.write_text("my own", encoding="utf-8")
    ran = export(out, "--demo")
    assert ran.returncode == 1
    assert "main.bob" in ran.stderr
    assert main.read_text(encoding="utf-8") == "my own"
    main.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ((), "no settings file"),
        (("--demo", "--settings", "x.toml"), "either --settings or --demo"),
        (("--demo", "--screens", "here"), "absolute"),
    ],
)
def test_wrong_use_is_reported(tmp_path, more, says):
    ran = export(tmp_path / "out", *more)
    assert ran.returncode != 0
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder,
        env={
            key: text for key, text in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_make_has_it_and_asks_where_to(tmp_path):
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", "pyproject.toml", "deploy/requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    assert 'export facility --demo "here"' in make(tmp_path, "-n", "demo-facility", "OUT=here").stdout
    ran = make(tmp_path, "demo-facility")
    assert ran.returncode != 0
    assert "OUT=DIR" in ran.stderr


def of_another_type(table: dict[str, PvEntry], infos: dict[str, aioca.CAInfo]) -> dict[str, str]:
    """The PVs that the IOC serves in another type or size than the table that the exports are made from."""
    found = {}
    for name, info in infos.items():
        spec = make_spec(table[name])
        if (info.datatype, info.count) != (int(spec.dtype), spec.max_elements):
            found[name] = f"{info.datatype}[{info.count}], not {spec.dtype}[{spec.max_elements}]"
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_pv_of_every_export_is_served_with_its_type(out, tmp_path, state_home, monkeypatch):
    place = libca_place()
    place.put_into(monkeypatch)
    env = environment(place, tmp_path, state_home)
    settings = Path(state_home["XDG_STATE_HOME"]) / "attpc-ioc" / "demo" / "demo.toml"
    exports = exported(out)
    names = sorted(set().union(*exports.values()))
    async with started(FORKED, "demo", env=env, folder=tmp_path) as demo:
        await demo.until("The demo is running", 90)
        loaded = load_settings(settings)
        table = {entry.name: entry for entry in make_table(loaded, load_plugins(loaded))}
        assert set(names) <= table.keys()
        try:
            infos = dict(zip(names, await aioca.cainfo(names, timeout=60, throw=False), strict=True))
            assert [name for name, info in infos.items() if not info.ok] == []
            assert of_another_type(table, infos) == {}
            # An alarm server looks at one value, and so does a strip of an archive.
            assert {infos[name].datatype for name in exports["alarms"]} <= SCALARS | {ChannelType.CHAR}
            # What is restored can be written, and what it is compared with cannot.
            assert all(infos[name].write for name in exports["saveset"])
            assert not any(infos[name].write for name in exports["readbacks"])
        finally:
            aioca.purge_channel_caches()
        assert (await demo.end(signal.SIGINT))[0] == 0
