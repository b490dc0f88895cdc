"""Runs by the HTTP API are those of the run history."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from attpc_plugins.run_history.store.model.history import Run
from attpc_plugins.web.runs import COLUMNS, csv_of
from attpc_plugins.web.tokens import Role

from attpc_ioc.errors import RecordAway, Refused
from attpc_ioc.model.command import RUN, Who
from attpc_ioc.model.run import RunQuery, RunState
from attpc_ioc.plugin import hookimpl
from tests.support.history import NAME, connected, drained, given_plugins
from tests.support.rig import rig
from tests.support.run_records import used_config
from tests.support.web import web_rig

EXPERIMENT = "e20009"


async def test_runs_are_those_of_the_history(tmp_path, monkeypatch, dsn):
    section = {f"plugins.{NAME}": f'dsn = "{dsn}"'}
    async with web_rig(tmp_path, monkeypatch, plugins=given_plugins(), alone=False, **section) as it:
        await connected(it.rig)
        began = datetime.now(UTC)
        await it.rig.ok("Run:Experiment", EXPERIMENT)
        for title in ("first light", "=gain scan", "last"):
            await it.rig.ok("Run:Title", title)
            await it.rig.start_run()
            assert (await it.rig.submit("Stop", RUN)).ok
            await it.rig.until_run(RunState.STOPPED)
        await drained(it.rig)

        status, page = await it.get("/api/v1/runs")
        assert status == 200
        assert [(run["number"], run["title"]) for run in page["runs"]] == [
            (2, "last"),
            (1, "=gain scan"),
            (0, "first light"),
        ]
        assert page["next"] is None
        for query, numbers in (
            ({"text": "gain"}, [1]),
            ({"from": "1", "to": "1"}, [1]),
            ({"experiment": EXPERIMENT}, [2, 1, 0]),
            ({"experiment": "none"}, []),
            ({"class": "testing"}, [2, 1, 0]),
            ({"quality": "Good"}, []),
            ({"since": began.isoformat()}, [2, 1, 0]),
            ({"until": began.isoformat()}, []),
            ({"since": (began + timedelta(days=1)).date().isoformat()}, []),
        ):
            _, found = await it.get("/api/v1/runs", params=query)
            assert [run["number"] for run in found["runs"]] == numbers, query

        _, first = await it.get("/api/v1/runs", params={"limit": "2"})
        assert [run["number"] for run in first["runs"]] == [2, 1]
        _, rest = await it.get("/api/v1/runs", params={"limit": "2", "after": first["next"]})
        assert ([run["number"] for run in rest["runs"]], rest["next"]) == ([0], None)

        status, text = await it.get("/api/v1/runs", headers={"Accept": "text/csv"})
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["number"] for row in rows] == ["2", "1", "0"]
        assert rows[1]["title"] == "'=gain scan"

        status, one = await it.get(f"/api/v1/runs/{EXPERIMENT}/2")
        assert status == 200
        assert one["previous"] == 1
        assert one["run"]["title"] == "last"
        assert [module["name"] for module in one["modules"]] == ["cobo0"]
        assert (await it.get(f"/api/v1/runs/{EXPERIMENT}/0"))[1]["previous"] is None

        # What changed in the configuration files, which came from elsewhere.
        for number, threshold in ((1, 10), (2, 12)):
            await used_config(dsn, EXPERIMENT, number, f"<a>\n<Threshold>{threshold}</Threshold>\n</a>\n")
        status, changes = await it.get(f"/api/v1/runs/{EXPERIMENT}/2/changes")
        assert (status, changes["previous"]) == (200, 1)
        (file,) = changes["files"]
        assert file["members"] == ["cobo0"]
        assert (file["before"], file["now"]) == (
            "configure-e20009.xcfg in run 1",
            "configure-e20009.xcfg in run 2",
        )
        assert file["lines"][3:] == [
            " <a>",
            "-<Threshold>10</Threshold>",
            "+<Threshold>12</Threshold>",
            " </a>",
        ]
        first = {"previous": None, "files": []}
        assert await it.get(f"/api/v1/runs/{EXPERIMENT}/0/changes") == (200, first)

        for path, status, words in (
            (f"/api/v1/runs/{EXPERIMENT}/1/changes", 422, "on record for run 0"),
            (f"/api/v1/runs/{EXPERIMENT}/7/changes", 404, "there is no run 7"),
            ("/api/v1/runs/none/0/changes", 404, "there is no run 0"),
            (f"/api/v1/runs/{EXPERIMENT}/7", 404, "there is no run 7"),
            (f"/api/v1/runs/{EXPERIMENT}/x", 422, "'x' is not a run number"),
            ("/api/v1/runs?class=nothing", 422, "is not a class; they are Testing"),
            ("/api/v1/runs?quality=nothing", 422, "is not one of Unknown"),
            ("/api/v1/runs?since=yesterday", 422, "is not a time such as"),
            ("/api/v1/runs?limit=0", 422, "from 1 to 500"),
            ("/api/v1/runs?bad=maybe", 422, "neither true nor false"),
            ("/api/v1/runs?after=x", 422, "is not where a page begins"),
            ("/api/v1/runs?order=x", 422, "there is no parameter 'order'"),
        ):
            found, problem = await it.get(path)
            assert found == status, path
            assert words in problem["detail"], problem


async def test_the_record_takes_edits_and_refuses_what_it_does_not_know(tmp_path, monkeypatch, dsn):
    section = {f"plugins.{NAME}": f'dsn = "{dsn}"'}
    async with rig(
        tmp_path, monkeypatch, cobos=1, mutant=False, plugins=given_plugins(), alone=False, **section
    ) as it:
        await connected(it)
        await it.ok("Run:Experiment", EXPERIMENT)
        await it.start_run()
        await drained(it)
        records = it.app.host.run_records
        assert records is not None
        who = Who("shift", "127.0.0.1", "127.0.0.1:1", via="web")
        changed = await records.edit(EXPERIMENT, 0, {"comment": "beam tripped", "quality": "bad"}, who)
        assert changed is not None
        assert (changed["comment"], changed["quality"]) == ("beam tripped", "Bad")
        found = await records.run(EXPERIMENT, 0)
        assert found is not None
        assert all(edit["edited_by"].startswith("shift") for edit in found["edits"])
        assert {edit["field"] for edit in found["edits"]} == {"comment", "quality"}
        assert await records.edit(EXPERIMENT, 9, {"comment": "x"}, who) is None
        for changes, words in (
            ({"number": "3"}, "a run has no text number"),
            ({}, "nothing to change"),
            ({"quality": "fine"}, "is not one of"),
            ({"run_class": "fine"}, "is not a class"),
            ({"title": "x" * 300}, "at most 200"),
        ):
            with pytest.raises(Refused, match=words):
                await records.edit(EXPERIMENT, 0, changes, who)
        await it.submit("Stop", RUN)


async def test_whoever_may_write_the_pv_edits_a_run(tmp_path, monkeypatch, dsn):
    section = {f"plugins.{NAME}": f'dsn = "{dsn}"'}
    async with web_rig(tmp_path, monkeypatch, plugins=given_plugins(), alone=False, **section) as it:
        await connected(it.rig)
        await it.rig.ok("Run:Experiment", EXPERIMENT)
        await it.rig.start_run()
        assert (await it.rig.submit("Stop", RUN)).ok
        await drained(it.rig)
        path = f"/api/v1/runs/{EXPERIMENT}/0"

        async def edit(token: str, body: object, path: str = path) -> tuple[int, dict]:
            return await it.ask("PATCH", path, json=body, headers={"Authorization": f"Bearer {token}"})

        alice, viewer = it.token("alice"), it.token("vera", Role.VIEWER)
        status, found = await edit(alice, {"comment": "<script>beam</script>", "quality": "Good"})
        assert status == 200, found
        assert found["run"]["comment"] == "<script>beam</script>"
        assert found["run"]["quality"] == "Good"
        assert {edit["edited_by"].partition("@")[0] for edit in found["edits"]} == {"alice"}
        for token, body, status, words in (
            (viewer, {"comment": "x"}, 403, "vera is viewer"),
            (alice, {"number": 3}, 422, "must be an object with texts of title"),
            (alice, {"quality": "fine"}, 422, "is not one of Unknown"),
            (alice, {}, 422, "nothing to change"),
            (alice, ["comment"], 422, "must be an object"),
        ):
            found = await edit(token, body)
            assert found[0] == status, body
            assert words in found[1]["detail"]
        assert (await edit(alice, {"comment": "x"}, f"/api/v1/runs/{EXPERIMENT}/9"))[0] == 404
        assert (await it.ask("PATCH", path, json={"comment": "x"}))[0] == 401
        assert (await it.get(path))[1]["run"]["comment"] == "<script>beam</script>"


async def test_without_a_history_that_is_said(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        status, problem = await it.get("/api/v1/runs")
        assert (status, "run_history is off" in problem["detail"]) == (503, True)


class Away:
    """A record that cannot be read."""

    @hookimpl
    def attpc_run_records(self):
        return self

    async def runs(self, which: RunQuery, limit: int, after: str = ""):
        raise RecordAway("the database does not answer")

    async def run(self, experiment: str, number: int):
        raise RecordAway("the database does not answer")

    async def config_changes(self, experiment: str, number: int, before: int):
        raise RecordAway("the database does not answer")

    async def edit(self, experiment: str, number: int, changes, who):
        raise RecordAway("the database does not answer")


async def test_a_record_that_is_away_is_said(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, plugins=[("away", Away())]) as it:
        for path in ("/api/v1/runs", "/api/v1/runs/e/1", "/api/v1/runs/e/1/changes"):
            status, problem = await it.get(path)
            assert (status, problem["detail"]) == (503, "the database does not answer")


def test_csv_has_every_field_and_no_formula():
    text = csv_of([{"number": 1, "title": "@x", "started_by": {"user": "a"}, "zz": None}])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["title"] == "'@x"
    assert json.loads(row["started_by"]) == {"user": "a"}
    assert row["zz"] == row["outcome"] == ""
    # All pages of a list have the same columns: those of the run history.
    assert {field.name for field in fields(Run)} == set(COLUMNS)
    assert csv_of([]).strip() == ",".join(COLUMNS)
