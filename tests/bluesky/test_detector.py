"""The AT-TPC as a Bluesky detector: a real RunEngine, a real IOC, simulated ECC servers and data routers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from attpc_ioc.model.command import CommandName, ScopeKind
from attpc_ioc.model.run import RunState
from attpc_ioc.plugin import hookimpl
from tests.support.data_rig import data_rig, section
from tests.support.rig import Rig, rig

pytestmark = pytest.mark.slow

CALM: dict[str, Any] = {
    "text": section(watch={"timeout_s": 10.0}, closing={"checksums": True}),
    "limits": "",
    "poll": "quiet_period_s = 0.1\nmoving_period_s = 0.03",
}
"""The limits of the product, so that a busy machine fails no plan."""


async def plans(it: Rig, case: str) -> Any:
    """Run the plans of a case in `child`; returns what it has seen."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bluesky.child", it.prefix, case,
        env={**os.environ, **it.place.env}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    assert child.returncode == 0
    return json.loads(out.splitlines()[-1])


def of_kind(seen: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [doc for name, doc in seen["docs"] if name == kind]


def check_files(seen: dict[str, Any]) -> dict[int, set[str]]:
    """See that every stream resource names a file as it is; returns their names by run."""
    found: dict[int, set[str]] = {}
    for doc in of_kind(seen, "stream_resource"):
        uri, parameters = urlsplit(doc["uri"]), doc["parameters"]
        assert (uri.scheme, uri.netloc) == ("file", socket.gethostname())
        data = Path(unquote(uri.path)).read_bytes()
        assert parameters["size"] == len(data)
        assert parameters["sha256"] == hashlib.sha256(data).hexdigest()
        assert doc["mimetype"] == "application/x-graw"
        assert parameters["sources"] == [parameters["router"]]
        found.setdefault(parameters["run"], set()).add(uri.path)
    return found


async def test_a_scan_of_five_points_makes_five_runs(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **CALM) as it:
        seen = await plans(it, "scan")
        assert seen["error"] == ""
        assert it.run.state is RunState.STOPPED
        events = of_kind(seen, "event")
        numbers = [event["data"]["det-run-number"] for event in events]
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert it.run.number == numbers[-1]
        for at, event in enumerate(events):
            data = event["data"]
            assert data["knob"] == at + 1
            assert (data["det-run-title"], data["det-run-run_class"]) == ("scan", "Beam")
            assert data["det-run-experiment"] == "unnamed"
            assert data["det-run-start_time"] < data["det-run-stop_time"]
            assert data["det-run-duration"] >= 1.0
        files = check_files(seen)
        assert list(files) == numbers
        assert all(len(of_run) >= 5 for of_run in files.values())
        assert sum(map(len, files.values())) == len(set().union(*files.values()))
        # Each file is of the event of its run.
        resources = {doc["uid"]: doc for doc in of_kind(seen, "stream_resource")}
        for datum in of_kind(seen, "stream_datum"):
            run = resources.pop(datum["stream_resource"])["parameters"]["run"]
            assert datum["indices"]["start"] == numbers.index(run)
            assert datum["seq_nums"]["start"] == events[numbers.index(run)]["seq_num"]
        assert not resources
        (descriptor,) = of_kind(seen, "descriptor")
        assert descriptor["data_keys"]["det-files"]["source"] == f"pva://{it.prefix}Run:Manifest_RBV"
        assert descriptor["configuration"]["det"]["data"]["det-length"] == 1.0
        assert descriptor["hints"]["det"]["fields"] == ["det-run-number", "det-run-duration"]


async def test_runs_of_a_length_and_runs_around_a_plan(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **CALM) as it:
        seen = await plans(it, "for_seconds")
        assert seen["error"] == ""
        assert seen["returned"] == ["inner"]
        streams = {doc["uid"]: doc["name"] for doc in of_kind(seen, "descriptor")}
        events: dict[str, list[Any]] = {}
        for event in of_kind(seen, "event"):
            events.setdefault(streams[event["descriptor"]], []).append(event["data"])
        first, second = (data["det-run-duration"] for data in events["primary"])
        assert first >= 2.0
        assert second >= 0.7
        (during,) = events["attpc"]
        assert during["det-run-duration"] >= 0.6
        assert len(events["knob"]) == 3
        assert during["det-run-number"] == events["primary"][-1]["det-run-number"] + 1
        files = check_files(seen)
        assert list(files) == list(range(it.run.number - 3, it.run.number + 1))
        assert it.run.duration_s >= 1.2
        in_streams = {streams[datum["descriptor"]] for datum in of_kind(seen, "stream_datum")}
        assert in_streams == {"primary", "attpc_files", "flown"}


async def test_ends_of_a_run_by_others(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **CALM) as it:
        seen = await plans(it, "ends")
        assert "nothing would end the run" in seen["endless"]["error"]
        assert seen["endless"]["run"] == [-1, "Stopped"]
        assert seen["limit"]["error"] == ""
        assert len(of_kind(seen["limit"], "event")) == 1
        assert "was ended by another before its time" in seen["shorter"]["error"]
        assert "the run has lasted 1 s" in seen["shorter"]["error"]
        assert "was ended by another before its time" in seen["operator"]["error"]


class Veto:
    @hookimpl
    def attpc_veto(self, scope_kind, command_name):
        return "the beam is off" if (scope_kind, command_name) == (ScopeKind.RUN, CommandName.START) else None


async def test_a_refused_start_fails_the_plan_with_the_reason(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, plugins=[("veto", Veto())], **CALM) as it:
        seen = await plans(it, "count")
        assert "the beam is off" in seen["error"]
        assert not of_kind(seen, "event")
        assert set(it.states().values()) == {"Ready"}
        assert it.run.state is RunState.STOPPED


async def test_the_run_of_another_goes_on(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **CALM) as it:
        seen = await plans(it, "other")
        assert f"run {it.run.number} is on" in seen["error"]
        assert it.run.state is RunState.RUNNING


async def test_the_event_is_of_its_run_though_another_has_begun(tmp_path, monkeypatch):
    calm = {**CALM, "text": section(watch={"timeout_s": 10.0}, closing={"quiet_s": 3.0})}
    async with data_rig(tmp_path, monkeypatch, **calm) as it:
        seen = await plans(it, "followed")
        assert seen["error"] == ""
        (event,) = of_kind(seen, "event")
        assert event["data"]["det-run-number"] == 0
        assert event["data"]["det-run-stop_time"]
        assert {doc["parameters"]["run"] for doc in of_kind(seen, "stream_resource")} == {0}
        assert seen["run"] == [1, "Running"]


async def test_a_point_goes_on_while_the_ioc_is_started_again(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **CALM) as it:
        plan = asyncio.create_task(plans(it, "long"))
        await it.until(lambda: it.run.state is RunState.RUNNING and it.run.duration_s > 1.0, what="a run")
        await it.stop_ioc()
        await it.start_ioc()
        seen = await plan
        assert seen["error"] == ""
        (event,) = of_kind(seen, "event")
        assert event["data"]["det-run-number"] == it.run.number == 0
        assert len(of_kind(seen, "stream_resource")) >= 5
        assert it.run.state is RunState.STOPPED


async def test_a_plan_that_ends_stops_its_run_and_a_resumed_one_makes_it_anew(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **CALM) as it:
        seen = await plans(it, "aborted")
        abort = seen["abort"]
        assert abort["run"] == [abort["before"][0], "Stopped"]
        assert of_kind(abort, "stop")[0]["exit_status"] == "abort"
        assert not of_kind(abort, "event")
        assert "the inner plan has failed" in seen["exception"]["error"]
        assert seen["exception"]["run"] == [abort["run"][0] + 1, "Stopped"]
        # The run that the plan was paused in is ended, and another takes its place.
        resumed = seen["resumed"]
        numbers = [event["data"]["det-run-number"] for event in of_kind(resumed, "event")]
        assert numbers == [abort["run"][0] + 3, abort["run"][0] + 4]
        assert resumed["run"] == [numbers[-1], "Stopped"]


@pytest.mark.parametrize("plugin", ["enabled = false", ""])
async def test_it_does_without_data_routers(tmp_path, monkeypatch, plugin):
    async with rig(
        tmp_path, monkeypatch, limits="", poll=CALM["poll"], **{"plugins.data_routers": plugin}
    ) as it:
        seen = await plans(it, "count")
        assert seen["error"] == ""
        (event,) = of_kind(seen, "event")
        assert event["data"]["det-run-number"] == it.run.number
        (descriptor,) = of_kind(seen, "descriptor")
        assert "det-files" not in descriptor["data_keys"]
