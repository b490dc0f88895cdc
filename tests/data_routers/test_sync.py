"""Whether boards are in step, from streams that a test makes."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from attpc_plugins.data_routers.events.figures import RunFigures, SourceFigures
from attpc_plugins.data_routers.events.missing import MissingJudge
from attpc_plugins.data_routers.events.streams import Stream, take_all
from attpc_plugins.data_routers.events.sync import ADVICE, Sync, SyncJudge, Verdict, text_of, worst
from attpc_plugins.data_routers.hosts.frames import Piece
from attpc_plugins.data_routers.hosts.names import is_sender
from attpc_plugins.data_routers.settings import EventsSettings

SETTINGS = EventsSettings(behind_s=10, out_of_step_after_s=2, torn_after_s=4, clock_us=1)
TIME = "2026-03-01T12:00:00.123"
LATER = "2026-03-01T12:10:00.000"
RATE = 100


def name_of(sender: str, part: int = 0, time: str = TIME) -> str:
    return f"{sender}_{time}_{part:04d}.graw"


SENDERS = ("CoBo0_AsAd0", "CoBo0_AsAd1", "CoBo1_AsAd0", "CoBo10_AsAd0", "MuTanT")


class Boards:
    """Boards in step, with a constant difference of clocks, of which a test changes what it will."""

    def __init__(self, senders=SENDERS):
        self.judge = SyncJudge(SETTINGS)
        self.streams = {sender: Stream(sender) for sender in senders}
        self.clock = {sender: 1_000_000 * number for number, sender in enumerate(senders)}
        self.shift = dict.fromkeys(senders, 0)
        self.lag = dict.fromkeys(senders, 0)
        self.stopped: set[str] = set()
        self.unseen: set[str] = set()
        self.time = dict.fromkeys(senders, TIME)
        self.now_s = 0.0
        self.at = lambda number: number * 1_000_000
        """The time of a trigger."""

    def look(self, seconds: float = 1.0) -> dict[str, Verdict]:
        """Let time pass, and look at all."""
        self.now_s += seconds
        for sender, stream in self.streams.items():
            last = int(self.now_s * RATE) - self.lag[sender] + self.shift[sender]
            goes_on = stream.began in ("", self.time[sender])
            first = stream.last + 1 if goes_on else 0
            if sender in self.stopped or last < first:
                continue
            piece = Piece(
                name_of(sender, 0, self.time[sender]),
                1,
                1,
                last - first + 1,
                first,
                last,
                self.ticks(sender, last),
                samples=tuple(
                    (event, self.ticks(sender, event)) for event in range(first, last + 1) if not event % 64
                )[-8:],
            )
            self.streams[sender] = stream.take(piece)
        return self.judge.judge(self.now_s, self.streams, self.unseen)

    def due_s(self, sender: str) -> float | None:
        return self.judge.due_s(self.now_s, [self.streams[sender]])

    def ticks(self, sender: str, event: int) -> int:
        """The time of an event, whose number is off by `shift`."""
        return (self.at(event - self.shift[sender]) + self.clock[sender]) % (1 << 48)

    def states(self, looks: int = 1) -> dict[str, Sync]:
        for _ in range(looks):
            verdicts = self.look()
        return {sender: verdict.state for sender, verdict in verdicts.items()}


def only(states: dict[str, Sync], sender: str, state: Sync) -> bool:
    return states == {other: state if other == sender else Sync.IN_STEP for other in states}


def test_boards_whose_clocks_differ_by_a_constant_are_in_step():
    boards = Boards()
    assert set(boards.states(30).values()) == {Sync.IN_STEP}
    # A time has 48 bits, and begins anew.
    boards = Boards()
    boards.clock = {sender: (1 << 48) - 500_000_000 + at for sender, at in boards.clock.items()}
    assert set(boards.states(30).values()) == {Sync.IN_STEP}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("ticks", [-101, 101, 10**9])
def test_a_clock_that_jumps_is_out_of_step_also_that_of_the_reference(sender, ticks):
    boards = Boards()
    boards.states(5)
    boards.clock[sender] += ticks
    assert set(boards.states(1).values()) == {Sync.IN_STEP}, "not before its delay"
    assert only(boards.states(3), sender, Sync.OUT_OF_STEP)
    texts = {boards.look()[sender].text for _ in range(60)}
    (text,) = texts
    # 500 was the last event before, and every 64th is compared.
    assert "out of step since event 512 at the latest, in step at event 448: event 512 came" in text
    # 10 s are those of 1000 triggers that come evenly, so that its numbers may have slipped as well.
    assert text.endswith(
        "its event numbers or its clock have changed" if ticks == 10**9 else "its clock has jumped"
    )
    assert ("later" if ticks > 0 else "earlier") in text
    boards.clock[sender] -= ticks
    assert set(boards.states(2).values()) == {Sync.IN_STEP}


def uneven(number: int) -> int:
    """The time of a trigger of those that come at random."""
    return number * 1_000_000 + random.Random(number).randrange(500_000)


@pytest.mark.parametrize(
    ("shift", "ticks", "gap", "said"),
    [
        (1, 0, 0, "its event numbers have slipped"),
        (-1, 0, 0, "its event numbers have slipped"),
        (0, 10**9, 0, "its clock has jumped"),
        (1, 0, 1, "its event numbers have slipped"),
    ],
)
def test_what_has_changed_is_said_where_triggers_tell(shift, ticks, gap, said):
    """They come at random; or evenly, and numbers were left out."""
    boards, sender = Boards(), "CoBo1_AsAd0"
    if not gap:
        boards.at = uneven
    boards.states(5)
    boards.shift[sender], boards.clock[sender] = shift, boards.clock[sender] + ticks
    boards.streams[sender] = replace(boards.streams[sender], missing=gap)
    boards.states(4)
    texts = {boards.look()[sender].text for _ in range(60)}
    (text,) = texts
    assert text.endswith(f"; {said}")


@pytest.mark.parametrize("ticks", [-99, 99])
def test_a_small_change_of_a_clock_is_none(ticks):
    boards = Boards()
    boards.states(5)
    boards.clock["CoBo1_AsAd0"] += ticks
    assert set(boards.states(5).values()) == {Sync.IN_STEP}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("shift", [1, 300])
def test_event_numbers_that_slip_are_out_of_step(sender, shift):
    boards = Boards()
    boards.states(5)
    boards.shift[sender] = shift
    assert only(boards.states(5), sender, Sync.OUT_OF_STEP)
    # What is known of it holds over a restart, after which nothing else is known.
    text = boards.look()[sender].text
    assert "since event" in text
    boards.judge = SyncJudge(SETTINGS, boards.judge.learned, boards.judge.steps)
    boards.streams = {other: replace(stream, samples=()) for other, stream in boards.streams.items()}
    assert only(boards.states(8), sender, Sync.OUT_OF_STEP)
    assert boards.look()[sender].text == text


def test_a_board_that_goes_on_while_most_stand_still_is_not_out_of_step():
    boards = Boards()
    boards.states(5)
    boards.stopped = set(SENDERS[:3])
    assert boards.states(60)["CoBo10_AsAd0"] is Sync.IN_STEP
    assert boards.states()["MuTanT"] is Sync.IN_STEP


def test_boards_on_a_host_that_does_not_answer_are_not_what_others_are_compared_with():
    boards = Boards()
    boards.states(5)
    boards.stopped = boards.unseen = set(SENDERS[:3])
    assert set(boards.states(30).values()) == {Sync.IN_STEP}
    boards.stopped = {*boards.unseen, "CoBo10_AsAd0"}
    states = boards.states(20)
    assert states["CoBo10_AsAd0"] is Sync.BEHIND
    assert states["MuTanT"] is Sync.IN_STEP


def test_a_board_far_ahead_is_out_of_step_and_the_others_are_not_behind():
    boards = Boards()
    boards.states(5)
    boards.shift["CoBo0_AsAd1"] = 5000
    states = boards.states(20)
    assert only(states, "CoBo0_AsAd1", Sync.OUT_OF_STEP), states
    texts = {boards.look()["CoBo0_AsAd1"].text for _ in range(5)}
    assert texts == {"CoBo0 AsAd1: 5000 events ahead of the others since event 5600"}


def test_buffers_that_hold_back_events_are_not_behind_but_a_board_that_stopped_is():
    boards = Boards()
    boards.lag = dict(zip(SENDERS, (0, 200, 400, 600, 0), strict=True))
    assert set(boards.states(20).values()) <= {Sync.IN_STEP}
    boards.stopped.add("CoBo1_AsAd0")
    states = [boards.states()["CoBo1_AsAd0"] for _ in range(12)]
    assert states.index(Sync.BEHIND) in range(6, 10)  # it was 2 s behind most already
    # It goes on slowly: its text stays the same.
    text = boards.look()["CoBo1_AsAd0"].text
    assert text == "CoBo1 AsAd0: over 10 s behind the others since event 1600"
    boards.stopped.clear()
    texts = set()
    for _ in range(60):
        boards.lag["CoBo1_AsAd0"] += 60
        texts.add(boards.look()["CoBo1_AsAd0"].text)
    assert len(texts - {""}) == 1, "one text as long as it is behind"
    boards.lag["CoBo1_AsAd0"] = 600
    assert set(boards.states(2).values()) == {Sync.IN_STEP}


def test_triggers_that_stop_leave_all_in_step():
    boards = Boards()
    boards.states(5)
    boards.stopped.update(SENDERS)
    assert set(boards.states(60).values()) == {Sync.IN_STEP}


def test_a_board_without_any_frame_is_behind_once_the_others_have_had_some_for_long():
    boards = Boards()
    boards.stopped.add("MuTanT")
    assert boards.states(9)["MuTanT"] is Sync.UNKNOWN
    assert boards.states(3)["MuTanT"] is Sync.BEHIND
    texts = {boards.look()["MuTanT"].text for _ in range(60)}
    assert texts == {"MuTAnT: no frame has come, the others have had some for over 10 s"}
    assert boards.judge.silent(boards.now_s, "CoBo7").state is Sync.BEHIND


def test_a_reset_and_a_torn_frame_stay():
    boards = Boards()
    boards.states(5)
    sender = "CoBo0_AsAd0"
    boards.time[sender], boards.shift[sender] = LATER, -500
    assert only(boards.states(), sender, Sync.RESET)
    assert boards.streams[sender].resets == 1
    assert boards.look()[sender].text == (
        "CoBo0 AsAd0: its event counter was reset after event 500, where "
        f"{name_of(sender, time=LATER)} begins"
    )
    torn = "CoBo1_AsAd0"
    boards.streams[torn] = replace(boards.streams[torn], torn=1, torn_at="x.graw at byte 77")
    verdicts = boards.look()
    assert verdicts[torn] == Verdict(Sync.TORN, "torn frame in x.graw at byte 77", "CoBo1 AsAd0")
    assert worst(verdicts.values()).state is Sync.TORN
    assert worst(verdicts.values()).text.count(";") == 1


def test_a_part_of_a_frame_at_the_end_is_torn_once_it_has_stood_for_long():
    boards = Boards()
    boards.states(5)
    sender = "CoBo0_AsAd0"
    boards.stopped.add(sender)
    stream = boards.streams[sender]
    boards.streams[sender] = stream.take(Piece(name_of(sender), 500, 300, torn_at=300))
    assert boards.states(3)[sender] is Sync.IN_STEP
    assert boards.states(3)[sender] is Sync.TORN
    # It was completed after all.
    boards.streams[sender] = boards.streams[sender].take(Piece(name_of(sender), 600, 600, 1, 501, 501, 1))
    assert boards.states()[sender] is not Sync.TORN


def test_what_is_known_to_change_is_looked_at_when_it_does():
    boards = Boards()
    boards.states(5)
    # Some of a frame: whether the rest comes is seen when the delay is over, not at the next look after it.
    sender = "CoBo0_AsAd0"
    boards.stopped.add(sender)
    boards.streams[sender] = boards.streams[sender].take(Piece(name_of(sender), 500, 300))
    assert boards.look(1.0)[sender].state is Sync.IN_STEP
    assert boards.due_s(sender) == 6.0 + 4.0
    boards.streams[sender] = boards.streams[sender].take(Piece(name_of(sender), 500, 300, torn_at=300))
    assert boards.look(4.0)[sender].state is Sync.TORN
    # A board that has stopped, and another clock.
    boards = Boards()
    boards.states(5)
    boards.stopped.add(sender)
    boards.look(1.0)
    assert boards.due_s(sender) == 6.0 + 10.0
    boards.stopped.clear()
    boards.clock["MuTanT"] += 1000
    boards.look(1.0)
    assert boards.due_s("MuTanT") == 7.0 + 2.0
    assert boards.judge.due_s(7.0, []) == 1.0 + 10.0


def test_pieces_are_put_together_over_parts_and_jumps():
    sender = "CoBo3_AsAd0"
    pieces = (
        Piece(name_of(sender), 10, 10, 5, 1, 5, 50),
        Piece(name_of(sender, 1), 10, 10, 3, 8, 10, 100, missing=0),  # 6 and 7 are missing
        Piece(name_of(sender, 2), 0, 0),
    )
    (stream,) = take_all({}, pieces).values()
    assert (stream.first, stream.last, stream.frames, stream.missing) == (1, 10, 8, 2)
    assert stream.cursor.name == name_of(sender, 2)
    assert stream.missing_percent == pytest.approx(20.0)
    jumped = stream.take(Piece(name_of(sender, 9), 10, 10, 2, 1000, 1001, 9, jumped=True))
    assert (jumped.first, jumped.last, jumped.missing) == (1, 1001, 2)
    back = stream.take(Piece(name_of(sender, 2), 10, 10, 1, 4, 4, 9))
    assert back.back == 1


def test_figures_of_a_run_are_of_what_every_member_has():
    streams = take_all(
        {},
        (
            Piece(name_of("CoBo1_AsAd0"), 1, 1, 90, 1, 100, 5, missing=10),
            Piece(name_of("CoBo1_AsAd1"), 1, 1, 80, 1, 80, 5),
            Piece(name_of("CoBo10_AsAd0"), 1, 1, 120, 1, 120, 5),
            Piece(name_of("MuTanT"), 1, 1, 130, 1, 130, 5),
        ),
    )
    sources = {"CoBo[1]": 2, "CoBo[10]": 1, "Mutant[master]": 1}
    members = []
    for sender_id, count in sources.items():
        own = [stream for stream in streams.values() if is_sender(sender_id)(stream.sender)]
        assert len(own) == count, sender_id
        members.append(SourceFigures.of(own, 10.0, Verdict(Sync.IN_STEP)))
    assert members[0].last == 100
    run = RunFigures.of(members)
    assert (run.events, run.missing_percent) == (80, 10.0)
    assert run.verdict.state is Sync.IN_STEP
    # All are in step only if all were read; what is wrong with one is so in any case.
    unread = RunFigures.of(members, unread=2).verdict
    assert unread == Verdict(Sync.UNKNOWN, "3 of 5 boards are in step")
    assert RunFigures.of(members[:1], unread=4).verdict == Verdict(
        Sync.UNKNOWN, "1 of 5 boards is read, so that nothing is compared"
    )
    bad = replace(members[0], verdict=Verdict(Sync.BEHIND, "far behind", "CoBo1"))
    assert RunFigures.of([bad, *members[1:]], unread=2).verdict.state is Sync.BEHIND
    silent = SourceFigures.of([], 0.0, Verdict(Sync.UNKNOWN))
    assert RunFigures.of([*members, silent]).events == 0
    assert RunFigures.of([]) == RunFigures()


def test_the_events_of_a_run_go_on_over_resets():
    sender, later = "CoBo1_AsAd0", "CoBo2_AsAd0"

    def of(streams):
        return RunFigures.of([SourceFigures.of([s], 1.0, Verdict(Sync.IN_STEP)) for s in streams.values()])

    streams = take_all({}, (Piece(name_of(sender), 1, 1, 90, 1, 100, 5), Piece(name_of(later), 1, 1, 0)))
    assert of(streams).events == 0
    streams = take_all(streams, (Piece(name_of(later), 1, 1, 100, 1, 100, 5),))
    assert of(streams).events == 100
    for time, empty in ((LATER, True), (LATER, False), ("2026-03-01T12:20:00.000", False)):
        before, frames = of(streams).events, 0 if empty else 30
        piece = Piece(name_of(sender, 0, time), 1, 1, frames, *((-1, -1, -1) if empty else (0, 29, 7)))
        other = streams[later].last + 1
        streams = take_all(streams, (piece, Piece(name_of(later), 1, 1, 40, other, other + 39, 7)))
        assert of(streams).events == before + frames
        assert streams[sender].last == (-1 if empty else 29)
    assert (streams[sender].resets, streams[sender].earlier) == (2, ((1, 100), (0, 29)))
    # A counter is reset before its first event.
    odd = take_all({}, (Piece(name_of(sender), 0, 0), Piece(name_of(sender, 0, LATER), 1, 1, 5, 3, 7, 7)))
    assert (of(odd).events, odd[sender].begin, odd[sender].reached) == (5, 3, 7)


def test_a_loss_after_hours_is_an_alarm_while_it_lasts_and_a_large_one_for_the_run():
    judge = MissingJudge(SETTINGS, window_s=10)
    stream, now_s = Stream("CoBo1_AsAd0", frames=10**6, last=7), 0.0

    def levels(looks: int, missing: int) -> list[int]:
        nonlocal stream, now_s
        found = []
        for _ in range(looks):
            now_s += 2
            stream = replace(stream, frames=stream.frames + 200 - missing, missing=stream.missing + missing)
            lack = judge.judge(now_s, {stream.sender: stream})[stream.sender]
            found.append(lack.level)
        return found

    assert set(levels(10, 1)) == {0}
    assert levels(9, 60)[-1] == 2, "of the last seconds"
    texts = {judge.judge(now_s, {stream.sender: stream})[stream.sender].why}
    levels(2, 60)
    texts.add(judge.judge(now_s, {stream.sender: stream})[stream.sender].why)
    (text,) = texts
    assert re.match(
        r"more than 10 % of the events of the last 10 s are missing, \d+ in all by event 7: ", text
    )
    assert levels(10, 0)[-1] == 0
    assert levels(200, 60)[-1] == 2
    assert levels(10, 0)[-1] == 1, "of the run"


def test_differences_of_clocks_hold_for_a_judge_that_goes_on():
    boards = Boards()
    boards.states(5)
    learned = dict(boards.judge.learned)
    assert learned["MuTanT CoBo1_AsAd0"] == -2_000_000
    boards.judge = SyncJudge(SETTINGS, learned)
    assert set(boards.states(5).values()) == {Sync.IN_STEP}
    boards.clock["CoBo1_AsAd0"] += 1000
    boards.judge = SyncJudge(SETTINGS, learned)
    boards.streams = {sender: replace(stream, samples=()) for sender, stream in boards.streams.items()}
    assert only(boards.states(5), "CoBo1_AsAd0", Sync.OUT_OF_STEP)


def test_the_asad_boards_of_a_cobo_are_named_together():
    def behind(board: str, event: int) -> Verdict:
        return Verdict(Sync.BEHIND, f"at event {event}", board)

    boards = [behind("CoBo0 AsAd0", 5), behind("CoBo0 AsAd1", 6), Verdict(Sync.IN_STEP), behind("MuTAnT", 7)]
    source = worst([*boards, Verdict(Sync.TORN, "torn", "CoBo0 AsAd2")])
    text = "CoBo0 AsAd2: torn; CoBo0 AsAd0, AsAd1: at event 5; MuTAnT: at event 7"
    assert source == Verdict(Sync.TORN, text)
    assert worst([source, source, Verdict(Sync.IN_STEP)]) == source
    torn = [Verdict(Sync.TORN, f"torn frame in {asad}", f"CoBo0 AsAd{asad}") for asad in range(3)]
    assert worst(torn).text == "CoBo0 AsAd0, AsAd1, AsAd2: torn frame in 0, and 2 more files"
    assert worst(torn[:1]).text == "CoBo0 AsAd0: torn frame in 0"
    # What is to be done is said once for each state.
    both = [worst(torn), worst([Verdict(Sync.RESET, "reset", "CoBo1 AsAd0")]), worst(boards)]
    text, _, advice = text_of(worst(both), "not looked at: CoBo2", advised=True).partition(" -- ")
    assert text.endswith(
        "CoBo1 AsAd0: reset; CoBo0 AsAd0, AsAd1: at event 5; MuTAnT: at event 7; not looked at: CoBo2"
    )
    assert advice == f"{ADVICE[Sync.RESET]}; {ADVICE[Sync.TORN]}"
    assert text_of(worst(both), "not looked at: CoBo2", advised=False) == text
