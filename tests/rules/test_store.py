"""The state directory: damage, disks that cannot be written, one owner, whole files, run numbers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from attpc_ioc.control.numbers import StateDirNumbers, set_next_number
from attpc_ioc.control.store import StateStore
from attpc_ioc.errors import Refused, StateDirError
from attpc_ioc.model.command import RUN, ResultCode
from attpc_ioc.model.run import UNNAMED, RunState
from attpc_ioc.model.states import State
from tests.support.rig import Rig, rig
from tests.support.runs import boards_running, ready, running

GARBAGE = ["", "{", "[1, 2]", '"text"', "\x00\x01", "[" * 100_000, '{"open": tru']


async def restart_with(it: Rig, tmp_path: Path, name: str, text: str) -> None:
    """Restart the IOC on a state directory in which one file was spoilt."""
    await it.stop_ioc()
    (tmp_path / "state" / f"{name}.json").write_text(text, encoding="utf-8")
    await it.start_ioc()
    await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()))


def aside(tmp_path: Path, name: str) -> list[str]:
    """What was kept aside of a document."""
    return [f.read_text() for f in (tmp_path / "state").glob(f"{name}.damaged-*")]


# ---------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("text", ["{", '{"info": 3}', '{"open": true}'])
async def test_a_damaged_record_of_runs(tmp_path, monkeypatch, text):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        await restart_with(it, tmp_path, "run", text)
        assert aside(tmp_path, "run") == [text]
        # Everything else works.
        await it.until_all(State.READY)
        message = await it.refused("Run:Start", because="run.json")
        assert "is damaged" in message
        assert "Run:Stop acknowledges it" in message
        assert it.run.state is RunState.STOPPED
        await it.put_text("Run:Title", "set again")
        # A restart does not make it good, Run:Stop acknowledges it; the numbers go on.
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_all(State.READY)
        assert (await it.submit("Start", RUN)).code is ResultCode.REFUSED
        await it.ok("Run:Stop")
        assert "acknowledged" in await it.message("Run:Stop")
        await it.ok("Run:Start")
        assert it.run.number == 1
        assert it.run.texts.title == "set again"


async def test_a_damaged_record_while_modules_run(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        await restart_with(it, tmp_path, "run", "{")
        await it.until_run(RunState.ORPHAN)
        assert len(boards_running(it)) == 3
        assert (await it.submit("Stop", RUN)).ok
        assert boards_running(it) == []


async def test_damaged_numbers_are_never_guessed(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        await restart_with(it, tmp_path, "numbers", '{"next": [1]}')
        assert aside(tmp_path, "numbers") == ['{"next": [1]}']
        await it.until_all(State.READY)
        for _ in range(2):
            await it.refused("Run:Start", because="give the next number with `attpc-ioc next-number`")
            assert await it.get("Run:NextNumber_RBV") == "-1"
            assert "numbers.json" in await it.get_text("Run:Checklist_RBV")
            # A restart forgets nothing.
            await it.stop_ioc()
            await it.start_ioc()
            await it.until_all(State.READY)
        # Everything else works.
        await it.ok("GoTo", "Prepared")
        await it.ok("GoTo", "Ready")
        await it.stop_ioc()
        await set_next_number(tmp_path / "state", UNNAMED, 17)
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.ok("Run:Start")
        assert it.run.number == 17


async def test_a_damaged_record_of_modules_leaves_what_is_loaded_unknown(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await restart_with(it, tmp_path, "modules", "{{")
        assert aside(tmp_path, "modules") == ["{{"]
        await it.until_all(State.READY)
        assert str(it.module("cobo0").loaded) == "?/?/?"
        await it.refused("Run:Start", because="what is loaded is not known")
        await it.take_to(State.IDLE)
        await it.take_to(State.READY)
        await it.ok("Run:Start")


@pytest.mark.parametrize("text", GARBAGE)
async def test_a_damaged_file_is_kept_aside_and_reported_until_there_is_a_new_one(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    for _ in range(2):
        store = StateStore(tmp_path)
        store.open()
        assert store.load("run") is None
        assert "run.json" in store.damaged["run"]
        assert "damaged" in store.damaged["run"]
        await store.close()
    assert [f.read_text() for f in tmp_path.glob("run.damaged-*")] == [text]
    await save(tmp_path, "run", {"open": False})
    store = StateStore(tmp_path)
    assert store.load("run") == {"open": False}
    assert store.damaged == {}


async def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    (tmp_path / "run.json").mkdir()
    store = StateStore(tmp_path)
    assert store.load("run") is None
    assert "cannot be read" in store.damaged["run"]


# ---------------------------------------------------------------------- not writable


def make_unwritable(folder: Path) -> None:
    """Put a file where the folder is: nobody, root included, can write into it."""
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way")


def make_writable(folder: Path) -> None:
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)


async def test_not_writable_refuses_a_start_and_nothing_else(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        make_unwritable(state)
        message = await it.refused("Run:Start", because="cannot be written")
        assert str(state) in message
        assert it.fleet.log.sequence() == []
        assert it.run.state is RunState.STOPPED
        # It is known from now on, and shown before anybody tries.
        assert await it.get("Run:Ready_RBV") == "NotReady"
        assert "cannot be written" in await it.get_text("Run:Checklist_RBV")
        await it.ok("GoTo", "Prepared")
        await it.ok("GoTo", "Ready")
        make_writable(state)
        assert (await it.put_text("Run:Title", "writes again")).code == 0
        await it.until(lambda: not it.run.checklist, what="the disk back")
        await it.ok("Run:Start")
        # Nothing had run under it, so the number was not lost either.
        assert it.run.number == number


async def test_not_writable_in_a_run_does_not_refuse_the_stop(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch) as it:
        number = await running(it)
        make_unwritable(state)
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        assert it.run.state is RunState.STOPPED
        assert (await it.submit("Start", RUN)).code is ResultCode.REFUSED
        make_writable(state)
        await it.stop_ioc()
        # What could not be written meanwhile was written at the end.
        assert json.loads((state / "run.json").read_text())["open"] is False
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.until_run(RunState.STOPPED)
        await it.ok("Run:Start")
        assert it.run.number == number + 1


async def test_a_folder_that_was_removed(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        (tmp_path / "state").rename(tmp_path / "removed")
        await it.ok("Run:Stop")
        assert (await it.submit("Start", RUN)).code is ResultCode.REFUSED
        (tmp_path / "state").mkdir()


async def test_adopt_needs_the_disk_too(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        for server in ("cobo0", "cobo1", "mutant"):
            await it.fleet.call(server, "Start")
        await it.until_all(State.RUNNING)
        make_unwritable(state)
        assert (await it.submit("Adopt", RUN)).code is ResultCode.REFUSED
        assert it.run.state is RunState.ORPHAN
        make_writable(state)


async def test_a_document_that_cannot_be_written_does_not_end_the_writer(tmp_path):
    store = StateStore(tmp_path)
    store.open()
    writer = asyncio.create_task(store.run())
    store.save("run", {"title": "\ud800"})
    with pytest.raises(StateDirError, match="cannot be written"):
        await store.flush()
    store.save("run", {"title": "good"})
    await store.flush()
    assert store.fault == ""
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await store.close()


async def test_flush_has_a_limit(tmp_path):
    store = StateStore(tmp_path)
    store.open()  # and nobody writes
    store.save("run", {})
    with pytest.raises(StateDirError, match=r"not written within 0\.05 s"):
        await store.flush(0.05)
    await store.close()
    assert json.loads((tmp_path / "run.json").read_text()) == {}


async def test_start_up_says_what_is_wrong_with_the_folder(tmp_path, monkeypatch):
    (tmp_path / "state").write_text("a file")
    async with rig(tmp_path, monkeypatch, start=False) as it:
        with pytest.raises(StateDirError, match=r"make it writable, or set ioc\.state_dir"):
            await it.start_ioc()


# ---------------------------------------------------------------------- one owner, whole files


async def test_the_lock_keeps_a_second_ioc_out(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "attpc_ioc.cli", "run", str(it.settings_file),
            env=it.place.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        text = (out + err).decode()
        assert f"another IOC (process {os.getpid()}) is using it" in text
        assert "Traceback" not in text
        # The first is not disturbed, and next-number is refused as well.
        with pytest.raises(StateDirError, match="another IOC"):
            await set_next_number(tmp_path / "state", UNNAMED, 5)
        await it.take_to(State.READY)
        assert (await it.submit("Start", RUN)).ok


async def test_the_lock_is_gone_with_its_process(tmp_path):
    first = StateStore(tmp_path)
    first.open()
    second = StateStore(tmp_path)
    with pytest.raises(StateDirError, match="another IOC"):
        second.open()
    await first.close()
    second.open()
    await second.close()


async def save(folder: Path, name: str, document: dict[str, object]) -> None:
    """Write one document as an IOC does."""
    store = StateStore(folder)
    store.open()
    writer = asyncio.create_task(store.run())
    store.save(name, document)
    await store.flush()
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await store.close()


async def test_a_file_is_whole_at_every_moment(tmp_path):
    store = StateStore(tmp_path)
    store.open()
    writer = asyncio.create_task(store.run())
    stop, bad, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                document = json.loads((tmp_path / "run.json").read_text())
                seen.add(document["n"])
                if len(document["filler"]) != document["n"] * 100:
                    bad.append(document["n"])
            except FileNotFoundError:
                continue
            except ValueError as error:
                bad.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(60):
            store.save("run", {"n": n, "filler": "x" * n * 100})
            await store.flush()
    finally:
        stop.set()
        await asyncio.to_thread(reader.join)
    assert bad == []
    assert len(seen) > 3
    # Many in a row: the newest counts. Ending in the middle of a write loses nothing.
    for n in range(100, 200):
        store.save("run", {"n": n, "filler": "x" * n * 1000})
    await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await store.close()
    assert json.loads((tmp_path / "run.json").read_text())["n"] == 199


# ---------------------------------------------------------------------- numbers


async def numbers_of(folder: Path) -> tuple[StateStore, StateDirNumbers, asyncio.Task[None]]:
    store = StateStore(folder)
    store.open()
    numbers = StateDirNumbers(first_number=1)
    numbers.use(store)
    return store, numbers, asyncio.create_task(store.run())


async def end(store: StateStore, writer: asyncio.Task[None]) -> None:
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await store.close()


async def test_numbers_are_kept(tmp_path):
    store, numbers, writer = await numbers_of(tmp_path)
    assert [await numbers.attpc_run_number("a") for _ in range(3)] == [1, 2, 3]
    await store.flush()
    assert json.loads((tmp_path / "numbers.json").read_text())["next"] == {"a": 4}
    assert numbers.attpc_next_number("b") == 1
    # Given back while it is the newest only.
    await numbers.attpc_release_number("a", 2)
    assert numbers.attpc_next_number("a") == 4
    await numbers.attpc_release_number("a", 3)
    assert numbers.attpc_next_number("a") == 3
    await end(store, writer)
    store, numbers, writer = await numbers_of(tmp_path)
    assert await numbers.attpc_run_number("a") == 3
    await end(store, writer)


async def test_a_number_is_on_disk_before_the_run_that_it_is_for(tmp_path):
    store, numbers, writer = await numbers_of(tmp_path)
    store.save("run", {"run": "old"})
    await store.flush()
    # The title is saved, then a number is taken, then the run: one write serves all, the number's file first.
    store.save("run", {"run": "title"})
    await numbers.attpc_run_number("a")
    store.save("run", {"run": "new"})
    (tmp_path / "numbers.new").mkdir()
    with pytest.raises(StateDirError):
        await store.flush()
    assert json.loads((tmp_path / "run.json").read_text()) == {"run": "old"}
    (tmp_path / "numbers.new").rmdir()
    await store.flush()
    assert json.loads((tmp_path / "run.json").read_text()) == {"run": "new"}
    assert json.loads((tmp_path / "numbers.json").read_text())["next"] == {"a": 2}
    await end(store, writer)


async def test_a_number_that_could_not_be_kept_is_given_again(tmp_path):
    folder = tmp_path / "state"
    store, numbers, writer = await numbers_of(folder)
    make_unwritable(folder)
    assert await numbers.attpc_run_number("a") == 1
    with pytest.raises(StateDirError):
        await store.flush()
    # The core gives it back then; that this is not on disk does no harm.
    with pytest.raises(StateDirError):
        await numbers.attpc_release_number("a", 1)
    make_writable(folder)
    assert await numbers.attpc_run_number("a") == 1
    await end(store, writer)


async def test_the_run_on_record_is_never_numbered_again(tmp_path):
    store, numbers, writer = await numbers_of(tmp_path)
    numbers.recall("a", 7)
    assert await numbers.attpc_run_number("a") == 8
    numbers.recall("a", 7)
    assert await numbers.attpc_run_number("a") == 9
    await end(store, writer)


@pytest.mark.parametrize(
    "text", ['{"next": {"a": "x"}}', '{"next": {"a": -1}}', '{"next": {"a": true}}', "x"]
)
async def test_numbers_that_are_none(tmp_path, text):
    (tmp_path / "numbers.json").write_text(text)
    store, numbers, writer = await numbers_of(tmp_path)
    for experiment in ("a", "b"):
        assert numbers.attpc_next_number(experiment) is None
        with pytest.raises(Refused, match="next-number"):
            await numbers.attpc_run_number(experiment)
    await end(store, writer)
    assert await set_next_number(tmp_path, "a", 9) == 0
    # What the damaged file knew of other experiments stays unknown.
    store, numbers, writer = await numbers_of(tmp_path)
    assert await numbers.attpc_run_number("a") == 9
    assert numbers.attpc_next_number("b") is None
    await end(store, writer)


async def test_next_number_never_goes_back(tmp_path):
    assert await set_next_number(tmp_path, "a", 12) == 0
    assert await set_next_number(tmp_path, "a", 20) == 12
    with pytest.raises(StateDirError, match="give 20 or more"):
        await set_next_number(tmp_path, "a", 19)


async def test_next_number_at_the_shell(tmp_path, monkeypatch):
    async def shell(*words: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "attpc_ioc.cli", "next-number", str(it.settings_file), *words,
            env=it.place.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode, out.decode()

    async with rig(tmp_path, monkeypatch, start=False) as it:
        code, text = await shell("", "100")
        assert (code, "gets number 100" in text) == (0, True)
        code, text = await shell("", "7")
        assert (code, "give 100 or more" in text) == (1, True)
        await it.start_ioc()
        code, text = await shell("", "200")
        assert code == 1
        assert "stop that one" in text
        assert "Traceback" not in text
        await it.start_run()
        assert it.run.number == 100
