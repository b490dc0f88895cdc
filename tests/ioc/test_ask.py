"""What the shell asks a running IOC: who is connected; and that nobody is hurt by bad questions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attpc_ioc.app import App, running
from attpc_ioc.asking import SOCKET, ask, socket_path
from attpc_ioc.cli.lists import clients_text
from attpc_ioc.errors import StateDirError
from attpc_ioc.ioc.ask import QUESTION_BYTES, AskServer, clients_answer
from attpc_ioc.settings import load_settings
from attpc_ioc.settings.demo_place import VARIABLE
from tests.ca.raw import raw_client
from tests.support.ca import LOOPBACK, CaPlace, ca_place, eventually, free_port, run
from tests.support.forked import PIPE, SHELL, forked

TOML = """
[ioc]
prefix = "T:"
state_dir = "{folder}"
server_port = {port}
interfaces = ["127.0.0.1"]
[channel_access]
max_clients = 3
[[ecc]]
name = "cobo0"
host = "127.0.0.1"
port = {ecc}
[[ecc.source]]
id = "CoBo[0]"
[[ecc.source.link]]
name = "data0"
address = "127.0.0.1"
[plugins.run_history]
enabled = false
"""


@pytest.fixture
def place() -> CaPlace:
    return ca_place()


@pytest.fixture
async def file(tmp_path: Path, place: CaPlace) -> Path:
    path = tmp_path / "ioc.toml"
    folder = tmp_path / ("a state directory with a name that is too long for a socket " + "x" * 80)
    path.write_text(TOML.format(folder=folder, port=place.port, ecc=free_port()))
    return path


@pytest.fixture
async def ioc(file: Path, place: CaPlace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    place.put_into(monkeypatch)
    async with running(load_settings(file)) as app:
        yield app
    place.close()


async def clients(file: Path | str, *options: str) -> tuple[int, str, str]:
    process = await forked(SHELL, "clients", *([file] if file else ()), *options, stdout=PIPE, stderr=PIPE)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_who_is_connected_to_what(ioc: App, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await clients(file)) == (0, "no client is connected\n", "")
    monkeypatch.delenv(VARIABLE, raising=False)
    code, _, err = await clients("")
    assert (code, f"no settings file: give FILE or set {VARIABLE}" in err) == (1, True), err
    monkeypatch.setenv(VARIABLE, str(file))
    assert (await clients("")) == (0, "no client is connected\n", "")
    async with raw_client(ioc.server.port, user="ann\x1b[2J") as raw:
        await raw.channel("T:State_RBV")
        await raw.channel("T:Run:Title.DESC")
        code, out, err = await clients(file, "--pvs")
        assert (code, err) == (0, "")
        head, line, *names = out.splitlines()
        assert head.split()[:4] == ["id", "user", "host", "address"]
        assert line.split()[1:3] == ["ann\\x1b[2J", "bench"]
        assert names == ["    T:Run:Title.DESC", "    T:State_RBV"]
        code, out, err = await clients(file, "--json")
        (told,) = json.loads(out)["clients"]
        assert (told["channels"], told["subscriptions"], told["pvs"]) == (
            2,
            0,
            ["T:Run:Title.DESC", "T:State_RBV"],
        )
        assert told["address"].startswith(f"{LOOPBACK}:")


async def test_counts_as_pvs_are_true(ioc: App, place: CaPlace) -> None:
    async with raw_client(ioc.server.port) as raw:
        for _ in range(5):
            await raw.channel("T:State_RBV")
        await eventually(lambda: ioc.server.pvs["T:IOC:CA_CONN_CNT"].value == 5.0, "count")
        ran = await run(place, "caget", "-t", "T:IOC:CA_CLNT_CNT", "T:IOC:CA_CONN_CNT", "T:IOC:CA_SUB_CNT")
        assert ran.out.split() == ["1", "5", "0"]
        await eventually(lambda: float(str(ioc.server.pvs["T:IOC:CA_GET_RATE"].value)) > 0, "rate")


async def test_the_limits_are_those_of_the_settings(ioc: App) -> None:
    async with (
        raw_client(ioc.server.port),
        raw_client(ioc.server.port),
        raw_client(ioc.server.port),
    ):
        with pytest.raises(ConnectionError):
            async with raw_client(ioc.server.port):
                pass
        await eventually(lambda: ioc.server.pvs["T:IOC:CA_DISCON_CNT"].value == 1.0, "count")


async def test_only_the_account_of_the_ioc_may_ask(ioc: App) -> None:
    mode = (ioc.log.folder / SOCKET).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o077 == 0


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b'{"ask": "x"}\n', b'{"ask": []}\n', b"[" * 4000 + b"\n"])
async def test_bad_questions_get_that_answer(ioc: App, line: bytes) -> None:
    reader, writer = await _connect(ioc.log.folder)
    writer.write(line)
    assert "'ask', one of clients" in json.loads(await reader.read())["error"]
    writer.close()


async def test_a_question_without_end(ioc: App) -> None:
    reader, writer = await _connect(ioc.log.folder)
    writer.write(b"x" * 3 * QUESTION_BYTES)
    assert await reader.read() == b""
    writer.close()


async def test_nobody_answers_where_no_ioc_runs(file: Path, place: CaPlace, tmp_path: Path) -> None:
    code, out, err = await clients(file)
    assert (code, out) == (1, "")
    assert "is it running?" in err
    place.close()


async def test_an_ioc_that_hangs_differs_from_one_that_does_not_run(tmp_path: Path) -> None:
    """Its socket takes connections, as that of a stopped process does, and nobody answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / SOCKET))
        sock.listen(0)
        with pytest.raises(StateDirError, match=r"runs, but did not answer within 0\.2 s"):
            await asyncio.to_thread(ask, tmp_path, {"ask": "clients"}, 0.2)
        with socket.socket(socket.AF_UNIX) as other:  # and its queue is full now
            other.setblocking(False)
            other.connect_ex(str(tmp_path / SOCKET))
            with pytest.raises(StateDirError, match="runs, but did not answer"):
                await asyncio.to_thread(ask, tmp_path, {"ask": "clients"}, 0.2)
    with pytest.raises(StateDirError, match="is it running"):
        await asyncio.to_thread(ask, tmp_path, {"ask": "clients"})


@pytest.mark.parametrize("answer", [b"x" * 65536, b"[" * 65536])
def test_no_more_is_read_than_an_answer_has(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen()

        def flood() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(1 if answer.startswith(b"[") else 1 << 20):
                    connection.sendall(answer)

        flooding = threading.Thread(target=flood)
        flooding.start()
        with pytest.raises(StateDirError, match="did not answer"):
            ask(tmp_path, {"ask": "clients"})
        flooding.join()


async def test_names_are_shared_fairly(ioc: App) -> None:
    """A client with many channels leaves others theirs; what is not shown is counted, even if it is all."""
    async with raw_client(ioc.server.port, "many") as many, raw_client(ioc.server.port, "few") as few:
        for _ in range(40):
            await many.channel("T:State_RBV")
        for name in ("T:Busy_RBV", "T:GoTo"):
            await few.channel(name)
        shares = {names: [len(one.pvs) for one in ioc.server.ca.clients(names)] for names in (100, 10, 3, 1)}
        assert shares == {100: [40, 2], 10: [8, 2], 3: [2, 1], 1: [1, 0]}
        told = clients_answer(ioc.server.ca, (), {"pvs": True})["clients"]
        assert [one["user"] for one in told] == ["many", "few"]
        told[1]["pvs"] = []
        assert clients_text(told, True).splitlines()[-1] == "    and 2 more"
        assert "more" not in clients_text(told, False)


async def test_the_socket_of_a_killed_ioc_is_replaced(tmp_path: Path) -> None:
    (tmp_path / SOCKET).write_text("left over")
    server = AskServer(tmp_path, {"clients": lambda _: {"clients": []}})
    await server.start()
    assert await asyncio.to_thread(ask, tmp_path, {"ask": "clients"}) == {"clients": []}
    with pytest.raises(StateDirError, match="one of clients"):
        await asyncio.to_thread(ask, tmp_path, {"ask": "nothing"})
    await server.stop()
    assert not (tmp_path / SOCKET).exists()
    with pytest.raises(StateDirError, match="is it running"):
        await asyncio.to_thread(ask, tmp_path, {"ask": "clients"})


async def _connect(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    with socket_path(folder) as path:
        return await asyncio.open_unix_connection(path)
