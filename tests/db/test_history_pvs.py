"""What screens show of the history: the last runs, comment and quality, the last warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attpc_plugins.run_history.pvs.rows import COMMENT_CHARS, HISTORY_CHARS, RUNS
from attpc_plugins.run_history.pvs.screens import history
from attpc_plugins.run_history.pvs.shown import Shown
from attpc_plugins.run_history.store.model.history import Quality, Run, RunChanges, RunFilter, Stage
from hypothesis import given
from hypothesis import strategies as st

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import SYSTEM, Who
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunClass, RunInfo, RunOutcome, RunRef, RunView
from attpc_ioc.model.states import State
from tests.db.test_history_trouble import own_server
from tests.support.ca import eventually
from tests.support.fakecontext import FakeContext
from tests.support.history import EXPERIMENT, connected, drained, history_rig, reading
from tests.support.rig import Rig

TWO = ("-#", "2")
"""Options of `caget` for two elements of an array, which it shows after their count."""


async def text_lines(it: Rig, name: str) -> list[str]:
    """The lines of a long text; `caget` shows their ends as it would be written in C."""
    return (await it.get_text(name)).split("\\n")


async def test_the_last_runs_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        assert await it.get_text("History:Text_RBV") == "no runs yet"
        assert await it.severity("History:Text_RBV") == "NO_ALARM"
        for title in ("first", "Größe µ 測定"):
            await it.put_text("Run:Title", title)
            await it.start_run()
            await it.ok("Run:Stop")
        await drained(it)

        async def shown() -> bool:
            return (await it.get("History:Number_RBV", *TWO)).split()[:3] == ["2", "1", "0"]

        await eventually(shown, "both runs")
        assert (await it.get("History:Title_RBV", *TWO, "-F", "|")).split("|")[1:] == [
            "Größe µ 測定",
            "first",
        ]
        assert (await it.get("History:Class_RBV", *TWO)).split() == ["2", "Testing", "Testing"]
        assert (await it.get("History:Quality_RBV", *TWO)).split() == ["2", "Unknown", "Unknown"]
        assert len((await it.get("History:Start_RBV", *TWO)).split()) == 3
        assert (await it.get("History:Duration_RBV", *TWO)).split()[0] == "2"
        lines = await text_lines(it, "History:Text_RBV")
        assert len(lines) == 3
        assert lines[0].split()[:2] == ["Experiment", "Run"]
        assert lines[1].split()[:2] == [EXPERIMENT, "1"]
        assert lines[1].endswith("Größe µ 測定")

        # Another experiment shows its own runs only, and the comment is still that of the last run.
        assert (await it.put_text("Run:Comment", "of the first experiment")).code == 0
        await it.submit("GoTo", SYSTEM, State.IDLE)
        await it.ok("Run:Experiment", "other")

        async def other() -> bool:
            return await it.get_text("History:Text_RBV") == "no runs yet"

        await eventually(other, "no runs of the other experiment")
        assert await it.get_text("Run:Comment") == "of the first experiment"
        await drained(it)
        async with reading(dsn) as store:
            await store.edit(EXPERIMENT, 1, RunChanges(comment="edited"), who=Who("somebody", "here"))
            (edit,) = [e for e in (await store.run(EXPERIMENT, 1)).edits if e.value == "edited"]
            assert edit.old == "of the first experiment"

        async def edited() -> bool:
            return await it.get_text("Run:Comment") == "edited"

        await eventually(edited, "the comment that was edited", 15.0)


async def test_runs_are_invalid_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    names = ("Number", "Title", "Class", "Start", "Duration", "Quality", "Text")
    async with (
        own_server(postgres_place) as (server, dsn),
        history_rig(tmp_path, monkeypatch, dsn) as it,
    ):
        await it.start_run()
        await it.ok("Run:Stop")
        await drained(it)

        async def all_are(severity: str) -> bool:
            return {await it.severity(f"History:{name}_RBV") for name in names} == {severity}

        async def shown() -> bool:
            return (await it.get("History:Number_RBV", *TWO)).split() == ["2", "0", "0"]

        await eventually(shown, "the run")
        assert await all_are("NO_ALARM")
        before = await it.get_text("History:Text_RBV")
        await server.stop_soon()
        await eventually(lambda: all_are("INVALID"), "the loss")
        assert await it.get_text("History:Text_RBV") == before
        # The log is the program's own: it goes on, and tells what is wrong.
        get_logger("attpc_ioc.test").warning("while it was away")

        async def logged() -> bool:
            return "while it was away" in await it.get_text("Log:Text_RBV")

        await eventually(logged, "the log")
        assert await it.severity("Log:Text_RBV") == "NO_ALARM"
        await server.start_soon()
        await eventually(lambda: all_are("NO_ALARM"), "its return", 20.0)


async def test_comment_and_quality_are_of_the_current_or_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.put("Run:Quality", "Good")
        assert "there was no run yet" in await it.get_text("Plugin:run_history:Message_RBV")
        await it.start_run()
        assert (await it.put_text("Run:Comment", "beam was unsteady\nfrom 3 to 4")).code == 0
        await it.ok("Run:Stop")
        await it.ok("Run:Quality", "Partial")
        await drained(it)
        async with reading(dsn) as store:
            detail = await store.run(EXPERIMENT, 0)
        assert detail.run.comment == "beam was unsteady\nfrom 3 to 4"
        assert detail.run.quality is Quality.PARTIAL
        assert {edit.field for edit in detail.edits} == {"comment", "quality"}
        longest = "\N{GRINNING FACE}" * COMMENT_CHARS
        assert (await it.put_text("Run:Comment", longest)).code == 0
        assert await it.get_text("Run:Comment") == longest
        await it.ok("Run:Quality", "Good")

        async def listed() -> bool:
            return (await it.get("History:Quality_RBV", *TWO)).split()[1] == "Good"

        await eventually(listed, "the database read again")
        assert await it.get_text("Run:Comment") == longest
        await it.ok("Run:Quality", "Partial")
        assert (await it.put_text("Run:Comment", "beam was unsteady\nfrom 3 to 4")).code == 0
        await it.stop_ioc()
        await it.start_ioc()
        await connected(it)

        async def again() -> bool:
            return await it.get("Run:Quality") == "Partial"

        await eventually(again, "the quality after a restart")
        assert await text_lines(it, "Run:Comment") == ["beam was unsteady", "from 3 to 4"]
        await it.ok("Run:Start")
        assert await it.get("Run:Quality") == "Unknown"
        assert await it.get_text("Run:Comment") == ""
        await it.ok("Run:Stop")


async def test_a_comment_is_taken_while_events_are_not_in_the_database_yet(tmp_path: Path, dsn: str) -> None:
    ctx, edits, drained_now = FakeContext(tmp_path), [], False

    async def edit(ref: RunRef, changes: RunChanges, _who: Who) -> None:
        edits.append((ref, changes.comment))

    info = RunInfo(3, EXPERIMENT, ("cobo0",), began_s=1000.0)
    ctx.fleet = Fleet(run=RunView(info=info))
    shown = Shown(ctx, drained=lambda: drained_now, edit=edit, on_entry=lambda _entry: None)
    async with reading(dsn) as store:
        assert not await shown.refresh(store, EXPERIMENT)
        await shown.write("Run:Comment", "written meanwhile", Who("somebody", "here"))
        assert edits == [(info.ref, "written meanwhile")]
        assert not await shown.refresh(store, EXPERIMENT)
        assert ctx.published["Run:Comment"] == "written meanwhile"
        drained_now = True
        assert await shown.refresh(store, EXPERIMENT)


async def test_warnings_are_shown_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        before = int(await it.get("Log:Count_RBV"))
        for number in range(30):
            get_logger("attpc_ioc.test").warning("something is odd", number=number)
        get_logger("attpc_plugins.test").error("something is wrong")
        get_logger("attpc_ioc.test").info("all is well")

        async def counted() -> bool:
            return int(await it.get("Log:Count_RBV")) >= before + 31

        await eventually(counted, "31 more")
        lines = await text_lines(it, "Log:Text_RBV")
        assert len(lines) == 20
        assert any("ERROR" in line and "something is wrong" in line for line in lines)
        assert any("WARNING something is odd (number 29)" in line for line in lines)
        assert not any("all is well" in line for line in lines)
        await drained(it)
        async with reading(dsn) as store:
            texts = [entry.text for entry in await store.log_entries(limit=100)]
        assert {f"something is odd (number {n})" for n in range(30)} <= set(texts)
        assert "something is wrong" in texts


async def test_an_open_run_is_found_by_an_ioc_without_a_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, section="lease_s = 3") as it:
        await it.start_run()
        before = it.run.info
        assert before is not None
        await drained(it)
        await it.stop_ioc()
        (tmp_path / "state").rename(tmp_path / "away")
        await it.start_ioc()
        await it.until(lambda: it.run.info is not None and it.run.number == 0, 10.0, "the run found")
        await it.until(lambda: it.run.state.label == "Running", 10.0, "the run goes on")
        info = it.run.info
        assert info is not None
        assert info.members == before.members
        assert info.loaded == before.loaded
        assert info.started_s == pytest.approx(before.started_s, abs=1e-3)
        await connected(it)
        await it.ok("Run:Stop")
        await drained(it)
        async with reading(dsn) as store:
            (run,) = (await store.runs(RunFilter(experiment=EXPERIMENT))).runs
        assert run.outcome is RunOutcome.STOPPED


runs = st.lists(
    st.builds(
        Run,
        experiment=st.just("e"),
        number=st.integers(0, 2**31 - 1),
        stage=st.sampled_from(Stage),
        run_class=st.sampled_from(RunClass),
        title=st.text(max_size=200),
        quality=st.sampled_from(Quality),
    ),
    max_size=RUNS + 10,
)


@given(runs)
def test_arrays_are_of_one_length_and_the_table_is_aligned(shown: list[Run]) -> None:
    values = dict(history(shown))
    arrays = [value for value in values.values() if isinstance(value, tuple)]
    assert {len(array) for array in arrays} == {min(len(shown), RUNS)}
    for title in arrays[1]:
        assert isinstance(title, str)
        assert len(title.splitlines()) <= 1
    text = values["History:Text_RBV"]
    assert isinstance(text, str)
    assert len(text.encode()) < HISTORY_CHARS
    if shown:
        head, *lines = text.split("\n")
        column = head.index("Title")
        for line, run in zip(lines, shown, strict=False):
            assert line[:column].split()[:2] == [run.experiment, str(run.number)]
            assert line[:column].rstrip().endswith("stopped" if run.stage is Stage.ENDED else run.stage.value)
