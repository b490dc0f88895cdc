"""`attpc-ioc files check` compares the boards of a closed run; `gather` warns of what is said of them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing import checking, counting, manifest
from attpc_plugins.data_routers.closing.checking import CheckResult
from attpc_plugins.data_routers.closing.closings import ClosingBusy, Phase
from attpc_plugins.data_routers.closing.comparing import Trail, compare
from attpc_plugins.data_routers.closing.manifest import StreamFrames
from attpc_plugins.data_routers.commands.unclosed import NOT_ALL
from attpc_plugins.data_routers.hosts.frames import Piece
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import EventsSettings

from attpc_ioc.model.events import RunFiles
from attpc_ioc.simulator.data.frames import Frame, cobo_frame, mutant_frame
from attpc_ioc.simulator.data.orders import Amounts, HostFault, switch
from tests.data_routers.test_commands import RUN, Shell
from tests.data_routers.test_events import in_step
from tests.data_routers.test_frames_look import raw
from tests.data_routers.test_gather import over_ssh
from tests.support.ca import eventually
from tests.support.closed_runs import DONE, all_in_place, folder_of
from tests.support.closings import EXPERIMENT, closings_in, local_settings
from tests.support.data_rig import data_rig, shown, start_run, stop_run
from tests.support.forked import PIPE, SHELL, STDOUT, forked
from tests.support.probe import Probe

TIME = "2026-03-01T12:00:00.123"
EVENTS = range(1000)
TICKS = 1_000_000
"""Of an event: 100 events in a second."""


@pytest.fixture(params=["local", "ssh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    if request.param == "local":
        return Shell(tmp_path)
    return over_ssh(tmp_path, request.getfixturevalue("shared_sshd"))


def cobo(
    asad: int, events: Sequence[int], *, later: int = 0, at: Sequence[int] = range(512, 10**9)
) -> list[Frame]:
    """Frames of CoBo 0; times are so many ticks later `at` some events."""
    return [cobo_frame(event, event * TICKS + 77 + later * (event in at), 0, asad, 4) for event in events]


def close(shell: Shell, boards: dict[str, list[Frame]], files: int = 1, number: int = 42) -> None:
    """Write the frames of each sender into so many files, and close the run."""
    begun = TIME.replace("12:00", f"12:{number - 42:02d}")
    for sender, frames in boards.items():
        staging = shell.staging["MuTAnT" if sender == "MuTanT" else "CoBo0"]
        part = -(-len(frames) // files)
        for file in range(files):
            data = raw(frames[file * part : (file + 1) * part])
            (staging / f"{sender}_{begun}_{file:04d}.graw").write_bytes(data)
    ran = shell("files", "close", number, "--experiment", EXPERIMENT)
    assert ran.exit_code == 0, ran.output


def mutant(events: Sequence[int] = EVENTS) -> list[Frame]:
    return [mutant_frame(event, event * TICKS) for event in events]


def test_each_departure_is_said_with_board_event_and_amount(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(counting, "FRAMES_AT_ONCE", 300)
    close(
        shell,
        {
            "MuTanT": mutant(),
            "CoBo0_AsAd0": cobo(0, EVENTS),
            "CoBo0_AsAd1": cobo(1, EVENTS[:600]),
            "CoBo0_AsAd2": cobo(2, EVENTS[5:]),
            "CoBo0_AsAd3": cobo(3, [event for event in EVENTS if event // 20 != 25]),
            "CoBo1_AsAd0": cobo(0, EVENTS, later=2000),
            "CoBo1_AsAd1": cobo(1, EVENTS[:950]),
            "CoBo1_AsAd2": cobo(2, EVENTS, later=-300_000, at=range(320, 340)),
            "CoBo1_AsAd3": cobo(3, EVENTS, later=150, at=(7, 400, 401)),
        },
        files=3,
    )
    ran = shell("files", "check", 42)
    assert ran.exit_code == 1
    for text in (
        "CoBo0_AsAd1: ends with event 599, the others with 999: 400 events fewer, some 4 s",
        "CoBo0_AsAd2: begins with event 5, the others with 0: 5 events fewer",
        "CoBo0_AsAd3: lacks 20 events that others have, the first is event 500",
        "CoBo1_AsAd0: out of step since event 512 at the latest, in step at event 511: event 512 came 20 us "
        "later than at the other boards",
        "CoBo1_AsAd2: out of step from event 320 to 339, in step at events 319 and 340: event 320 came 3 ms "
        "earlier than at the other boards",
        "CoBo1_AsAd3: out of step at event 7, in step at events 6 and 8: event 7 came 1.5 us later than at "
        "the other boards; 2 times in all",
    ):
        assert ran.output.count(f"CoBo0: {text}\n") == 1, ran.output
    # It ends half a second before the others, which is normal at a stop.
    assert "CoBo1_AsAd1: ends" not in ran.output
    apart = "CoBo0_AsAd1 CoBo0_AsAd2 CoBo0_AsAd3 CoBo1_AsAd0 CoBo1_AsAd2 CoBo1_AsAd3"
    assert ran.output.splitlines()[-1] == (
        f"run 42: 3 boards, 9 streams, 595 events, nothing damaged, 20 missing, not as the others: {apart}"
    )
    record = manifest.load((shell.place() / "manifest.json").read_bytes(), "it")
    assert [text.partition(":")[0] for text in record.differs] == apart.split()
    entry = next(entry for entry in shell.entries() if entry.router == "CoBo0")
    assert f"; frames: {record.differs[0]}; " in entry.full_message
    gathered = shell("files", "gather", 42, "--to", tmp_path / "to")
    assert gathered.exit_code == 0, gathered.output
    assert f"run_0042: CoBo0: {record.differs[0]}\n" in gathered.output
    assert "with warnings, see above: run_0042: look at these runs before they are merged" in gathered.output
    # A check of one data router alone compares not all, so what the others showed stays on record.
    assert shell("files", "check", 42, "--router", "CoBo0").exit_code == 1
    again = manifest.load((shell.place() / "manifest.json").read_bytes(), "it")
    assert again.differs == record.differs
    assert shell("files", "verify", 42).exit_code == 0


def test_boards_without_a_file_or_frame_are_named(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    close(shell, {"CoBo0_AsAd0": cobo(0, range(9)), "CoBo0_AsAd1": []})
    close(shell, {f"CoBo0_AsAd{asad}": cobo(asad, range(9)) for asad in (0, 2)}, number=43)
    ran = shell("files", "check", 43)
    assert ran.exit_code == 1
    assert ran.output.splitlines()[-1] == (
        "run 43: 1 board, 2 streams, 9 events, nothing damaged, no file: MuTAnT"
    )
    ran = shell("files", "check", 42)
    assert ran.exit_code == 1
    assert "CoBo0: CoBo0_AsAd1: no frame, the others have events 0 to 8\n" in ran.output
    assert ran.output.splitlines()[-1] == (
        "run 42: 1 board, 1 stream, 9 events, nothing damaged, "
        "not as the others: CoBo0_AsAd1, no file: MuTAnT"
    )


def test_a_gap_that_all_boards_have_is_no_difference(shell: Shell) -> None:
    some = [event for event in EVENTS if event % 100 > 9]
    close(shell, {"MuTanT": mutant(some), "CoBo0_AsAd0": cobo(0, some)}, files=4)
    ran = shell("files", "check", 42)
    assert ran.exit_code == 0, ran.output
    assert "lacks" not in ran.output
    assert ran.output.endswith(
        "run 42: 2 boards in step, 2 streams, 990 events, nothing damaged, 180 missing\n"
    )


def test_what_the_closing_has_seen_is_compared_where_nothing_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gather` warns of a board that is short or lacks events, with exit code 0."""
    shell = Shell(tmp_path)
    close(
        shell,
        {
            "MuTanT": mutant(),
            "CoBo0_AsAd0": cobo(0, EVENTS[:600]),
            "CoBo0_AsAd1": cobo(1, [event for event in EVENTS if event % 10]),
            "CoBo0_AsAd2": cobo(2, EVENTS),
        },
    )
    ran = shell("files", "gather", 42, "--to", tmp_path / "to")
    assert ran.exit_code == 0, ran.output
    for text in (
        "CoBo0_AsAd0: ends with event 599, the others with 999: 400 events fewer",
        "CoBo0_AsAd1: 99 events missing",
    ):
        assert f"run_0042: CoBo0: {text}" in ran.output
    assert "CoBo0_AsAd2" not in ran.output


def test_most_boards_count_and_gaps_are_compared_as_far_as_they_are_known() -> None:
    settings = EventsSettings()
    one = StreamFrames("CoBo0_AsAd0", 60, 0, 99, 40)
    other = StreamFrames("CoBo0_AsAd1", 70, 0, 99, 30)
    trails = {
        one.sender: Trail(gaps=[(5, 10), (20, 10), (40, 20)]),
        other.sender: Trail(gaps=[(8, 4), (25, 20)]),
    }
    texts = [(found.text, found.bad) for found in compare([one, other], settings, trails)]
    assert texts == [
        # Common are 8 to 11, 25 to 29 and 40 to 44; not all gaps of the other one are known.
        ("CoBo0_AsAd0: lacks up to 26 events that others have, the first is event 5", True),
        ("CoBo0_AsAd1: lacks up to 16 events that others have, the first is event 30", True),
    ]
    reset = StreamFrames("CoBo0_AsAd0", 60, 0, 99, resets=1)
    assert compare([reset, other], settings) == []
    firsts = [StreamFrames(f"CoBo{n}_AsAd0", 9, first, 9) for n, first in enumerate((0, 0, 1, 1, 2))]
    assert [found.what for found in compare(firsts, settings)] == [
        "begins with event 1, the others with 0: 1 event fewer",
        "begins with event 1, the others with 0: 1 event fewer",
        "begins with event 2, the others with 0: 2 events fewer",
    ]


def test_clocks_of_a_long_run_are_compared_at_events_spread_evenly_over_it() -> None:
    """Looks of any length, of which some have few samples: as many are kept as tell of a short jump."""
    trails = {sender: Trail() for sender in ("MuTanT", "CoBo0_AsAd0", "CoBo1_AsAd0")}
    for begin in range(0, 4_000_000, 200_000):
        for sender, trail in trails.items():
            jumped = 500 if (sender, begin) == ("CoBo1_AsAd0", 2_200_000) else 0
            samples = [
                (event, event * 100 + jumped * (2_300_000 <= event < 2_301_000))
                for event in range(begin, begin + 200_000, 64)
            ]
            trail.take(Piece("a", 1, 1, 1, samples=tuple(samples[: 1 if begin == 800_000 else None])), -1)
    assert all(4000 < len(trail.samples) <= 8192 for trail in trails.values())
    streams = [StreamFrames(sender, 4_000_000, 0, 3_999_999) for sender in trails]
    (found,) = compare(streams, EventsSettings(), trails)
    assert found.text == (
        "CoBo1_AsAd0: out of step from event 2300416 to 2300928, in step at events 2299904 and 2301440: "
        "event 2300416 came 5 us later than at the other boards"
    )


@pytest.mark.parametrize("lost", [range(0), range(40, 60)])
@pytest.mark.parametrize("jump", [2000, -2000])
def test_a_clock_that_has_jumped_is_that_of_its_board_alone(jump: int, lost: range) -> None:
    """However many AsAd boards it has, and where one of the others has no event to compare."""
    senders = ("MuTanT", *(f"CoBo{cobo}_AsAd{asad}" for cobo in (0, 1) for asad in range(4)))
    trails = {sender: Trail() for sender in senders}
    for sender, trail in trails.items():
        samples = [
            (event, event * 100 + jump * (sender.startswith("CoBo1") and event >= 35))
            for event in range(100)
            if not (sender.startswith("CoBo0") and event in lost)
        ]
        trail.take(Piece("a", 1, 1, 1, samples=tuple(samples)), -1)
    found = compare([StreamFrames(one, 100, 0, 99) for one in senders], EventsSettings(), trails)
    assert [one.sender for one in found] == [f"CoBo1_AsAd{asad}" for asad in range(4)]
    assert all("event 35" in one.text for one in found), [one.text for one in found]
    assert all(f"20 us {'later' if jump > 0 else 'earlier'}" in one.text for one in found)
    assert not any("times in all" in one.text for one in found)


async def test_the_result_of_a_check_waits_for_a_closing_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "LOCK_S", 0.05)
    monkeypatch.setattr(checking, "LIMIT_S", 0.2)
    said: list[str] = []
    settings = local_settings({"CoBo0": tmp_path})
    router = settings.router[0]
    found = CheckResult("CoBo0", "", (), 0.0)
    async with closings_in(tmp_path / "state") as closings, closings.locked("CoBo0", 1.0):
        with pytest.raises(ClosingBusy, match=r"just now, for more than 0\.2 s; repeat the command"):
            await checking.record_check(
                closings, router, host_for(router, settings), RUN, found, lambda busy: said.append(str(busy))
            )
    assert said == ["files of CoBo0 are being closed just now"]


def test_a_run_that_is_not_closed_is_said_to_be_so(tmp_path: Path) -> None:
    """Without an IOC: nobody else closes it. The data router that is done is looked at."""
    shell = Shell(tmp_path)
    close(shell, {"MuTanT": mutant(range(9))})
    done = next(entry for entry in shell.entries() if entry.router == "CoBo0")
    waiting = replace(done, phase=Phase.CLOSING, stopped_s=time.time() - 60.0)
    shell.save(waiting.in_state(CloseState.WAITING, "until no file has grown for 30 s"))
    since = r"since (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d"
    still = rf"CoBo0: still being closed {since}: Waiting: until no file has grown for 30 s\n"
    advice = (
        "run 42 is not closed yet, and no IOC runs that closes it: `attpc-ioc files close 42` does, then "
        "repeat the command\n"
    )
    to = tmp_path / "to"
    for words, code in ((("check",), NOT_ALL), (("verify",), NOT_ALL), (("gather", "--to", to), 1)):
        ran = shell("files", words[0], 42, "--experiment", EXPERIMENT, *words[1:])
        assert ran.exit_code == code, ran.output
        assert re.search(still, ran.output), ran.output
        assert advice in ran.output
        assert "Traceback" not in ran.output
        assert "no /" not in ran.output
    checked = shell("files", "check", 42)
    assert "MuTAnT: MuTanT: 9 frames, events 0 to 8\n" in checked.output
    assert checked.output.endswith(
        "run 42: 1 board, 1 stream, 9 events, nothing damaged, not closed yet: CoBo0\n"
    )
    assert not any(to.iterdir())
    for entry in shell.entries():
        shell.save(replace(entry, phase=Phase.RUNNING, started_s=time.time() - 60.0))
    ran = shell("files", "check", 42)
    assert ran.exit_code == NOT_ALL
    assert re.search(rf"CoBo0: the run is on {since}\n", ran.output), ran.output
    assert "run 42 is on: repeat the command when it is over and closed\n" in ran.output
    assert ran.output.endswith("run 42: nothing checked, not closed yet: CoBo0 MuTAnT\n")


async def test_a_board_out_of_step_in_a_run_is_found_by_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record gets it, and before all hosts are closed the commands say on which they wait."""
    probe = Probe()
    async with data_rig(tmp_path, monkeypatch, cobos=3, plugins=[("probe", probe)]) as it:
        await start_run(it)
        number, host = it.run.number, it.fleet.data["CoBo[1]"]
        await in_step(it)
        await it.until(lambda: shown(it, "Run:Events_RBV") > 50, what="some events compared")
        await switch(host, HostFault.DATA_CLOCK, amounts=Amounts(extra_s=1e-3))
        await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == 3, what="it is out of step")
        taken = folder_of(it, it.fleet.data["CoBo[0]"], number)
        taken.mkdir(parents=True)
        await stop_run(it)
        others = ("CoBo1", "CoBo2", "MuTAnT")
        await it.until(
            lambda: all(shown(it, f"{board}:Router:Close_RBV") == DONE for board in others),
            what="the others are done",
        )
        said = ""

        async def is_in_the_way() -> bool:
            # Now and then it is tried again, and is being closed at that moment.
            nonlocal said
            code, said = await told(it.settings_file, "files", "check", number)
            assert code == 1
            return "CoBo0: cannot be closed since " in said

        await eventually(is_in_the_way, "the check says on which host it waits")
        assert f"put right what is said above, then `caput {it.prefix}Run:CloseAgain 1`" in said
        assert said.splitlines()[-1].endswith("not closed yet: CoBo0")
        taken.rmdir()
        await all_in_place(it, number)
        code, said = await told(it.settings_file, "files", "check", number)
        assert code == 1, said
        assert re.search(r"CoBo1: CoBo1_AsAd0: out of step since event \d+ .* 1 ms later than", said), said
        verdict = said.splitlines()[-1]
        assert re.fullmatch(
            rf"run {number}: 4 boards, \d+ streams, [\d,]+ events, nothing damaged, "
            r"not as the others: CoBo1_AsAd0 CoBo1_AsAd1",
            verdict,
        ), said
        await it.until(
            lambda: any(
                event.router == "CoBo1"
                and event.checked is False
                and "frames: CoBo1_AsAd0, CoBo1_AsAd1: out of" in event.message
                for event in probe.of(RunFiles)
            ),
            20.0,
            "the run's record has it",
        )
        code, said = await told(it.settings_file, "files", "gather", number, "--to", tmp_path / "to")
        assert code == 0, said
        assert f"run_{number:04d}: CoBo1: in the run: OutOfStep: CoBo1 AsAd0, AsAd1: out of step" in said


async def told(file: Path, *words: object) -> tuple[int | None, str]:
    """Run a shell command, and return its exit code and what it said."""
    process = await forked(SHELL, *map(str, words), "--settings", file, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate()
    return process.returncode, said.decode()
