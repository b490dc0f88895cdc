"""Whatever a data host may say: figures that fit everywhere, or a `HostError` with a printable reason."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio
from aiohttp import web
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.manifest import ManifestError
from attpc_plugins.data_routers.hosts.host import HostError
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.local.host import LocalHost
from attpc_plugins.data_routers.hosts.sentry import HttpSentryHost
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.model import FileEntry, Moved, Polled
from attpc_plugins.data_routers.settings import Access, RouterSettings
from attpc_plugins.data_routers.watch.flow import Count, Meter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attpc_ioc.model import outside
from tests.security.test_hostile_hosts import sentry_host, ssh_host
from tests.support.datahosts import RUN
from tests.support.hostile_hosts import GREETING, STATUS

PATIENT = CallLimits(poll_s=20, read_s=20, files_s=20, checksums_s=20)
FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

NUMBERS = st.one_of(
    st.integers(-(10**400), 10**400).map(lambda n: b"%d" % n if abs(n) < 10**300 else b"1" + b"0" * 400),
    st.integers(-5, 2**64).map(lambda n: b"%d" % n),
    st.floats().map(lambda x: repr(x).encode()),
    st.sampled_from([b"inf", b"nan", b"-0", b"1_0", b" 7 ", "٣".encode(), b"0x1f", b"1e400", b""]),
)
FIELDS = st.lists(
    st.one_of(NUMBERS, st.binary(max_size=40), st.just(b"a.graw"), st.just(b"moved")), max_size=12
)
ANSWERS = st.one_of(
    st.binary(max_size=200).map(lambda raw: raw.replace(b"\n", b" ")),
    st.tuples(st.sampled_from([b"ok", b"trouble", b"well"]), FIELDS).map(
        lambda made: b" ".join([made[0], *(b"x" + field.hex().encode() for field in made[1])])
    ),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.integers(0, 10**400), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


def is_believable(found: object) -> bool:
    match found:
        case Polled():
            numbers = (found.data_bytes, found.disk_free_bytes, found.disk_total_bytes)
            texts = found.note.isprintable() and found.odd.isprintable()
            return 0 <= found.files < 2**31 and all(0 <= n < 2**63 for n in numbers) and texts
        case FileEntry():
            return 0 <= found.size < 2**63 and 0 <= found.modified_s < 1e10 and "/" not in found.name
        case Moved():
            return found.text.isprintable() and len(found.text) <= outside.TEXT_MOST
        case tuple():
            whole = sum(one.size for one in found if isinstance(one, FileEntry)) < 2**63
            return whole and all(map(is_believable, found))
    return found is None or isinstance(found, bytes)


async def is_in_order(call: Callable[[], Awaitable[object]]) -> bool:
    """Return whether a call gives what can be believed, or a reason that can be shown."""
    try:
        return is_believable(await call())
    except HostError as error:
        return str(error).isprintable() and len(str(error)) <= outside.TEXT_MOST


class Told:
    """What the server of a fixture answers, and the host that asks it."""

    answer: bytes = b""
    host: SshHost


@pytest_asyncio.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    """Give an SSH server whose agent answers what a test puts into it."""
    made = Told()

    async def agent(session: asyncssh.SSHServerProcess[bytes]) -> None:
        while (await session.stdin.readline()) not in (b"__END__\n", b""):
            pass
        session.stdout.write(GREETING)
        while await session.stdin.readline():
            session.stdout.write(made.answer + b"\n")

    class Open(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        Open, "127.0.0.1", 0, server_host_keys=[key], process_factory=agent, encoding=None
    )
    port = server.sockets[0].getsockname()[1]
    known = f"[127.0.0.1]:{port} {key.export_public_key().decode().strip()}\n"
    made.host = ssh_host(port, known, tmp_path, PATIENT)
    try:
        yield made
    finally:
        await made.host.disconnect()
        server.close()
        await server.wait_closed()


@FUZZ
@given(answer=ANSWERS)
async def test_whatever_an_agent_answers(told: Told, answer: bytes) -> None:
    told.answer = answer
    files = [FileEntry("a.graw", 1, 0.0)]
    for call in (
        lambda: told.host.poll(RUN),
        told.host.list_staging,
        lambda: told.host.move(RUN, files),
        lambda: told.host.gathered(RUN, closed=True, checksums=True),
        lambda: told.host.manifest(RUN),
        lambda: told.host.finish(RUN, b"{}"),
    ):
        assert await is_in_order(call)


@contextlib.asynccontextmanager
async def sentry_that_says(body: list[bytes]) -> AsyncIterator[int]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body[0])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Said:
    """What the sentry of a fixture answers, and the host that asks it."""

    body: list[bytes]
    host: HttpSentryHost


@pytest_asyncio.fixture
async def said() -> AsyncIterator[Said]:
    """Give a sentry that answers what a test puts into it."""
    made = Said()
    made.body = [b""]
    async with sentry_that_says(made.body) as port:
        made.host = sentry_host(port)
        try:
            yield made
        finally:
            await made.host.disconnect()


@FUZZ
@given(key=st.sampled_from(sorted(STATUS)), value=JSON)
async def test_whatever_a_sentry_says(said: Said, key: str, value: object) -> None:
    said.body[0] = json.dumps({**STATUS, key: value}).encode()
    for call in (lambda: said.host.poll(None), lambda: said.host.catalog(RUN)):
        assert await is_in_order(call)


GOOD = json.loads(
    manifest.dump(manifest.Manifest(RUN, "CoBo0", ("CoBo0",), (FileEntry("a.graw", 1, 2.0),), 3.0))
)


@given(key=st.sampled_from([*GOOD, "size", "modified_s", "sha256", "name"]), value=JSON)
def test_whatever_a_manifest_says(key: str, value: object) -> None:
    document = json.loads(json.dumps(GOOD))
    (document if key in document else document["files"][0])[key] = value
    try:
        record = manifest.load(json.dumps(document).encode(), "here")
    except ManifestError:
        return
    assert is_believable(record.files)
    assert record.data_bytes < 2**63
    assert 0 <= record.closed_s < 1e10


@pytest.mark.parametrize("files", [2_000_000, 200_000])
def test_a_manifest_of_too_many_values_is_not_taken_apart(files: int) -> None:
    raw = b'{"files":[' + b",".join([b"{}"] * files) + b"]}"
    with pytest.raises(ManifestError):
        manifest.load(raw, "here")


def test_a_host_that_reports_much_and_little_in_turn_counts_no_further_than_a_pv() -> None:
    meter = Meter(10.0, 10.0)
    meter.start(0.0)
    for second in range(20):
        meter.take(float(second), Count(2**31 - 1, 2**63 - 1) if second % 2 else Count())
    assert meter.written == Count(2**31 - 1, 2**63 - 1)
    assert math.isfinite(meter.rate)


async def test_a_file_of_no_plausible_time_is_reported_by_its_name(tmp_path: Path) -> None:
    router = RouterSettings(access=Access.LOCAL, sources=("CoBo0",), staging=str(tmp_path))
    host = LocalHost(router, PATIENT)
    (tmp_path / "a.graw").write_bytes(b"x")
    os.utime(tmp_path / "a.graw", (-2_082_844_800, -2_082_844_800))
    with pytest.raises(HostError, match=r"of the file 'a\.graw' is impossible: -2082844800\.0 is not a time"):
        await host.list_staging()


@given(st.one_of(st.text(), st.binary()), st.integers(2, 50))
def test_a_text_is_printable_and_as_short_as_it_must_be(value: str | bytes, most: int) -> None:
    shown = outside.text(value, most)
    assert shown.isprintable()
    assert len(shown) <= most
    if isinstance(value, str) and value.isprintable() and len(value) <= most:
        assert shown == value


@given(st.one_of(JSON, NUMBERS))
def test_no_number_passes_that_does_not_fit(value: object) -> None:
    for gate, most in ((outside.count, 2**63 - 1), (outside.amount, 2**63), (outside.time_s, 1e10)):
        try:
            passed = gate(value)
        except ValueError as error:
            reason = str(error)
        else:
            reason = ""
            assert 0 <= passed <= most
        assert len(reason) < 200
        assert reason.isprintable()
