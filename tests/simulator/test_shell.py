"""The simulator as a person at the shell uses it: one process, orders from another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from attpc_ioc.model.states import State
from attpc_ioc.settings import Settings
from attpc_ioc.simulator.admin import Admin
from attpc_ioc.simulator.client import call_ecc
from attpc_ioc.simulator.documents import config_id
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.run import run_simulator
from tests.support.forked import PIPE, SHELL, STDOUT, Forked, forked
from tests.support.simfleet import wait_until


async def command(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command to its end; returns the exit code and all that it wrote."""
    process = await forked(SHELL, *arguments, env=env, stdout=PIPE, stderr=STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, output.decode()


@dataclass
class Running:
    process: Forked
    greeting: str

    @property
    def admin(self) -> str:
        return re.findall(r"faults and state: +(\S+)", self.greeting)[0]

    def port(self, server: str) -> int:
        return int(re.findall(rf"^{server} +http://127\.0\.0\.1:(\d+)/$", self.greeting, re.MULTILINE)[0])


@asynccontextmanager
async def simulating(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    ports = ("--first-port", "0", "--first-router-port", "0", "--admin-port", "0")
    process = await forked(SHELL, "simulate", *ports, *arguments, env=env, stdout=PIPE)
    assert process.stdout is not None
    try:
        lines: list[str] = []
        async with asyncio.timeout(20):
            while line := (await process.stdout.readline()).decode():
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
        yield Running(process, "".join(lines))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 5)


async def test_a_session_at_the_shell(tmp_path: Path) -> None:
    settings = tmp_path / "ioc.toml"
    arguments = (
        "--cobos",
        "2",
        "--xcfg",
        str(tmp_path / "xcfg"),
        "--settings",
        str(settings),
        "--prefix",
        "S:",
    )
    async with simulating(*arguments) as running:
        admin = ("--admin", running.admin)
        port = running.port("cobo1")
        code, output = await command("fault", "cobo1", "fail", "--operation", "Describe", *admin)
        assert (code, output) == (0, "cobo1: fail is on for Describe\n")
        document = config_id("cobo1/e20009/e20009")
        assert (await call_ecc("127.0.0.1", port, "Describe", config_id=document)).code == 1
        code, output = await command("fault", "--calls", "5", *admin)
        assert code == 0
        assert re.search(r"^cobo1 +Idle +polls 0 +fail Describe$", output, re.MULTILINE)
        assert re.search(r"cobo1 Describe Idle->Idle failed code=1", output)
        assert (await command("fault", "cobo1", "fail", "--off", *admin))[0] == 0
        assert (await call_ecc("127.0.0.1", port, "Describe", config_id=document)).code == 0
        code, output = await command("fault", "cobo7", "hang", *admin)
        assert code == 1
        assert output == "there is no server 'cobo7'; there are cobo0, cobo1, mutant, and all\n"
        read = Settings.model_validate(tomllib.loads(settings.read_text()))
        assert read.ioc.prefix == "S:"
        assert [ecc.port for ecc in read.ecc] == [running.port(name) for name in ("cobo0", "cobo1", "mutant")]
        running.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 5) == 0
    assert len(list((tmp_path / "xcfg").glob("*.xcfg"))) == 6
    code, output = await command("fault", "cobo1", "hang", *admin)
    assert code == 1
    assert output.startswith("no simulator answers at http://127.0.0.1:")


async def test_faults_go_to_the_only_fleet_that_runs_or_to_the_one_that_is_chosen(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    none = await command("fault", "all", "clear", env=env)
    assert none[0] == 1
    assert none[1].startswith("no simulated fleet of this account runs on this machine: start one with ")
    async with simulating("--cobos", "1", env=env) as one:
        assert await command("fault", "cobo0", "hang", env=env) == (0, "cobo0: hang is on\n")
        async with simulating("--cobos", "2", "--no-mutant", env=env) as other:
            for words in ((), ("all", "clear")):
                code, said = await command("fault", *words, env=env)
                assert code == 1
                assert sorted(said.splitlines()) == sorted(
                    [
                        "several simulated fleets run, choose one:",
                        f"  --admin {one.admin}  simulate, cobo0, mutant",
                        f"  --admin {other.admin}  simulate, cobo0, cobo1",
                    ]
                )
            chosen = await command("fault", "all", "clear", "--admin", other.admin, env=env)
            assert chosen == (0, "all: cleared\n")
            assert "hang" in (await command("fault", "--admin", one.admin, env=env))[1]
            # One that is killed leaves its file, and is no fleet any more.
            other.process.kill()
            await other.process.wait()
        assert "hang" in (await command("fault", env=env))[1]
    assert (await command("fault", env=env))[0] == 1
    assert not os.listdir(tmp_path / f"attpc-ioc-fleets-{os.geteuid()}")


async def test_port_that_is_taken(fleet: SimulatedFleet) -> None:
    code, output = await command("simulate", "--first-port", str(fleet["cobo0"].port), "--admin-port", "0")
    assert code == 1
    assert output.startswith("the simulator cannot run: ")
    assert "in use" in output


@pytest.fixture
async def admin(fleet: SimulatedFleet) -> AsyncIterator[Admin]:
    made = Admin(fleet)
    await made.start()
    yield made
    await made.stop()


async def order(admin: Admin, **values: object) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(admin.url + "fault", json=values) as reply,
    ):
        return reply.status, (await reply.json())["message"]


@pytest.mark.parametrize(
    "fault",
    [
        "slow",
        "hang",
        "stall",
        "refuse",
        "fail",
        "lie",
        "fail-but-move",
        "lose-reply",
        "die",
        "board-dead",
        "off",
    ],
)
async def test_each_fault_can_be_ordered(fleet: SimulatedFleet, admin: Admin, fault: str) -> None:
    assert (await order(admin, server="cobo0", fault=fault))[0] == 200
    assert [found.name for found in fleet["cobo0"].faults] == [fault]
    assert not fleet["cobo1"].faults
    assert (await order(admin, server="cobo0", fault=fault, on=False))[0] == 200
    assert not fleet["cobo0"].faults
    assert (await fleet.call("cobo0", "Describe", timeout_s=2)).code == 0
    assert fleet["cobo0"].state is State.DESCRIBED


async def test_all_and_clear(fleet: SimulatedFleet, admin: Admin) -> None:
    assert (await order(admin, server="all", fault="die"))[0] == 200
    assert not any(server.alive for server in fleet)
    assert (await order(admin, server="all", fault="clear")) == (200, "all: cleared")
    assert all(server.alive for server in fleet)


async def test_router_down(fleet: SimulatedFleet, admin: Admin) -> None:
    assert (await order(admin, server="all", fault="router-down", board="CoBo[1]"))[0] == 200
    assert [router.running for router in fleet.routers.values()] == [True, False, True]
    assert (await order(admin, server="cobo1", fault="clear"))[0] == 200
    assert fleet.routers["CoBo[1]"].running


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"server": "nobody", "fault": "hang"}, "there is no server 'nobody'"),
        ({"server": "cobo0", "fault": "magic"}, "fault: Input should be 'slow'"),
        ({"server": "cobo0", "fault": "hang", "operation": "Fly"}, "there is no operation 'Fly'"),
        ({"server": "cobo0", "fault": "die", "operation": "Start"}, "die is not about an operation"),
        ({"server": "cobo0", "fault": "board-dead", "board": "CoBo[9]"}, "there is no board 'CoBo[9]'"),
        ({"server": "cobo0", "fault": "hang", "board": "CoBo[0]"}, "hang is not about a board"),
        ({"server": "cobo0", "fault": "slow", "factor": 0}, "factor: Input should be greater than 0"),
        ({"server": "cobo0"}, "fault: Field required"),
        ({"server": "cobo0", "fault": "hang", "more": 1}, "more: Extra inputs are not permitted"),
    ],
)
async def test_bad_orders_change_nothing(
    fleet: SimulatedFleet, admin: Admin, values: dict[str, object], says: str
) -> None:
    code, message = await order(admin, **values)
    assert code == 400
    assert message.startswith(says)
    assert not any(server.faults for server in fleet)
    assert all(board.alive for board in fleet.boards.values())


async def test_what_is_to_be_tried_can_be_copied(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "my fleet's.toml"
    task = asyncio.create_task(run_simulator(SimulatedFleet(1), settings_file=file, say=said.append))
    try:
        await wait_until(lambda: "Ctrl-C ends it." in said, what="the greeting")
        (line,) = [line for line in said if "attpc-ioc run" in line]
        assert shlex.split(line) == ["attpc-ioc", "run", str(file)]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
