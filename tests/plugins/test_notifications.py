"""What plugins are told, in which order, and that one plugin's trouble is its own."""

from __future__ import annotations

import asyncio
import time

import pytest

from attpc_ioc.model.command import RUN, Put, Who
from attpc_ioc.model.events import Origin, RunConfigs, RunConfigText, RunFiles
from attpc_ioc.model.run import RunOutcome, RunState
from attpc_ioc.model.states import Operation, State
from attpc_ioc.plugin import hookimpl, mailbox
from tests.support.pace import busy
from tests.support.probe import Probe, covers
from tests.support.rig import rig


@covers(
    "attpc_startup",
    "attpc_shutdown",
    "attpc_before_operation",
    "attpc_after_operation",
    "attpc_state_changed",
    "attpc_run_starting",
    "attpc_run_started",
    "attpc_run_degraded",
    "attpc_run_stopping",
    "attpc_run_stopped",
    "attpc_run_failed",
    "attpc_put",
)
async def test_a_run_as_a_plugin_sees_it(tmp_path, monkeypatch):
    probe = Probe()
    async with rig(tmp_path, monkeypatch, cobos=2, plugins=[("probe", probe)]) as it:
        assert probe.hooks()[0] == "attpc_startup"
        await it.take_to(State.READY)
        probe.told.clear()

        await it.ok("Run:Start")
        await it.until(lambda: probe.of("attpc_put"), what="the put told")
        hooks = probe.hooks()
        # The number first, then what is sent; the run is told as started when all was seen.
        assert hooks[0] == "attpc_run_starting"
        sent = [(e.module, e.operation) for e in probe.of("attpc_before_operation")]
        assert sent[:2] == [("mutant", Operation.BREAKUP), ("mutant", Operation.CONFIGURE)]
        assert sorted(sent[2:4]) == [("cobo0", Operation.START), ("cobo1", Operation.START)]
        assert sent[4:] == [("mutant", Operation.START)]
        ended = probe.of("attpc_after_operation")
        assert [e.ok for e in ended] == [True] * 5
        assert all(e.duration_s > 0 for e in ended)
        configured = ended[1]
        assert str(configured.config) == "e20009/e20009/e20009"
        assert "<Setup" in configured.text, "the reply to Configure has the files' text"
        assert hooks.index("attpc_run_started") > max(
            i for i, hook in enumerate(hooks) if hook == "attpc_after_operation"
        )
        (started,) = probe.of("attpc_run_started")
        assert started.run.number == 0
        assert started.run.members == ("cobo0", "cobo1", "mutant")
        assert {c.origin for c in probe.of("attpc_state_changed")} == {Origin.OURS}
        (put,) = probe.of("attpc_put")
        assert (put.pv, put.old, put.new, put.ok) == (f"{it.prefix}Run:Start", "Done", "Busy", True)
        assert put.who.user
        stamps = [e.stamp for hook, e in probe.told if hook != "attpc_put"]
        assert stamps == sorted(stamps)
        assert len(set(stamps)) == len(stamps)

        # A foreign client stops a CoBo: external, and the run has lost a member.
        probe.told.clear()
        await it.fleet.call("cobo0", "Stop")
        await it.until(lambda: probe.of("attpc_run_degraded"), what="degraded told")
        assert probe.of("attpc_run_degraded")[0].lost == ("cobo0",)
        assert probe.of("attpc_state_changed")[-1].origin is Origin.EXTERNAL

        probe.told.clear()
        await it.ok("Run:Stop")
        await it.until(lambda: probe.of("attpc_run_stopped"), what="stopped told")
        assert probe.hooks()[0] == "attpc_run_stopping"
        (stopped,) = probe.of("attpc_run_stopped")
        assert stopped.run.outcome is RunOutcome.STOPPED
        assert stopped.run.lost_ever == ("cobo0",)
        assert stopped.run.stopped_s >= stopped.run.started_s

        # A start that fails after the number was reserved.
        probe.told.clear()
        it.fleet["cobo1"].faults.fail("Start", message="no trigger")
        await it.put("Run:Start")
        await it.until(lambda: probe.of("attpc_run_failed"), what="failure told")
        (failed,) = probe.of("attpc_run_failed")
        assert any("no trigger" in str(reason) for reason in failed.reasons)
        assert failed.run.number == 1
        assert [e.reason for e in probe.of("attpc_after_operation") if not e.ok]
        await it.until(lambda: probe.of("attpc_put"), what="the put told")
        assert not probe.of("attpc_put")[0].ok
        assert "no trigger" in probe.of("attpc_put")[0].reason
    assert probe.hooks()[-1] == "attpc_shutdown"


@covers("attpc_run_files", "attpc_run_configs")
async def test_what_one_plugin_tells_the_others(tmp_path, monkeypatch):
    teller, listener = Probe(), Probe()
    plugins = [("teller", teller), ("listener", listener)]
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=plugins) as it:
        about = {"experiment": "e20009", "number": 3}
        await teller.ctx.tell(
            RunFiles, **about, router="data0", sources=("CoBo0",), state="Done", files=2, data_bytes=10
        )
        text = RunConfigText("cobo0", "describe", "cobo0", "<Setup/>", "file")
        await teller.ctx.tell(RunConfigs, **about, configs=(text,))
        await it.until(lambda: listener.of("attpc_run_configs"), what="both told")
        (files,), (configs,) = listener.of("attpc_run_files"), listener.of("attpc_run_configs")
        assert (files.router, files.state, files.files, files.number) == ("data0", "Done", 2, 3)
        assert configs.configs == (text,)
        assert files.stamp < configs.stamp
        assert files.stamp.ioc == it.prefix


async def test_what_is_told_before_all_plugins_have_started(tmp_path, monkeypatch):
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
        await it.until(lambda: listener.of("attpc_run_files"), what="the late one told")
        assert listener.hooks()[:2] == ["attpc_startup", "attpc_run_files"]
        assert not broken.of("attpc_run_files")


async def test_what_a_notification_raises_is_its_plugins_own(tmp_path, monkeypatch):
    class Raising:
        @hookimpl
        def attpc_run_starting(self, event):
            raise RuntimeError("cannot write")

        @hookimpl
        async def attpc_run_started(self, event):
            raise SystemExit(3)

        @hookimpl
        async def attpc_before_operation(self, event):
            raise asyncio.CancelledError

    first, last = Probe(), Probe()
    plugins = [("first", first), ("raising", Raising()), ("last", last)]
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=plugins) as it:
        await it.start_run()
        for probe in (first, last):
            await it.until(lambda probe=probe: probe.of("attpc_run_started"), what="started told")
        assert it.run.state is RunState.RUNNING
        assert await it.get("Plugin:raising:Status_RBV") == "Degraded"
        assert await it.severity("Plugin:raising:Status_RBV") == "MINOR"
        message = await it.get_text("Plugin:raising:Message_RBV")
        assert "attpc_run_starting: RuntimeError: cannot write" in message
        assert "attpc_run_started: it called sys.exit(3)" in message
        assert "attpc_before_operation: it cancelled itself" in message
        assert await it.get("Plugin:last:Status_RBV") == "Ok"


async def test_degraded_until_the_same_hook_is_handled_well(tmp_path, monkeypatch):
    class Recovering(Probe):
        @hookimpl
        async def attpc_put(self, put):
            self.told.append(("attpc_put", put))
            if put.new == "bad":
                raise OSError("disk full")

    probe = Recovering()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("probe", probe)]) as it:
        plugin = it.app.host.plugins["probe"]
        await it.put_text("Run:Title", "bad")
        await it.until(lambda: plugin.message == "attpc_put: OSError: disk full", what="Degraded")
        await it.put_text("Run:Title", "good")
        await it.until(lambda: plugin.status.name == "OK", what="Ok again")


async def test_a_slow_plugin_delays_only_itself(tmp_path, monkeypatch):
    release = asyncio.Event()

    class Slow:
        def __init__(self):
            self.seen = []

        @hookimpl
        async def attpc_before_operation(self, event):
            await release.wait()
            self.seen.append(event.operation)

    slow, probe = Slow(), Probe()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("slow", slow), ("probe", probe)]) as it:
        await it.start_run()
        assert it.run.state is RunState.RUNNING
        await it.until(lambda: len(probe.of("attpc_before_operation")) == 10, what="the other told")
        assert slow.seen == []
        release.set()
        await it.until(lambda: len(slow.seen) == 10, what="the slow one caught up")
        assert slow.seen == [e.operation for e in probe.of("attpc_before_operation")]


class Committing:
    """A durable plugin whose commit begins when all that was put at once is there, and so never else."""

    attpc_durable = True

    def __init__(self, company: int) -> None:
        self.told: list[str] = []
        self._company = company
        self._full = asyncio.Event()

    @hookimpl
    async def attpc_put(self, put):
        if put.pv.endswith("Run:Title"):
            self.told.append(put.new)
            if len(self.told) >= self._company:
                self._full.set()
            await self._full.wait()


async def test_puts_at_once_are_committed_together(tmp_path, monkeypatch):
    company = 20
    plugin = Committing(company)
    async with rig(tmp_path, monkeypatch, plugins=[("committing", plugin)]) as it:
        emitter = it.app.emitter
        titles = [f"title {n}" for n in range(company)]
        puts = [Put(f"{it.prefix}Run:Title", Who("u", "h"), "", title, ok=True) for title in titles]
        recorded = [emitter.put(put) for put in puts[:-1]]
        await it.until(lambda: len(plugin.told) == company - 1, what="all but one told")
        assert not any(one is None or one.done() for one in recorded), "none is on record yet"
        recorded.append(emitter.put(puts[-1]))
        await asyncio.wait_for(asyncio.gather(*(one for one in recorded if one is not None)), 2.0)
        assert plugin.told == titles, "told in order"


class Unsure:
    """A durable plugin that hears of files and runs, as long as it is not `stuck` and does not `fail`."""

    attpc_durable = True

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fail = False

    async def _take(self) -> None:
        await self.go_on.wait()
        if self.fail:
            raise OSError("the disk is full")

    @hookimpl
    async def attpc_run_files(self, event):
        await self._take()

    @hookimpl
    async def attpc_run_started(self, event):
        await self._take()

    @hookimpl
    async def attpc_run_stopped(self, event):
        await self._take()


def files(number: int) -> dict[str, object]:
    return {
        "experiment": "e", "number": number, "router": "r", "sources": (), "state": "Done", "files": 0,
        "data_bytes": 0,
    }  # fmt: skip


async def test_what_was_dropped_or_failed_is_not_reported_as_on_record(tmp_path, monkeypatch):
    unsure, probe = Unsure(), Probe()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("unsure", unsure), ("probe", probe)]) as it:
        context = it.app.host.plugins["probe"].context
        assert context is not None
        assert await context.tell(RunFiles, **files(0))
        unsure.fail = True
        assert not await context.tell(RunFiles, **files(1))
        await it.take_to(State.READY)
        outcome = await it.submit("Start", RUN)
        assert outcome.ok
        assert "but a plugin has not put that on record" in outcome.message
        unsure.fail = False
        outcome = await it.submit("Stop", RUN)
        assert outcome.ok
        assert "on record" not in outcome.message
        # Full: the oldest is dropped, and that is known at once.
        monkeypatch.setattr(mailbox, "CAPACITY", 1)
        monkeypatch.setattr(mailbox, "TOGETHER", 1)
        unsure.go_on.clear()
        told = [asyncio.create_task(context.tell(RunFiles, **files(n))) for n in range(5)]
        answers = await asyncio.gather(*told)
        assert False in answers
        assert "dropped" in it.app.host.plugins["unsure"].message
        unsure.go_on.set()


@pytest.mark.timing
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
        assert probe.of("attpc_after_operation")
        asked = time.monotonic()
        await it.stop_ioc()
        assert time.monotonic() - asked < 2.0 * busy()
