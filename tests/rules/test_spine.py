"""The whole path with EPICS base's programs: caput, camonitor and the simulator's own log of calls."""

from __future__ import annotations

from attpc_ioc.model.states import State
from tests.support.ca import camonitor
from tests.support.rig import EXPERIMENT, rig

COBOS = [f"cobo{i}" for i in range(3)]


def stages(sequence: list[str]) -> list[list[str]]:
    """The calls in their order, those of one operation and kind of module together."""
    found: list[tuple[tuple[str, bool], list[str]]] = []
    for call in sequence:
        server, operation = call.split(".")
        key = (operation, server == "mutant")
        if not found or found[-1][0] != key:
            found.append((key, []))
        found[-1][1].append(server)
    return [[f"{key[0]}", *sorted(names)] for key, names in found]


def values(lines: list[str], pv: str) -> list[str]:
    """The values of one PV in the lines of a camonitor: name, date, time, value, alarm."""
    return [line.split()[3] for line in lines if line.startswith(f"{pv} ")]


async def test_the_whole_path_with_caput(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=3) as it:
        pvs = [it.prefix + name for name in ("State_RBV", "Run:State_RBV", "Ecc:mutant:State_RBV")]
        async with camonitor(it.place, *pvs) as monitor:
            await monitor.until(3)
            assert (await it.put_text("Config", EXPERIMENT)).code == 0
            for command, state in (
                ("Describe", State.DESCRIBED),
                ("Prepare", State.PREPARED),
                ("Configure", State.READY),
                ("Run:Start", State.RUNNING),
                ("Run:Stop", State.READY),
                ("Reset", State.PREPARED),
                ("Reset", State.DESCRIBED),
                ("Reset", State.IDLE),
            ):
                await it.ok(command, limit_s=60)
                # A put that returns successfully means that every module was seen there.
                assert await it.get("State_RBV") == state.label
                for module in [*COBOS, "mutant"]:
                    assert await it.get(f"Ecc:{module}:State_RBV") == state.label
            await monitor.until_text(f"{it.prefix}State_RBV")
            seen, runs, mutant = (values(monitor.lines, pv) for pv in pvs)
        assert [label for label in seen if label != "Mixed"] == [
            "Idle", "Described", "Prepared", "Ready",
            "Ready", "Running", "Ready", "Prepared", "Described", "Idle",
        ]  # fmt: skip
        assert runs == ["Stopped", "Starting", "Running", "Stopping", "Stopped"]
        assert mutant == [
            "Idle", "Described", "Prepared", "Ready",
            "Prepared", "Ready", "Running", "Ready", "Prepared", "Described", "Idle",
        ]  # fmt: skip
        assert stages(it.fleet.log.sequence()[:-4]) == [
            ["Describe", *COBOS],
            ["Describe", "mutant"],
            ["Prepare", "mutant"],
            ["Prepare", *COBOS],
            ["Configure", *COBOS],
            ["Configure", "mutant"],
            ["Breakup", "mutant"],
            ["Configure", "mutant"],
            ["Start", *COBOS],
            ["Start", "mutant"],
            ["Stop", "mutant"],
            ["Stop", *COBOS],
            ["Breakup", "mutant"],
            ["Breakup", *COBOS],
            ["Undo", *COBOS],
            ["Undo", "mutant"],
        ]
        # The last step back is at once for all, in whatever order.
        assert sorted(it.fleet.log.sequence()[-4:]) == sorted(f"{n}.Undo" for n in [*COBOS, "mutant"])


async def test_stages_wait_for_the_stage_before(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=3) as it:
        await it.start_run()
        log = it.fleet.log
        for operation, first, second in (
            ("Describe", COBOS, ["mutant"]),
            ("Prepare", ["mutant"], COBOS),
            ("Start", COBOS, ["mutant"]),
        ):
            ended = max(call.end_s for name in first for call in log.of(name, operation))
            began = min(call.begin_s for name in second for call in log.of(name, operation))
            assert ended <= began, operation


async def test_the_state_directory_keeps_what_operators_chose(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        assert (await it.put_text("Run:Experiment", EXPERIMENT)).code == 0
        await it.take_to(State.READY)
        assert (await it.put_text("Run:Title", "Beam on Kr")).code == 0
        await it.ok("Run:Class", "Beam")
        loaded = it.module("cobo0").loaded
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_all(State.READY)
        assert await it.get_text("Run:Title") == "Beam on Kr"
        assert await it.get("Run:Class") == "Beam"
        assert await it.get_text("Run:Experiment") == EXPERIMENT
        assert await it.get_text("Ecc:cobo0:Config") == "cobo0/e20009/e20009"
        assert it.module("cobo0").loaded == loaded
        await it.ok("Run:Start")
