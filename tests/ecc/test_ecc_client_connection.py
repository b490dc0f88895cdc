"""The ECC client: connections that cannot be made, take too long, vanish, or are closed."""

import asyncio
import gc
import socket

import pytest

from attpc_ioc.errors import EccBrokenReply, EccTimeout, EccUnreachable
from attpc_ioc.model.states import Operation, Transition
from tests.support.ca import free_port
from tests.support.ecc_client import CONFIG, SOURCES, Call, client_of, ways
from tests.support.ecc_raw import envelope, http, own_sockets_to, raw_server, state_xml, text_xml, until


@ways
async def test_no_server_is_unreachable(call: Call):
    async with client_of(f"http://127.0.0.1:{free_port()}/") as client:
        with pytest.raises(EccUnreachable, match=rf"^no connection to {client.url}: Connection refused$"):
            await call(client)


@ways
async def test_no_such_host_is_unreachable(call: Call):
    async with client_of("http://no-such-host.invalid:8083/") as client:
        with pytest.raises(EccUnreachable, match=r"^no connection to http://no-such-host.invalid:8083/"):
            await call(client)


async def test_a_name_that_cannot_be_one_is_unreachable():
    async with client_of(f"http://{'a' * 80}.invalid:8083/") as client:
        with pytest.raises(EccUnreachable, match=r"^no connection to http://aaa"):
            await client.get_state()


@ways
async def test_a_full_backlog_is_unreachable(call: Call):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # The kernel takes one connection more than the backlog, and lets the rest wait.
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        try:
            async with client_of(f"http://127.0.0.1:{address[1]}/", connect_timeout_s=0.2) as client:
                with pytest.raises(EccUnreachable, match=r"within 0.2 s$"):
                    await call(client)
        finally:
            for sock in waiting:
                sock.close()


async def hang(_request: bytes, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_no_answer_is_a_timeout_of_polls_and_configs():
    async with raw_server(hang) as server, client_of(server.url, poll_timeout_s=0.1) as client:
        with pytest.raises(EccTimeout, match=rf"^GetState from {server.url}: no answer within 0.1 s$"):
            await client.get_state()
        with pytest.raises(EccTimeout, match=r"GetConfigIDs from .*: no answer within 0.1 s"):
            await client.get_config_ids(timeout_s=0.1)


async def test_a_transition_waits_on():
    go = asyncio.Event()

    async def answer_later(_request: bytes, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(http(envelope(text_xml())))

    limits = {"poll_timeout_s": 0.05, "connect_timeout_s": 0.5}
    async with raw_server(answer_later) as server, client_of(server.url, **limits) as client:
        task = asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, SOURCES))
        done, _ = await asyncio.wait([task], timeout=0.7)
        assert not done
        go.set()
        assert (await task).duration_s >= 0.6


async def test_calls_overlap_and_leave_nothing_open():
    release = asyncio.Event()

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"GetState" in request:
            writer.write(http(envelope(state_xml(2, 2))))
        else:
            await release.wait()
            writer.write(http(envelope(text_xml())))

    async with raw_server(answer) as server, client_of(server.url) as client:
        transitions = [
            asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, ())) for _ in range(5)
        ]
        seen = await asyncio.gather(*(client.get_state() for _ in range(50)))
        assert {s.transition for s in seen} == {Transition.PREPARE}
        release.set()
        assert [r.code for r in await asyncio.gather(*transitions)] == [0] * 5
        await until(lambda: not server.open)


@ways
async def test_cancelling_a_call_leaves_nothing_open(call: Call):
    async with raw_server(hang) as server, client_of(server.url, poll_timeout_s=30) as client:
        task = asyncio.ensure_future(call(client))
        await until(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not own_sockets_to(server.port))
        assert len(asyncio.all_tasks()) <= 2, "this test's and the server's"


async def test_a_cancelled_poll_never_leaves_an_error_unread(caplog: pytest.LogCaptureFixture):
    async with raw_server(http(envelope(state_xml()))) as server, client_of(server.url) as client:
        # Cancelled after each possible number of turns of the loop, connecting included.
        for turns in range(12):
            task = asyncio.create_task(client.get_state())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    gc.collect()
    assert caplog.records == []


async def test_closing_ends_a_transition_and_what_comes_later():
    async with raw_server(hang) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, ()))
        await until(lambda: server.requests)
        await client.close()
        await client.close()
        with pytest.raises(EccBrokenReply):
            await task
        with pytest.raises(EccUnreachable, match="this client is closed"):
            await client.get_config_ids()


async def test_a_host_that_vanishes_is_noticed_by_keep_alive():
    async with raw_server(hang) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, ()))
        await until(lambda: server.requests)
        (sock,) = own_sockets_to(server.port)
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            tcp = [socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in tcp] == [1, 10, 5, 4]
        task.cancel()
        await asyncio.wait([task])


async def test_a_hosts_name_is_looked_up_now_and_then_only(monkeypatch: pytest.MonkeyPatch):
    loop = asyncio.get_running_loop()
    asked: list[object] = []
    look_up = loop.getaddrinfo

    async def counted(host: str, *args: object, **more: object) -> object:
        asked.append(host)
        return await look_up(host, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "getaddrinfo", counted)
    async with raw_server(http(envelope(state_xml()))) as server:
        asked.clear()
        async with client_of(f"http://localhost:{server.port}/") as client:
            for _ in range(5):
                await client.get_state()
            assert asked == ["localhost"]
            await server.stop()
            for _ in range(2):
                with pytest.raises(EccUnreachable):
                    await client.get_state()
            assert asked == ["localhost"] * 2, "a failure asks anew, the address may have changed"
