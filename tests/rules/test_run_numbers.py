"""Run numbers in the state directory: kept, never guessed, never used twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from attpc_ioc.control.runs.numbers import StateDirNumbers, set_next_number
from attpc_ioc.errors import Refused, StateDirError
from attpc_ioc.eventlog import EventLog
from tests.support.forked import PIPE, SHELL, STDOUT, forked
from tests.support.rig import rig
from tests.support.state_dir import kept, make_unwritable, make_writable, opened, put_row


@contextlib.asynccontextmanager
async def numbers_of(folder: Path) -> AsyncIterator[tuple[EventLog, StateDirNumbers]]:
    async with opened(folder) as event_log:
        numbers = StateDirNumbers(first_number=1)
        numbers.use(event_log)
        yield event_log, numbers


async def test_numbers_are_kept(tmp_path):
    async with numbers_of(tmp_path) as (event_log, numbers):
        assert [await numbers.reserve("a") for _ in range(3)] == [1, 2, 3]
        await event_log.flush()
        assert kept(tmp_path, "numbers") == {"a": 4}
        assert numbers.next("b") == 1
        # Given back while it is the newest only.
        await numbers.release("a", 2)
        assert numbers.next("a") == 4
        await numbers.release("a", 3)
        assert numbers.next("a") == 3
    async with numbers_of(tmp_path) as (_, numbers):
        assert await numbers.reserve("a") == 3


async def test_a_number_is_on_disk_before_the_run_that_it_is_for(tmp_path):
    """One transaction serves both: a disk that fails in between leaves neither."""
    folder = tmp_path / "state"
    async with numbers_of(folder) as (event_log, numbers):
        run = event_log.kept("run", TypeAdapter(str))
        run.keep("", "old")
        await event_log.flush()
        run.keep("", "title")
        await numbers.reserve("a")
        run.keep("", "new")
        make_unwritable(folder)
        with pytest.raises(StateDirError):
            await event_log.flush()
        make_writable(folder)
        assert (kept(folder, "run"), kept(folder, "numbers")) == ({"": "old"}, {})
        await event_log.flush()
        assert (kept(folder, "run"), kept(folder, "numbers")) == ({"": "new"}, {"a": 2})


async def test_a_number_that_could_not_be_kept_is_given_again(tmp_path):
    folder = tmp_path / "state"
    async with numbers_of(folder) as (event_log, numbers):
        make_unwritable(folder)
        assert await numbers.reserve("a") == 1
        with pytest.raises(StateDirError):
            await event_log.flush()
        # The core gives it back then; that this is not on disk does no harm.
        with pytest.raises(StateDirError):
            await numbers.release("a", 1)
        make_writable(folder)
        assert await numbers.reserve("a") == 1


async def test_the_run_on_record_is_never_numbered_again(tmp_path):
    async with numbers_of(tmp_path) as (_, numbers):
        numbers.recall("a", 7)
        assert await numbers.reserve("a") == 8
        numbers.recall("a", 7)
        assert await numbers.reserve("a") == 9


@pytest.mark.parametrize("text", ['"x"', "-1", "true", "x", "2.5", "null", "[" * 100_000])
async def test_numbers_that_are_none_lose_no_good_ones(tmp_path, text):
    async with numbers_of(tmp_path) as (_, numbers):
        for _ in range(4):
            await numbers.reserve("good")
    put_row(tmp_path, "numbers", "bad", text)
    explained = set()
    for number in (5, 6):
        async with numbers_of(tmp_path) as (_, numbers):
            known = [numbers.next(e) for e in ("good", "bad", "new")]
            assert known == [number, None, None]
            with pytest.raises(Refused, match=r"the next number of bad: .*next-number") as refusal:
                await numbers.reserve("bad")
            explained.add(str(refusal.value))
            assert await numbers.reserve("good") == number
    # Why they are lost is said once and for all.
    assert len(explained) == 1
    assert await set_next_number(tmp_path, "bad", 9) == 0
    async with numbers_of(tmp_path) as (_, numbers):
        assert await numbers.reserve("bad") == 9
        # What else was lost stays unknown.
        assert numbers.next("new") is None


async def test_next_number_never_goes_back(tmp_path):
    assert await set_next_number(tmp_path, "a", 12) == 0
    assert await set_next_number(tmp_path, "a", 20) == 12
    with pytest.raises(StateDirError, match="give 20 or more"):
        await set_next_number(tmp_path, "a", 19)


async def test_next_number_at_the_shell(tmp_path, monkeypatch):
    async def shell(*words: str) -> tuple[int | None, str]:
        process = await forked(
            SHELL, "next-number", it.settings_file, *words, env=it.place.env, stdout=PIPE, stderr=STDOUT
        )
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
