"""The runs of the record that a plugin keeps, such as the run history: lists, one run, and its texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, ValidationError

from attpc_ioc.errors import RecordAway, Refused
from attpc_ioc.model.run import RunQuery
from attpc_ioc.plugin import PluginContext
from attpc_ioc.plugin.contract import RunRecords

from .operations import Operation, Parameter, packed
from .problems import Problem, json_body
from .query import moment, switch, whole
from .rights import CSRF_HEADER, Caller, Rights, caller_of

PAGE = 50
MOST = 500
"""Runs of a page, if not asked for others, and at most."""

LAST = 2**31 - 1
"""The highest run number."""

CSV = "text/csv"
COLUMNS = (
    *("experiment", "number", "stage", "outcome", "title", "started_at", "stopped_at"),
    *("operator", "run_class", "quality", "comment", "config_name", "fleet", "ioc", "reason", "adopted"),
    *(
        "reserved_at",
        "start_commanded_at",
        "last_running_at",
        "stop_commanded_at",
        "started_by",
        "stopped_by",
    ),
    *("event_count", "missing_events", "unequal_events", "resets", "damaged_frames", "sync"),
    *("files_state", "frames_check"),
)
"""The columns of CSV, on every page; what else a record has follows by name."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
HARMLESS = "'"
"""Before a text that a spreadsheet would take for a formula."""


class Runs(BaseModel):
    """A page of runs, the newest first: objects as `attpc-ioc history list --format json` prints them."""

    model_config = ConfigDict(extra="forbid")

    runs: list[dict[str, Any]]
    next: str | None
    """`after` of the next page; null on the last."""


class RunOfRecord(BaseModel):
    """A run, as `attpc-ioc history show --format json` prints it."""

    model_config = ConfigDict(extra="allow")

    run: dict[str, Any]
    previous: int | None
    """The number of the run before it in the experiment."""


class ConfigFileChange(BaseModel):
    """A configuration file that is not what it was."""

    model_config = ConfigDict(extra="forbid")

    members: list[str]
    """The modules that used it."""
    before: str
    """What the run before had, in words."""
    now: str
    note: str
    """What to know of the difference, or empty."""
    lines: list[str]
    """A unified diff."""


class RunDifference(BaseModel):
    """What is different in the configuration files from the run before it in the experiment."""

    model_config = ConfigDict(extra="forbid")

    previous: int | None
    """The number of that run; null if there is none."""
    files: list[ConfigFileChange]


class RunChange(BaseModel):
    """What changes of a run; what is not given stays."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = None
    operator: str | None = None
    run_class: str | None = None
    comment: str | None = None
    quality: str | None = None


PV_OF = {
    "title": "Run:Title",
    "operator": "Run:Operator",
    "run_class": "Run:Class",
    "comment": "Run:Comment",
    "quality": "Run:Quality",
}
"""Who may write this PV may also change the text of a run on record."""

_FIELDS = {
    "experiment": "The name of an experiment.",
    "text": "Words of title, operator or comment.",
    "class": "A run class, such as Beam.",
    "quality": "Unknown, Good, Bad or Partial.",
    "since": "Started at or after this: ISO 8601; without a zone it is UTC.",
    "until": "Started before this.",
}


class RunPages:
    """The operations on runs."""

    def __init__(self, ctx: PluginContext, rights: Rights) -> None:
        self._ctx = ctx
        self._rights = rights

    def operations(self, api: str) -> tuple[Operation, ...]:
        """Return what the API can do with runs."""
        number = {"type": "integer", "minimum": 0}
        named = (
            Parameter("experiment", "Its experiment.", "path"),
            Parameter("number", "Its number.", "path", number),
        )
        which = (
            *(Parameter(name, about) for name, about in _FIELDS.items()),
            Parameter("bad", "Only runs that somebody should look at.", schema={"type": "boolean"}),
            Parameter("from", "The lowest run number.", schema=number),
            Parameter("to", "The highest run number.", schema=number),
            Parameter("limit", "Runs of a page.", schema={"type": "integer", "minimum": 1, "maximum": MOST}),
            Parameter("after", "`next` of the page before."),
        )
        return (
            Operation(
                "GET",
                f"{api}/runs",
                self.runs,
                "Runs of the record, the newest first; CSV if text/csv is accepted rather than JSON",
                {200: Runs},
                parameters=which,
                problems=(422, 503),
            ),
            Operation(
                "GET",
                f"{api}/runs/{{experiment}}/{{number}}",
                self.run,
                "One run: conditions, members, measurements, files, configurations, events, edits",
                {200: RunOfRecord},
                parameters=named,
                problems=(404, 422, 503),
            ),
            Operation(
                "GET",
                f"{api}/runs/{{experiment}}/{{number}}/changes",
                self.changes,
                "How its configuration files differ from those of the run before it",
                {200: RunDifference},
                parameters=named,
                problems=(404, 422, 503),
            ),
            Operation(
                "PATCH",
                f"{api}/runs/{{experiment}}/{{number}}",
                self.edit,
                "Change texts of a run; whoever may write Run:Comment may change its comment, and so on",
                {200: RunOfRecord},
                body=RunChange,
                parameters=(*named, Parameter(CSRF_HEADER, "For a session's cookie.", "header")),
                problems=(401, 403, 404, 408, 413, 415, 422, 503),
            ),
        )

    @property
    def records(self) -> RunRecords:
        """The record; a `Problem` without one."""
        if self._ctx.run_records is None:
            raise no_records()
        return self._ctx.run_records

    async def runs(self, request: web.Request) -> web.Response:
        """Return a page of runs."""
        query = request.query
        known = {*_FIELDS, "bad", "from", "to", "limit", "after"}
        if unknown := sorted(set(query) - known):
            raise Problem(422, f"there is no parameter {unknown[0]!r}; there are {', '.join(sorted(known))}")
        try:
            limit = whole(query, "limit", 1, MOST) or PAGE
            found, after = await self.records.runs(_query(query), limit, query.get("after", ""))
        except Refused as error:
            raise Problem(422, str(error)) from None
        except RecordAway as error:
            raise Problem(503, str(error)) from None
        if _wants_csv(request):
            headers = {"X-Next": after} if after else {}
            return web.Response(text=csv_of(found), content_type=CSV, charset="utf-8", headers=headers)
        return web.json_response({"runs": found, "next": after or None})

    async def run(self, request: web.Request) -> web.Response:
        """Return one run."""
        return await self._answer(*named_run(request))

    async def changes(self, request: web.Request) -> web.Response:
        """Return what is different in the configuration files."""
        experiment, number = named_run(request)
        try:
            before = await self._before(experiment, number)
            if before is not None:
                found = await self.records.config_changes(experiment, number, before)
            else:
                found = None if await self.records.run(experiment, number) is None else []
        except Refused as error:
            raise Problem(422, str(error)) from None
        except RecordAway as error:
            raise Problem(503, str(error)) from None
        if found is None:
            raise no_run(experiment, number)
        return packed({"previous": before, "files": found})

    async def edit(self, request: web.Request) -> web.Response:
        """Change texts of a run, and return it."""
        experiment, number = named_run(request)
        caller = caller_of(request)
        self._rights.check_write(request, caller)
        try:
            changes = RunChange.model_validate(await json_body(request)).model_dump(exclude_none=True)
        except ValidationError:
            raise Problem(422, f"the body must be an object with texts of {', '.join(PV_OF)}") from None
        caller = self._rights.now(caller)  # the body may have taken long
        self._rights.check_write(request, caller)
        for field in changes:
            self._check(caller, field)
        try:
            found = await self.records.edit(experiment, number, changes, caller.who)
        except Refused as error:
            raise Problem(422, str(error)) from None
        except RecordAway as error:
            raise Problem(503, str(error)) from None
        if found is None:
            raise no_run(experiment, number)
        return await self._answer(experiment, number)

    def _check(self, caller: Caller, field: str) -> None:
        pvs = self._ctx.pvs
        entry = pvs.table.get(f"{self._ctx.prefix}{PV_OF[field]}")
        if entry is None:
            raise no_records()
        self._rights.check_role(caller, entry)
        if not pvs.may_write(entry.name, caller.who):
            raise Problem(403, f"{entry.name}: no write access, so the {field} of a run cannot be changed")

    async def _answer(self, experiment: str, number: int) -> web.Response:
        try:
            found = await self.records.run(experiment, number)
            before = await self._before(experiment, number) if found is not None else None
        except RecordAway as error:
            raise Problem(503, str(error)) from None
        if found is None:
            raise no_run(experiment, number)
        return web.json_response(found | {"previous": before})

    async def _before(self, experiment: str, number: int) -> int | None:
        if number == 0:
            return None
        which = RunQuery(experiment=experiment, number_to=number - 1)
        found, _ = await self.records.runs(which, 1)
        return found[0]["number"] if found else None


def no_records() -> Problem:
    """Return the answer where no plugin keeps a record."""
    return Problem(503, "no plugin keeps a record of runs: run_history is off or not installed")


def no_run(experiment: str, number: int) -> Problem:
    """Return the answer where there is no such run."""
    return Problem(404, f"there is no run {number} of experiment {experiment!r}")


def named_run(request: web.Request) -> tuple[str, int]:
    """Return the experiment and number of a path; raises `Problem`."""
    text = request.match_info["number"]
    if not (text.isascii() and text.isdigit() and int(text) < 2**31):
        raise Problem(422, f"{text!r} is not a run number")
    return request.match_info["experiment"], int(text)


def _query(query: Mapping[str, str]) -> RunQuery:
    return RunQuery(
        experiment=query.get("experiment", ""),
        text=query.get("text", ""),
        run_class=query.get("class", ""),
        quality=query.get("quality", ""),
        since=moment(query, "since"),
        until=moment(query, "until"),
        number_from=whole(query, "from", 0, LAST),
        number_to=whole(query, "to", 0, LAST),
        bad=switch(query, "bad"),
    )


def _wants_csv(request: web.Request) -> bool:
    accepted = request.headers.get(hdrs.ACCEPT, "")
    return CSV in accepted and "json" not in accepted


def csv_of(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return runs as CSV with a header; nested values are JSON, and no cell is a formula."""
    columns = (*COLUMNS, *sorted({name for run in runs for name in run} - set(COLUMNS)))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for run in runs:
        writer.writerow([_cell(run.get(name)) for name in columns])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    return HARMLESS + value if value.startswith(FORMULA) else value
