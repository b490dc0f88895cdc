"""Run numbers in the state directory: kept, never guessed, never used twice."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from attpc_ioc.control.numbers import StateDirNumbers, set_next_number
from attpc_ioc.control.store import StateStore
from attpc_ioc.errors import Refused, StateDirError
from tests.support.rig import rig
from tests.support.state_dir import make_unwritable, make_writable


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


@pytest.mark.parametrize("bad", ['"x": "y"', '"x": -1, "z": null', '"x": 2.5, "z": [3]'])
async def test_bad_entries_lose_no_good_ones(tmp_path, bad):
    text = '{"next": {"a": 5, BAD, "b": 7}}'.replace("BAD", bad)
    (tmp_path / "numbers.json").write_text(text)
    # Read by two IOCs one after the other, the first of which was killed before it could write anything.
    for _ in range(2):
        store = StateStore(tmp_path)
        store.open()
        StateDirNumbers(first_number=1).use(store)
        assert store._lock_file is not None
        os.close(store._lock_file)
    explained = []
    for number in (5, 6):
        store, numbers, writer = await numbers_of(tmp_path)
        assert [numbers.attpc_next_number(e) for e in ("a", "b", "x", "z", "new")] == [
            number,
            7,
            None,
            None,
            None,
        ]
        with pytest.raises(Refused, match=r"next\.x is .* not a number") as refusal:
            await numbers.attpc_run_number("x")
        explained.append(str(refusal.value))
        assert await numbers.attpc_run_number("a") == number
        await end(store, writer)
        assert text in [file.read_text() for file in tmp_path.glob("numbers.damaged-*")]
    # Every fault is named, once and for all.
    assert explained[0] == explained[1]
    assert ("next.z" in explained[0]) is ("z" in bad)


async def test_the_first_explanation_of_a_loss_is_kept(tmp_path):
    (tmp_path / "numbers.json").write_text('{"next": {"a": 5, "x": "y"}, "lost": "of the first fault"}')
    store, numbers, writer = await numbers_of(tmp_path)
    with pytest.raises(Refused, match="of the first fault"):
        await numbers.attpc_run_number("x")
    assert numbers.attpc_next_number("a") == 5
    await end(store, writer)
    (tmp_path / "numbers.json").write_text('{"next": {"a": 5}, "lost": 3}')
    store, numbers, writer = await numbers_of(tmp_path)
    assert numbers.attpc_next_number("a") == 5
    with pytest.raises(Refused, match="lost is 3, not a text"):
        await numbers.attpc_run_number("x")
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
        code, text = await shell("a b", "7")
        assert (code, "'a b' cannot be an experiment's name" in text) == (2, True)
        code, text = await shell("", "7")
        assert (code, "give 100 or more" in text) == (1, True)
        await it.start_ioc()
        code, text = await shell("", "200")
        assert code == 1
        assert "stop that one" in text
        assert "Traceback" not in text
        await it.start_run()
        assert it.run.number == 100
