"""What the HTTP API shows is what EPICS clients see; errors say what would be right."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

from attpc_plugins.web import plugin as Web
from attpc_plugins.web.app import HEADERS, Snapshot
from attpc_plugins.web.problems import ProblemBody
from attpc_plugins.web.shown import PvRow, PvValue
from pydantic import TypeAdapter

from attpc_ioc.model.states import State
from tests.access.rules_file import ME, MY_HOST
from tests.support.rig import rig
from tests.support.simfleet import wait_until
from tests.support.web import NAME, streaming, web_rig

RULES = f"""
UAG(shift) {{ "{ME}" }}
HAG(desks) {{ "{MY_HOST}" }}
ASG(DEFAULT) {{ RULE(1, READ) }}
ASG(OPERATOR) {{ RULE(1, WRITE) {{ UAG(shift) HAG(desks) }} RULE(1, READ) {{ UAG(shift) }} }}
ASG(EXPERT) {{ RULE(1, READ) }}
"""


async def test_rows_and_values_are_those_of_the_pvs(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        table = it.rig.app.table
        status, rows = await it.get("/api/v1/pvs")
        assert status == 200
        TypeAdapter(list[PvRow]).validate_python(rows, strict=True)
        assert [row["name"] for row in rows] == [entry.name for entry in table]
        await it.rig.select()
        await it.rig.ok("Ecc:cobo0:Describe")
        state = await it.value("Ecc:cobo0:State_RBV")
        assert (state["value"], state["label"], state["severity"]) == (
            State.DESCRIBED,
            "Described",
            "NO_ALARM",
        )
        status, found = await it.get("/api/v1/snapshot")
        Snapshot.model_validate(found, strict=True)
        assert list(found["pvs"]) == [entry.name for entry in table]
        for entry in table:
            one = await it.value(entry.name.removeprefix(it.rig.prefix))
            PvValue.model_validate(one, strict=True)
            if entry.row.live or entry.row.part.startswith(("Time", "Up", "Poll", "Heartbeat")):
                continue
            reading = it.rig.posted(entry.name.removeprefix(it.rig.prefix))
            if reading is not None and isinstance(reading.value, str | int):
                assert one["value"] == reading.value, entry.name
                assert one["severity"] == reading.severity.name, entry.name


async def test_the_stream_has_everything_then_what_changes(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        state = f"{it.rig.prefix}Ecc:cobo0:State_RBV"
        await it.rig.select()
        async with streaming(it) as stream:
            kind, content = await stream.next()
            assert kind == "snapshot"
            Snapshot.model_validate(content, strict=True)
            assert set(content["pvs"]) == {entry.name for entry in it.rig.app.table}
            await it.rig.ok("Ecc:cobo0:Describe")
            shown = await stream.until(state, "Described")
            assert shown["value"] == State.DESCRIBED
            assert {kind for kind, _ in stream.messages[1:]} == {"change"}
            numbers = [content["number"] for _, content in stream.messages]
            assert numbers == sorted(set(numbers))
            changed = [set(content["pvs"]) for _, content in stream.messages[1:]]
            assert max(map(len, changed)) < len(content["pvs"]) / 2


async def test_a_page_that_does_not_keep_up_gets_what_it_missed(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        assert it.plugin.service is not None
        live = it.plugin.service._web.live
        name = f"{it.rig.prefix}Run:Title"
        number = live.number
        for title in ("one", "two", "three"):
            await it.rig.ok("Run:Title", title)
            await wait_until(lambda before=live.number: live.number > before, 5.0, "a message")
        last, news = await live.after(number)
        assert last == live.number
        assert news.count(b'"three"') == 1
        assert b'"two"' not in news
        assert (await live.after(number, frozenset((name,))))[1].count(b'"three"') == 0


async def test_a_page_that_goes_leaves_no_trace_in_the_log(tmp_path, monkeypatch, caplog):
    async with web_rig(tmp_path, monkeypatch) as it:
        assert it.plugin.service is not None
        door = it.plugin.service._door
        port = int(it.url.rpartition(":")[2])
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.transport.abort()
        await wait_until(lambda: not door.inside, 10.0, "the streams' end")
        assert not [record for record in caplog.records if "aiohttp" in record.name]


async def test_what_may_not_be_read_is_not_shown(tmp_path, monkeypatch):
    (tmp_path / "rules.acf").write_text(RULES)
    async with web_rig(tmp_path, monkeypatch, access=f'file = "{tmp_path / "rules.acf"}"') as it:
        title = f"{it.rig.prefix}Run:Title"
        status, problem = await it.get(f"/api/v1/pvs/{title}")
        assert (status, problem["detail"]) == (403, f"{title}: no read access")
        _, found = await it.get("/api/v1/snapshot")
        assert title not in found["pvs"]
        assert f"{it.rig.prefix}State_RBV" in found["pvs"]
        async with streaming(it) as stream:
            await stream.next()
            await it.rig.ok("Run:Title", "secret")
            await it.rig.ok("Run:Operator", "nobody")
            await stream.next()
            await stream.next()
            assert not {name for name in stream.pvs if name in (title, f"{it.rig.prefix}Run:Operator")}
        _, text = await it.get("/metrics")
        assert "attpc_run_max_duration_setting" not in text


async def test_metrics_are_numbers_that_are_known(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        await it.rig.until_all(State.IDLE)
        status, text = await it.get("/metrics")
        assert status == 200
        assert 'attpc_ecc_state{ecc="cobo0"} 1\n' in text
        assert "# TYPE attpc_ecc_state gauge\n" in text
        for line in text.splitlines():
            assert re.fullmatch(
                r'# (HELP|TYPE) attpc_[a-z0-9_]+ .+|attpc_[a-z0-9_]+(\{[a-z]+="[^"]*"\})? -?[0-9.e+-]+', line
            ), line
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(names) == len(set(names))
        assert "attpc_ecc_config_number" in names
        assert not [name for name in names if name.endswith("_count")]
        it.rig.fleet["cobo0"].faults.die()

        def shown() -> object:
            reading = it.rig.posted("Ecc:cobo0:State_RBV")
            return reading is not None and reading.value == State.OFFLINE

        await it.rig.until(shown)
        _, text = await it.get("/metrics")
        assert 'attpc_ecc_state{ecc="cobo0"} 7\n' in text


async def test_health(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        assert await it.get("/healthz") == (200, "ok\n")
        assert await it.get("/readyz") == (200, "ok\n")


async def test_the_document_is_that_of_the_program(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        status, found = await it.get("/api/v1/openapi.json")
        assert status == 200
        assert found["openapi"] == "3.1.0"
        assert it.plugin.service is not None
        operations = it.plugin.service._web.operations
        assert {(o.path, o.method.lower()) for o in operations} == {
            (path, method) for path, methods in found["paths"].items() for method in methods
        }
        names = found["components"]["schemas"]
        refs = set(re.findall(r"#/components/schemas/(\w+)", str(found)))
        assert refs <= set(names)
        assert {"PvRow", "PvValue", "Snapshot", "ProblemBody"} <= set(names)


async def test_errors_say_what_would_be_right(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        for method, path, headers, status, words in (
            ("GET", "/api/v1/pvs/Nothing", {}, 404, "there is no PV 'Nothing'"),
            ("GET", "/nothing", {}, 404, "openapi.json lists what there is"),
            ("DELETE", "/api/v1/pvs", {}, 405, "it has GET"),
            ("GET", "/healthz", {"Host": "evil.example"}, 421, "names in [plugins.web]"),
            ("GET", "/static/../../../etc/passwd", {}, 404, "there is no"),
            ("GET", "/static/%2e%2e/%2e%2e/plugin.py", {}, 404, "there is no"),
        ):
            found, problem = await it.ask(method, path, headers=headers)
            assert found == status, path
            ProblemBody.model_validate(problem)
            assert words in problem["detail"], problem
        async with it.client.get(f"{it.url}/nothing") as response:
            assert response.content_type == "application/problem+json"
            for name, value in HEADERS.items():
                assert response.headers[name] == value
            assert response.headers["Server"] == "attpc-ioc"


async def test_hosts_by_which_it_is_known(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, 'names = ["attpc.example.org"]') as it:
        for host, status in (
            ("attpc.example.org", 200),
            ("ATTPC.example.org:8064", 200),
            ("localhost:1", 200),
            ("[::1]:8064", 200),
            ("192.168.41.1", 200),
            ("attpc.example.org.evil.net", 421),
            ("", 421),
        ):
            assert (await it.get("/healthz", headers={"Host": host}))[0] == status, host


async def test_a_port_in_use_is_said_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("attpc_plugins.web.service.AGAIN_S", 0.05)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        section = {f"plugins.{NAME}": f"port = {port}"}
        plugins = [(NAME, Web())]
        async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, plugins=plugins, **section) as it:
            assert await it.get(f"Plugin:{NAME}:Status_RBV") == "Degraded"
            text = await it.get_text(f"Plugin:{NAME}:Message_RBV")
            assert f"cannot listen at port {port} of 127.0.0.1: another program uses it" in text
            taken.close()
            await wait_until(
                lambda: "at http://127.0.0.1" in str(it.posted(f"Plugin:{NAME}:Message_RBV")),
                10.0,
                "listening",
            )
            assert await it.get(f"Plugin:{NAME}:Status_RBV") == "Ok"


async def test_without_a_port_there_is_no_page(tmp_path, monkeypatch):
    web = Web()
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, plugins=[(NAME, web)]) as it:
        assert await it.get(f"Plugin:{NAME}:Status_RBV") == "Ok"
        assert web.service is None


async def test_a_request_that_does_not_arrive_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("attpc_plugins.web.door.REQUEST_S", 0.3)
    async with web_rig(tmp_path, monkeypatch) as it:
        port = int(it.url.rpartition(":")[2])
        for begin in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begin)

            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(20.0):
                    while begin:
                        writer.write(b"a")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                    assert await reader.read() == b""
            writer.close()
        assert await it.get("/healthz") == (200, "ok\n")


async def test_connections_beyond_the_limit_are_closed(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, "max_connections = 3") as it:
        port = int(it.url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20.0) == b""
        writer.close()
        held.pop()[1].close()
        assert it.plugin.service is not None
        door = it.plugin.service._door
        await wait_until(lambda: not door.is_full(), 10.0, "room")
        assert await it.get("/healthz") == (200, "ok\n")
        for _, writer in held:
            writer.close()


async def test_too_many_requests_are_told_to_wait(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, "requests_per_s = 5") as it:
        answers = [await it.get("/healthz") for _ in range(40)]
        refused = [body for status, body in answers if status == 429]
        assert 10 <= len(refused) <= 30
        assert "more than 5 requests a second from 127.0.0.1" in refused[0]["detail"]
