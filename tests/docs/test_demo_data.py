"""What a newcomer sees of the data in the demo: rates while a run is on, then files in their place."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import tomllib
from pathlib import Path

import psutil
import pytest

from tests.support.ca import CaPlace, ca_place, caget, caput, eventually
from tests.support.patience import PATIENCE_S
from tests.support.process import FORKED, Running, environment, started
from tests.support.simfleet import wait_until


@pytest.fixture
def place():
    place = ca_place()
    yield place
    place.close()


async def shows(place: CaPlace, pv: str, text: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until `caget` prints a text for a PV."""

    async def read() -> bool:
        return re.search(rf"\b{text}\b", (await caget(place, "-S", "-t", f"DEMO:{pv}")).out) is not None

    await eventually(read, f"{pv} is {text}", limit_s)


async def put(place: CaPlace, pv: str, value: str) -> None:
    done = await caput(
        place, "-c", "-w", "60", *(["-S"] if pv == "Config" else []), f"DEMO:{pv}", value, limit_s=70
    )
    assert done.code == 0, done.both


def children_of(program: Running) -> list[psutil.Process]:
    return psutil.Process(program.process.pid).children(recursive=True)


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def test_rates_files_and_manifests(tmp_path, place, state_home):
    env = environment(place, tmp_path, state_home)
    data = Path(state_home["XDG_STATE_HOME"]) / "attpc-ioc" / "demo" / "data"
    # The first two are reached by SSH, the next two through a sentry, the rest by their folders.
    async with started(FORKED, "demo", "--cobos", "5", env=env, folder=tmp_path) as demo:
        await demo.until("Router:Rate_RBV", 60)
        assert stat.S_IMODE(data.parent.stat().st_mode) == (0o700 if os.geteuid() else 0o711)
        await shows(place, "ConfigNames_RBV", "e20009")
        await put(place, "Config", "e20009")
        await put(place, "GoTo", "Ready")
        await shows(place, "Run:Ready_RBV", "Ready")
        await put(place, "Run:Start", "1")
        for source in ("CoBo0", "CoBo2", "CoBo4", "MuTAnT"):
            await shows(place, f"{source}:Router:Flow_RBV", "Flowing")
            assert float((await caget(place, "-t", f"DEMO:{source}:Router:Rate_RBV")).out) > 0
        agents = [child for child in children_of(demo) if child.name() == "perl"]
        assert len(agents) >= 2
        await put(place, "Run:Stop", "1")
        for source in ("CoBo0", "CoBo1", "CoBo2", "CoBo3", "CoBo4", "MuTAnT"):
            await shows(place, f"{source}:Router:Close_RBV", "Done", 40)
            run = data / source.lower() / "data" / "unnamed" / "run_0000"
            names = sorted(path.name for path in run.glob("*.graw"))
            assert len(names) == (1 if source == "MuTAnT" else 4)
            if source not in ("CoBo2", "CoBo3"):
                told = json.loads((run / "manifest.json").read_text())["files"]
                sizes = {name: (run / name).stat().st_size for name in names}
                assert {file["name"]: file["size"] for file in told} == sizes
            assert list(run.parent.parent.glob("*.graw")) == []
        await shows(place, "Run:Ready_RBV", "Ready")
        assert (await demo.end(signal.SIGINT))[0] == 0
    await wait_until(lambda: not any(map(runs, agents)), what="no process that SSH began is left")


async def test_a_second_demo_has_the_same_ecc_servers_and_warns_of_none(tmp_path, place, state_home):
    env = environment(place, tmp_path, state_home)
    file = Path(state_home["XDG_STATE_HOME"]) / "attpc-ioc" / "demo" / "demo.toml"

    async def ports() -> dict[str, int]:
        async with started(FORKED, "demo", "--cobos", "2", env=env, folder=tmp_path) as demo:
            await demo.until("Ctrl-C here ends it.", 60)
            await shows(place, "Ecc:cobo1:State_RBV", "Idle")
            assert (await demo.end())[0] == 0
            texts.append(demo.text)
        return {ecc["name"]: ecc["port"] for ecc in tomllib.loads(file.read_text())["ecc"]}

    texts: list[str] = []
    first = await ports()
    assert await ports() == first
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first["cobo0"]))
        taken.listen()
        third = await ports()
    assert third["cobo0"] != first["cobo0"]
    assert third["cobo1"] == first["cobo1"]
    assert ["another address" in text for text in texts] == [False, False, True]


async def test_faults_of_the_demo_are_switched_as_it_says(tmp_path, place, state_home):
    # The fleets of an account are listed below its temporary folder: `fault` is to find this one only.
    env = environment(place, tmp_path, state_home | {"TMPDIR": state_home["XDG_STATE_HOME"]})
    async with started(FORKED, "demo", "--cobos", "2", env=env, folder=tmp_path) as demo:
        await demo.until("Ctrl-C here ends it.", 60)
        # Another simulator may have the port that the command asks by itself: then the demo says which.
        lines = re.findall(r"^\s+attpc-ioc (fault .*)$", demo.text, re.MULTILINE)
        assert [line.split()[1:3] for line in lines] == [["cobo1", "die"], ["all", "clear"]]
        where = lines[0].split()[3:]
        await shows(place, "Ecc:cobo1:State_RBV", "Idle")
        for words, seen in ((["cobo1", "die"], "Offline"), (["cobo1", "clear"], "Idle")):
            async with started(FORKED, "fault", *words, *where, env=env, folder=tmp_path) as switch:
                assert await switch.wait(30) == 0, switch.text
            await shows(place, "Ecc:cobo1:State_RBV", seen)
        async with started(FORKED, "fault", *where, env=env, folder=tmp_path) as look:
            assert await look.wait(30) == 0, look.text
        assert "Mutant[master]" in look.text
        assert (await demo.end())[0] == 0
