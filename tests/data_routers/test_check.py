"""`attpc-ioc files check`: all frames of a closed run, in folders and over a real sshd."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing import counting, manifest
from attpc_plugins.data_routers.closing.figures import stream_text
from attpc_plugins.data_routers.closing.manifest import StreamFrames
from attpc_plugins.data_routers.commands.check import NOT_ALL
from attpc_plugins.data_routers.events.streams import bounded
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.model.events import RunFiles
from attpc_ioc.simulator.data.frames import mutant_frame
from tests.data_routers.test_commands import Shell
from tests.data_routers.test_frames_look import cobo, raw
from tests.data_routers.test_gather import over_ssh
from tests.support.closed_runs import all_in_place, written
from tests.support.closings import EXPERIMENT, sums
from tests.support.data_rig import data_rig, start_run, stop_run
from tests.support.forked import PIPE, SHELL, STDOUT, forked
from tests.support.probe import Probe
from tests.support.sshd import Sshd

TIME = "2026-03-01T12:00:00.123"
BETWEEN = "2026-03-01T12:05:00.000"
AGAIN = "2026-03-01T12:10:00.000"
SENDER = "CoBo0_AsAd1"


def name(part: str, time: str = TIME, sender: str = SENDER) -> str:
    return f"{sender}_{time}_{part}.graw"


@pytest.fixture(params=["local", "ssh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(counting, "FRAMES_AT_ONCE", 7)
    if request.param == "local":
        return Shell(tmp_path)
    return over_ssh(tmp_path, request.getfixturevalue("shared_sshd"))


def closed(shell: Shell, files: dict[str, bytes]) -> None:
    for file, data in files.items():
        place = "MuTAnT" if file.startswith("Mu") else "CoBo0"
        (shell.staging[place] / file).write_bytes(data)
    ran = shell("files", "close", 42, "--experiment", EXPERIMENT)
    assert ran.exit_code == 0, ran.output


def recorded(shell: Shell, router: str = "CoBo0") -> tuple[StreamFrames, ...]:
    streams = manifest.load((shell.place(router) / "manifest.json").read_bytes(), router).streams
    assert streams is not None
    return streams


def test_a_good_run(shell: Shell) -> None:
    mutant = raw([mutant_frame(event, event * 1000) for event in range(1, 346)])
    closed(
        shell,
        {
            name("0000"): raw(cobo(range(1, 31))),
            name("0000.late1"): raw(cobo(range(31, 40))),
            name("0001"): raw(cobo([41, 42, *range(45, 346)])),
            name("0002"): b"",
            f"MuTanT_{TIME}_0000.graw": mutant,
        },
    )
    before = {router: sums(shell.place(router)) for router in shell.staging}
    ran = shell("files", "check", 42)
    assert ran.exit_code == 0, ran.output
    for text in (
        "CoBo0: CoBo0_AsAd1: 342 frames, events 1 to 345, 3 missing\n",
        "CoBo0: CoBo0_AsAd1: lacks 3 events that others have, the first is event 40\n",
        "MuTAnT: MuTanT: 345 frames, events 1 to 345\n",
    ):
        assert text in ran.output
    assert ran.output.endswith(
        "run 42: 2 boards in step, 2 streams, 345 events, nothing damaged, 3 missing\n"
    )
    assert recorded(shell) == (StreamFrames(SENDER, 342, 1, 345, 3),)
    assert {router: sums(shell.place(router)) for router in shell.staging} == before
    assert shell("files", "verify", 42).exit_code == 0
    entry = next(entry for entry in shell.entries() if entry.router == "CoBo0")
    assert entry.state is CloseState.DONE
    assert entry.full_message.endswith("; frames checked: all 342 whole and in order, 3 events missing")
    assert shell("files", "check", 42).exit_code == 0
    again = next(entry for entry in shell.entries() if entry.router == "CoBo0")
    assert again.full_message == entry.full_message


def test_what_is_wrong_is_found(shell: Shell, tmp_path: Path) -> None:
    good, torn = raw(cobo(range(1, 11))), raw(cobo([11]))[:300]
    other = {board: f"CoBo0_AsAd{board}" for board in (0, 2, 3)}
    closed(
        shell,
        {
            name("0000"): good + torn + raw(cobo(range(12, 30))),
            name("0000", sender=other[0]): good,
            name("0000", BETWEEN, sender=other[0]): raw(cobo(range(2, 5))),
            name("0001", BETWEEN, sender=other[0]): raw(cobo([5])),
            name("0000", AGAIN, sender=other[0]): good,
            name("0000", sender=other[2]): raw(cobo([1, 2, 5, 4, 6])),
            name("0000", sender=other[3]): good + torn,
            name("0001", sender=other[3]): raw(cobo(range(9, 12))),
            name("0000", sender="CoBo1_AsAd0"): good + 2 * (torn + raw(cobo(range(12, 20)))),
        },
    )
    ran = shell("files", "check", 42)
    assert ran.exit_code == 1
    for text in (
        # The header of the torn frame says which event it is of.
        f"{SENDER}: 29 frames, events 1 to 29, 1 torn, first in {name('0000')} at byte {len(good)} "
        "near event 11",
        f"{other[0]}: 24 frames, events 1 to 10, then 2 to 5, then 1 to 10, numbers begin anew twice",
        f"{other[2]}: 5 frames, events 1 to 6, 3 missing, 1 out of order",
        f"2 torn, first in {name('0000', sender='CoBo1_AsAd0')} at byte {len(good)} near event 11",
        f"{other[3]}: 13 frames, events 1 to 11, 1 out of order, 1 torn",
    ):
        assert text in ran.output, ran.output
    streams = {stream.sender: stream for stream in recorded(shell)}
    assert (streams[other[0]].resets, streams[other[0]].stretches) == (2, ((1, 10), (2, 5), (1, 10)))
    ran = shell("files", "gather", 42, "--to", tmp_path / "to")
    assert "CoBo0_AsAd0: 24 frames, events 1 to 10, then 2 to 5, then 1 to 10, numbers" in ran.output
    assert streams[other[3]].torn_at == f"{name('0000', sender=other[3])} at byte {len(good)} near event 10"


def test_files_are_in_order_by_sender_time_part_and_late_data() -> None:
    in_order = [
        name("0009"),
        name("0010"),
        name("0010.late1"),
        name("0010.late9"),
        name("0010.late91"),
        name("0000", AGAIN),
        name("0000", "20260302_120000"),
        "CoBo0_AsAd2_0000.graw",
        "odd.graw",
    ]
    assert sorted(set(in_order), key=counting.order_of) == in_order
    assert counting.order_of("CoBo0_AsAd2_0007.graw")[0] == "CoBo0_AsAd2"


def test_how_often_numbers_begin_anew_and_which_events_each_numbering_has() -> None:
    stream = StreamFrames(SENDER, 9, 1, 9)
    texts = [stream_text(replace(stream, resets=count)) for count in (1, 2, 3)]
    assert [text.rpartition("anew ")[2] for text in texts] == ["once", "twice", "3 times"]
    stretches = bounded((*((0, last) for last in range(20)), (3, -1)))
    assert stream_text(replace(stream, resets=20, stretches=stretches)).partition(", ")[2] == (
        "events 0, then 0 to 1, then 0 to 2, then 0 to 3, then 0 to 4, then 0 to 5, then 0 to 6, "
        "then 13 more, then from 3, numbers begin anew 20 times"
    )


def test_a_bad_run_is_gathered_with_a_warning(shell: Shell, tmp_path: Path) -> None:
    """From what its closing has found, and from a check."""
    good, torn = raw(cobo(range(1, 11))), raw(cobo([11]))[:300]
    closed(shell, {name("0000"): good + torn + raw(cobo([12, 11]))})
    wrong = f"{SENDER}: 13 frames, events 1 to 11, 1 out of order, 1 torn, first in {name('0000')}"
    for check in (False, True):
        if check:
            assert shell("files", "check", 42).exit_code == 1
        ran = shell("files", "gather", 42, "--to", tmp_path / f"to {check}")
        assert ran.exit_code == 0, ran.output
        assert f"run_0042: CoBo0: the merger will not merge this run: {wrong}" in ran.output


def test_a_run_that_is_not_there_and_a_sentry(tmp_path: Path) -> None:
    sentry = {"access": "sentry", "host": "127.0.0.1", "port": 9, "sources": ["MuTAnT"]}
    local = {"access": "local", "sources": ["CoBo0"], "staging": str(tmp_path / "CoBo0"), "process": ""}
    shell = Shell(tmp_path, [local, sentry])
    ran = shell("files", "check", 42, "--experiment", EXPERIMENT)
    assert ran.exit_code == 1
    assert f"CoBo0: no {shell.place()}/manifest.json: the run is not closed on this host" in ran.output
    assert "MuTAnT: not checked" in ran.output
    assert "e20009/run_0042: no host has it; `attpc-ioc history list` shows the runs" in ran.output
    (tmp_path / "CoBo0" / name("0000")).write_bytes(raw(cobo(range(3))))
    assert shell("files", "close", 42, "--experiment", EXPERIMENT, "--router", "CoBo0").exit_code == 0
    ran = shell("files", "check", 42)
    assert ran.exit_code == NOT_ALL
    assert "no host has it" not in ran.output
    assert "CoBo0: CoBo0_AsAd1: 3 frames" in ran.output
    assert ran.output.endswith("run 42: 1 board, 1 stream, 3 events, nothing damaged, not checked: MuTAnT\n")
    assert "e20009/run_0042 is not fully checked: MuTAnT: a sentry shows no files, unless" in ran.output
    assert "all other frames are whole and in order" in ran.output
    assert shell("files", "check", 42, "--router", "CoBo0").exit_code == 0
    alone = shell("files", "check", 42, "--router", "MuTAnT")
    assert (alone.exit_code, "all other" in alone.output) == (NOT_ALL, False)


def test_a_manifest_with_impossible_streams_is_refused(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    closed(shell, {name("0000"): raw(cobo(range(3)))})
    assert shell("files", "check", 42, "--router", "CoBo0").exit_code == 0
    path = shell.place() / "manifest.json"
    plain = json.loads(path.read_text())
    plain["streams"][0]["torn"] = -1
    path.write_text(json.dumps(plain))
    assert "streams[0].torn" in shell("files", "verify", 42).output


async def test_a_run_of_the_fleet_is_checked_and_gathered_while_its_ioc_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_sshd: Sshd
) -> None:
    probe = Probe()
    async with data_rig(tmp_path, monkeypatch, access=shared_sshd, plugins=[("probe", probe)]) as it:
        await start_run(it)
        host = it.fleet.data["CoBo[0]"]
        await it.until(lambda: written(host), 20.0, "the data was written")
        await stop_run(it)
        number = it.run.number
        closed_files = await all_in_place(it, number)
        assert await said_by(it.settings_file, "files", "check", number)
        await it.until(
            lambda: any("frames checked: all " in event.message for event in probe.of(RunFiles)),
            20.0,
            "the run's record has it",
        )
        to = tmp_path / "to"
        assert await said_by(it.settings_file, "files", "gather", number, "--to", to)
        run = to / f"run_{number:04d}"
        for board in range(2):
            found = {path.name: path.stat().st_size for path in (run / f"mm{board}").iterdir()}
            assert found == closed_files[f"CoBo{board}"]


async def said_by(file: Path, *words: object) -> str:
    """Run a shell command that must succeed, and return what it said."""
    process = await forked(SHELL, *map(str, words), "--settings", file, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode()
