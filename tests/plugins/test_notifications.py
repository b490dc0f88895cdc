"""What plugins are told, in which order, and that one plugin's trouble is its own."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from attpc_ioc.errors import StateDirError
from attpc_ioc.model.command import RUN, Put
from attpc_ioc.model.events import (
    OperationEnded,
    OperationStarting,
    Origin,
    RunConfigs,
    RunConfigText,
    RunDegraded,
    RunFailed,
    RunFiles,
    RunStarted,
    RunStarting,
    RunStopped,
    StateChanged,
)
from attpc_ioc.model.run import RunOutcome, RunState
from attpc_ioc.model.states import Operation, State
from attpc_ioc.plugin import hookimpl, mailbox
from tests.support.ca import eventually
from tests.support.pace import Stopwatch
from tests.support.probe import Probe, covers
from tests.support.rig import rig
from tests.support.state_dir import make_unwritable, make_writable


@covers("attpc_startup", "attpc_shutdown", "attpc_event")
async def test_a_run_as_a_plugin_sees_it(tmp_path, monkeypatch):
    probe = Probe()
    async with rig(tmp_path, monkeypatch, cobos=2, plugins=[("probe", probe)]) as it:
        assert probe.names()[0] == "attpc_startup"
        await it.take_to(State.READY)
        probe.told.clear()

        await it.ok("Run:Start")
        await it.until(lambda: probe.of(Put), what="the put told")
        hooks = probe.names()
        # The number first, then what is sent; the run is told as started when all was seen.
        assert hooks[0] == "RunStarting"
        sent = [(e.module, e.operation) for e in probe.of(OperationStarting)]
        assert sent[:2] == [("mutant", Operation.BREAKUP), ("mutant", Operation.CONFIGURE)]
        assert sorted(sent[2:4]) == [("cobo0", Operation.START), ("cobo1", Operation.START)]
        assert sent[4:] == [("mutant", Operation.START)]
        ended = probe.of(OperationEnded)
        assert [e.ok for e in ended] == [True] * 5
        assert all(e.duration_s > 0 for e in ended)
        configured = ended[1]
        assert str(configured.config) == "e20009/e20009/e20009"
        assert "<Setup" in configured.text, "the reply to Configure has the files' text"
        assert hooks.index("RunStarted") > max(i for i, hook in enumerate(hooks) if hook == "OperationEnded")
        (started,) = probe.of(RunStarted)
        assert started.run.number == 0
        assert started.run.members == ("cobo0", "cobo1", "mutant")
        assert {c.origin for c in probe.of(StateChanged)} == {Origin.OURS}
        (put,) = probe.of(Put)
        assert (put.pv, put.old, put.new, put.ok) == (f"{it.prefix}Run:Start", "Done", "Busy", True)
        assert put.who.user
        stamps = [e.stamp for hook, e in probe.told if hook != "Put"]
        assert stamps == sorted(stamps)
        assert len(set(stamps)) == len(stamps)

        # A foreign client stops a CoBo: external, and the run has lost a member.
        probe.told.clear()
        await it.fleet.call("cobo0", "Stop")
        await it.until(lambda: probe.of(RunDegraded), what="degraded told")
        assert probe.of(RunDegraded)[0].lost == ("cobo0",)
        assert probe.of(StateChanged)[-1].origin is Origin.EXTERNAL

        probe.told.clear()
        await it.ok("Run:Stop")
        await it.until(lambda: probe.of(RunStopped), what="stopped told")
        assert probe.names()[0] == "RunStopping"
        (stopped,) = probe.of(RunStopped)
        assert stopped.run.outcome is RunOutcome.STOPPED
        assert stopped.run.lost_ever == ("cobo0",)
        assert stopped.run.stopped_s >= stopped.run.started_s

        # A start that fails after the number was reserved.
        probe.told.clear()
        it.fleet["cobo1"].faults.fail("Start", message="no trigger")
        await it.put("Run:Start")
        await it.until(lambda: probe.of(RunFailed), what="failure told")
        (failed,) = probe.of(RunFailed)
        assert any("no trigger" in str(reason) for reason in failed.reasons)
        assert failed.run.number == 1
        assert [e.reason for e in probe.of(OperationEnded) if not e.ok]
        await it.until(lambda: probe.of(Put), what="the put told")
        assert not probe.of(Put)[0].ok
        assert "no trigger" in probe.of(Put)[0].reason
    assert probe.names()[-1] == "attpc_shutdown"


@covers("attpc_event")
async def test_what_one_plugin_sends_to_the_others(tmp_path, monkeypatch):
    teller, listener = Probe(), Probe()
    plugins = [("teller", teller), ("listener", listener)]
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=plugins) as it:
        about = {"experiment": "e20009", "number": 3}
        await teller.ctx.tell(
            RunFiles, **about, router="data0", sources=("CoBo0",), state="Done", files=2, data_bytes=10
        )
        text = RunConfigText("cobo0", "describe", "cobo0", "<Setup/>", "file")
        await teller.ctx.tell(RunConfigs, **about, configs=(text,))
        await it.until(lambda: listener.of(RunConfigs), what="both told")
        (files,), (configs,) = listener.of(RunFiles), listener.of(RunConfigs)
        assert (files.router, files.state, files.files, files.number) == ("data0", "Done", 2, 3)
        assert configs.configs == (text,)
        assert files.stamp < configs.stamp
        assert files.stamp.ioc == it.prefix


async def test_what_is_sent_before_all_plugins_have_started(tmp_path, monkeypatch):
    class Early:
        @hookimpl
        async def attpc_startup(self, ctx):
            about = {"experiment": "e20009", "number": 3, "router": "data0", "sources": ("CoBo0",)}
            await ctx.tell(RunFiles, **about, state="Done", files=2, data_bytes=10)

    class Broken(Probe):
        @hookimpl
        async def attpc_startup(self, ctx):
            raise RuntimeError("no disk")

    broken, listener = Broken(), Probe()
    plugins = [("early", Early()), ("broken", broken), ("listener", listener)]
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=plugins) as it:
        await it.until(lambda: listener.of(RunFiles), what="the late one told")
        assert listener.names()[:2] == ["attpc_startup", "RunFiles"]
        assert not broken.of(RunFiles)


async def test_what_a_notification_raises_is_its_plugins_own(tmp_path, monkeypatch):
    class Raising:
        @hookimpl
        def attpc_event(self, event):
            if isinstance(event, RunStarting):
                raise OSError("cannot write")
            return self.later(event)

        async def later(self, event):
            if isinstance(event, RunStarted):
                raise SystemExit(3)
            if isinstance(event, OperationStarting):
                raise asyncio.CancelledError

    first, last = Probe(), Probe()
    plugins = [("first", first), ("raising", Raising()), ("last", last)]
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=plugins) as it:
        await it.start_run()
        for probe in (first, last):
            await it.until(lambda probe=probe: probe.of(RunStarted), what="started told")
        assert it.run.state is RunState.RUNNING
        assert await it.get("Plugin:raising:Status_RBV") == "Degraded"
        assert await it.severity("Plugin:raising:Status_RBV") == "MINOR"
        message = await it.get_text("Plugin:raising:Message_RBV")
        assert "attpc_event RunStarting: OSError: cannot write" in message
        assert "attpc_event RunStarted: it called sys.exit(3)" in message
        assert "attpc_event OperationStarting: it cancelled itself" in message
        assert await it.get("Plugin:last:Status_RBV") == "Ok"


async def test_degraded_until_an_event_of_the_same_kind_is_handled_well(tmp_path, monkeypatch):
    class Recovering(Probe):
        @hookimpl
        async def attpc_event(self, event):
            if isinstance(event, Put) and event.new == "bad":
                raise OSError("disk full")

    probe = Recovering()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("probe", probe)]) as it:
        plugin = it.app.host.plugins["probe"]
        await it.put_text("Run:Title", "bad")
        await it.until(lambda: plugin.message == "attpc_event Put: OSError: disk full", what="Degraded")
        await it.put_text("Run:Title", "good")
        await it.until(lambda: plugin.status.name == "OK", what="Ok again")


async def test_a_slow_plugin_delays_only_itself(tmp_path, monkeypatch):
    release = asyncio.Event()

    class Slow:
        def __init__(self):
            self.seen = []

        @hookimpl
        async def attpc_event(self, event):
            if isinstance(event, OperationStarting):
                await release.wait()
                self.seen.append(event.operation)

    slow, probe = Slow(), Probe()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("slow", slow), ("probe", probe)]) as it:
        await it.start_run()
        assert it.run.state is RunState.RUNNING
        await it.until(lambda: len(probe.of(OperationStarting)) == 10, what="the other told")
        assert slow.seen == []
        release.set()
        await it.until(lambda: len(slow.seen) == 10, what="the slow one caught up")
        assert slow.seen == [e.operation for e in probe.of(OperationStarting)]


class Stuck:
    """A plugin that handles no put until it may."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    @hookimpl
    async def attpc_event(self, event):
        await self.go_on.wait()


async def test_a_queue_that_is_full_drops_the_oldest_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(mailbox, "CAPACITY", 10)
    stuck, probe = Stuck(), Probe()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("stuck", stuck), ("probe", probe)]) as it:
        for number in range(20):
            assert (await it.put_text("Run:Title", f"title {number}")).code == 0
        message = it.app.host.plugins["stuck"].message
        assert "too slow: " in message
        assert "dropped, last attpc_event " in message
        # Nobody else misses one, and the log has all.
        await it.until(lambda: len(probe.of(Put)) == 20, what="the other told")
        await it.app.log.flush()
        assert sum(isinstance(event, Put) for _, event in await it.app.log.events(0)) == 20
        stuck.go_on.set()


async def test_what_is_not_on_disk_is_not_reported_as_on_record(tmp_path, monkeypatch):
    state, probe = tmp_path / "state", Probe()
    about = {"experiment": "e", "router": "r", "sources": (), "state": "Done", "files": 0, "data_bytes": 0}
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("probe", probe)]) as it:
        await it.start_run()
        assert await probe.ctx.tell(RunFiles, number=0, **about)
        make_unwritable(state)
        await probe.ctx.tell(RunFiles, number=1, **about)
        with pytest.raises(StateDirError):
            await it.app.log.flush()
        assert not await probe.ctx.tell(RunFiles, number=2, **about)
        outcome = await it.submit("Stop", RUN)
        assert outcome.ok
        assert "but that is not on disk yet" in outcome.message
        make_writable(state)

        async def written() -> bool:
            with contextlib.suppress(StateDirError):
                await it.app.log.flush()
            return not it.app.log.fault

        await eventually(written, "the log is written again")
        files = [event.number for _, event in await it.app.log.events(0) if isinstance(event, RunFiles)]
        assert files == [0, 1, 2]


async def test_a_start_up_that_raises_and_a_shutdown_that_hangs(tmp_path, monkeypatch):
    class Broken(Probe):
        @hookimpl
        async def attpc_startup(self, ctx):
            raise ConnectionError("no database")

        @hookimpl
        def attpc_veto(self, plan, fleet):
            return "no database" if plan.command.scope == RUN else None

        @hookimpl
        async def attpc_shutdown(self, ctx):
            await asyncio.Event().wait()

    broken, probe = Broken(), Probe()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("broken", broken), ("probe", probe)]) as it:
        assert await it.get("Plugin:broken:Status_RBV") == "Failed"
        assert await it.get_text("Plugin:broken:Message_RBV") == "did not start: ConnectionError: no database"
        await it.take_to(State.READY)
        # It is told nothing, but its veto holds.
        await it.refused("Run:Start", because="no database")
        assert broken.told == []
        assert probe.of(OperationEnded)
        taking = Stopwatch()
        await it.stop_ioc()
        assert taking.s < 2.0
