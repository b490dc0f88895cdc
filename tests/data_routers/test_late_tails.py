"""Late tails: data that come after a router's file was moved make a new file of its name.

A router opens its file by name for every frame, so here a late tail is made by hand.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.closing.steps import close_files
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.hosts.names import LATE_MOST, is_late, late_name, stream_of
from attpc_plugins.data_routers.model import CloseState, FileEntry, MoveOutcome

from tests.support.closings import fill, sums
from tests.support.datahosts import RUN, Place, sums_of

S = CloseState
STREAM = "CoBo0_AsAd0_2026-11-22T04:00:00.000"
FIRST = f"{STREAM}_0000.graw"


# ---------------------------------------------------------------------------- names


def test_late_names_are_in_the_order_in_which_a_run_is_read():
    """The merger reads the files of a board in the byte order of their paths."""
    names = [f"a_{part:04d}.graw".encode() for part in (0, 1)]
    late = [late_name(names[0], count) for count in range(1, LATE_MOST + 1)]
    assert late[:2] == [b"a_0000.late1.graw", b"a_0000.late2.graw"]
    assert sorted([*late[::-1], *names]) == [names[0], *late, names[1]]
    assert all(is_late(name.decode()) for name in late)
    assert not any(
        is_late(name) for name in ("a_0000.graw", "a.late0.graw", "a.late12.graw", "a.late1.graw.x")
    )


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        (FIRST, STREAM),
        (f"{STREAM}_0001.graw", STREAM),
        (f"{STREAM}_12345.graw", STREAM),
        (f"{STREAM}_0000.late1.graw", STREAM),
        ("MuTanT_2026-11-22T04:00:00.123_0000.graw", "MuTanT_2026-11-22T04:00:00.123"),
        ("CoBo0_AsAd0_0000.graw", ""),
        ("a.graw", ""),
        (f"{STREAM}.graw", ""),
        (f"{FIRST}.sha256", ""),
    ],
)
def test_the_stream_of_a_file_has_its_time(name, stream):
    assert stream_of(name) == stream


# ---------------------------------------------------------------------------- on a host


def tail(folder: Path, name: str, seed: int) -> str:
    """Write a late tail and return its checksum."""
    return fill(folder, [name], seed=seed)[name]


async def moved_all(at: Place) -> list[tuple[str, str]]:
    host = at.host()
    return [(one.outcome.name, one.kept_as) for one in await host.move(RUN, await host.list_staging())]


async def test_late_tails_are_kept_in_order_beside_their_file(at: Place):
    await at.host().begin(RUN)
    expected = {}
    for count in range(LATE_MOST + 1):
        name = late_name(FIRST.encode(), count).decode() if count else FIRST
        expected[name] = tail(at.staging, FIRST, seed=count)
        assert await moved_all(at) == [("MOVED", name if count else "")]
    assert sums(at.closing) == expected
    # No name is left: nothing is written over.
    last = tail(at.staging, FIRST, seed=99)
    assert await moved_all(at) == [("EXISTS", "")]
    assert sums(at.closing) == expected
    assert sums(at.staging) == {FIRST: last}


@pytest.mark.parametrize("removed", [False, True])
async def test_an_attempt_that_ended_between_link_and_unlink_is_finished(at: Place, removed: bool):
    await at.host().begin(RUN)
    fill(at.closing, [FIRST, f"{STREAM}_0000.late1.graw"], seed=7)
    late = tail(at.staging, FIRST, seed=2)
    os.link(at.staging / FIRST, at.closing / f"{STREAM}_0000.late2.graw")
    if removed:
        (at.closing / f"{STREAM}_0000.late1.graw").unlink()
    assert await moved_all(at) == [("MOVED", f"{STREAM}_0000.late2.graw")]
    assert sums(at.staging) == {}
    assert sums(at.closing)[f"{STREAM}_0000.late2.graw"] == late
    assert len(sums(at.closing)) == 3 - removed
    assert (at.closing / f"{STREAM}_0000.late2.graw").stat().st_nlink == 1
    # The next one comes behind the last, also where an earlier one was taken away.
    tail(at.staging, FIRST, seed=3)
    assert await moved_all(at) == [("MOVED", f"{STREAM}_0000.late3.graw")]


async def test_a_late_tail_that_grew_since_it_was_listed_stays(at: Place):
    host = at.host()
    await host.begin(RUN)
    fill(at.closing, [FIRST], seed=7)
    tail(at.staging, FIRST, seed=2)
    size = (at.staging / FIRST).stat().st_size
    (one,) = await host.move(RUN, [FileEntry(FIRST, size - 1, 0.0)])
    assert (one.outcome, one.kept_as) == (MoveOutcome.GROWN, "")
    assert list(sums(at.closing)) == [FIRST]


async def test_where_late_data_cannot_be_told_from_another_runs_both_stay(at: Place):
    host = at.host()
    await host.begin(RUN)
    before = fill(at.closing, ["a.graw"], seed=7)
    other = fill(at.staging, ["a.graw"], seed=2)
    (one,) = await host.move(RUN, await host.list_staging(), late=False)
    assert one.outcome is MoveOutcome.EXISTS
    assert one.text == f"{str(at.closing / 'a.graw')!r} exists already"
    assert (sums(at.closing), sums(at.staging)) == (before, other)


async def test_a_name_too_long_for_a_late_one_stays(at: Place):
    name = "x" * 245 + ".graw"
    await at.host().begin(RUN)
    before = fill(at.closing, [name], seed=7)
    other = fill(at.staging, [name], seed=2)
    assert await moved_all(at) == [("FAILED", "")]
    assert (sums(at.closing), sums(at.staging)) == (before, other)


# ---------------------------------------------------------------------------- in a closing


async def close(at: Place, entry: Closing, kept: list[Closing]) -> Closing:
    async def keep(entry: Closing) -> None:
        kept.append(entry)

    host = at.host()
    listing = await host.list_staging()
    summary = Summary("CoBo0", None)
    return await close_files(
        host, entry, listing, str(at.staging), keep=keep, checksums=True, summary=summary, now_s=1.0
    )


@pytest.mark.parametrize("lost", ["nothing", "reply", "before unlink"])
async def test_a_late_tail_within_a_closing_is_in_the_manifest(at: Place, lost: str):
    """Whatever step was the last one of an earlier attempt."""
    host = at.host()
    entry = Closing(RUN, "CoBo0", ("CoBo0",), Phase.CLOSING, settled=True, before={})
    first = fill(at.staging, [FIRST], seed=1)[FIRST]
    await host.begin(RUN)
    listing = await host.list_staging()
    await host.move(RUN, listing)
    entry = Closing(
        RUN,
        "CoBo0",
        ("CoBo0",),
        Phase.CLOSING,
        settled=True,
        before={},
        chosen={FIRST: listing[0].size},
    )
    late = tail(at.staging, FIRST, seed=2)
    if lost == "before unlink":
        os.link(at.staging / FIRST, at.closing / f"{STREAM}_0000.late1.graw")
    if lost == "reply":
        await host.move(RUN, await host.list_staging())
    kept: list[Closing] = []
    entry = await close(at, entry, kept)
    expected = {FIRST: first, f"{STREAM}_0000.late1.graw": late}
    assert entry.state is S.DONE, entry.message
    assert sums(at.closed) == expected
    record = manifest.load((at.closed / "manifest.json").read_bytes(), "it")
    assert {file.name: file.sha256 for file in record.files} == expected
    assert sums_of(at.staging) == {}


async def test_a_later_runs_file_of_the_same_name_is_not_late_data(at: Place):
    """A later run has begun, and the name has no time: it may be that run's."""
    host = at.host()
    fill(at.staging, ["a.graw"], seed=1)
    await host.begin(RUN)
    await host.move(RUN, await host.list_staging())
    other = fill(at.staging, ["a.graw"], seed=2)
    entry = Closing(
        RUN,
        "CoBo0",
        ("CoBo0",),
        Phase.CLOSING,
        settled=True,
        before={},
        chosen={"a.graw": (at.closing / "a.graw").stat().st_size},
        frozen=True,
    )
    entry = await close(at, entry, [])
    assert entry.state is S.INCOMPLETE
    assert "another file of this name is in the closing folder" in entry.message
    assert sums(at.staging) == other
    assert not at.closed.exists()
