r"""Runs as CSV: one row for each run, always the same header, so that programs can rely on it.

Text is UTF-8, rows end with a line feed, fields are quoted if needed (RFC 4180), also over
several lines. Times are ISO 8601 with offset, booleans `yes` and `no`; an empty field means nothing. The last
columns hold lists as JSON (see `plain`), so that export and import lose nothing.

A spreadsheet runs a cell that begins with =, +, -, @, a tab or a carriage return as a formula. Such a cell
gets an apostrophe in front, unless it is a number; the import removes it.

A character that is not printable, such as the beginning of an escape sequence, is written as `\u001b` or
`\U000e0001`, and a backslash that would be read as the beginning of an escape as `\u005c`; the import reads
the original back. Line ends and tabs stay unchanged.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from itertools import chain
from types import NoneType
from typing import Any, TextIO, get_args, get_type_hints

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass, RunOutcome
from attpc_ioc.printable import LINES, json_text
from attpc_plugins.run_history.store.model.history import (
    ConfigUse,
    Edit,
    Event,
    Measurement,
    Module,
    Moment,
    RouterFiles,
    Run,
    RunDetail,
    Stage,
)
from attpc_plugins.run_history.store.model.values import (
    INT_MAX,
    Bad,
    class_of,
    shown,
    time_of,
    time_text,
    word_of,
)
from attpc_plugins.run_history.store.rows import WHO

from .check import PARTS, checked
from .faults import Fault, not_utf8
from .plain import from_plain, to_plain

FIELD_MAX = 1 << 28
"""The most characters of a field or line: one may be the JSON of a run with very many events."""


_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Also after apostrophes: a field that had its own keeps it."""

_ESCAPED = re.compile(r"\\(?:u[0-9a-f]{4}|U[0-9a-f]{8})")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: how a run's value is written, and how it is read (None: ignored)."""

    name: str
    write: Callable[[RunDetail], str]
    read: Callable[[str], Any] | None
    may_be_empty: bool = False
    """An empty field stands for the default."""


def _listed(name: str, kind: type[Any]) -> Column:
    def write(detail: RunDetail) -> str:
        items = getattr(in_order(detail), name)
        return json_text([to_plain(item) for item in items]) if items else ""

    def read(text: str) -> tuple[Any, ...]:
        try:
            raw = json.loads(text) if text.strip() else []
        except (ValueError, RecursionError) as error:
            raise Bad(f"is not JSON: {error}") from None
        if not isinstance(raw, list):
            raise Bad(f"{shown(raw)} is not a JSON list")
        made = []
        for index, item in enumerate(raw):
            try:
                made.append(from_plain(kind, item))
            except Bad as bad:
                raise Bad(f"entry {index + 1}: {f'{bad.column}: ' if bad.column else ''}{bad}") from None
        return tuple(made)

    return Column(name, write, read)


def number_of(text: str) -> int:
    """Return a run number; raises `Bad`."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 10:
        return int(digits)
    raise Bad(f"{shown(text)} is not a run number")


def count_of(text: str) -> int:
    """Return a count; raises `Bad`."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) <= INT_MAX:
        return int(digits)
    raise Bad(f"{shown(text)} is not a count")


def yes_no(text: str) -> bool:
    """Return a truth value; raises `Bad`."""
    word = text.strip().lower()
    if word in ("yes", "no", ""):
        return word == "yes"
    raise Bad(f"{shown(text)} is neither yes nor no")


def _duration(detail: RunDetail) -> str:
    seconds = detail.run.duration_s
    return "" if seconds is None else f"{seconds:.3f}"


NAMES = {"run_class": "class"}
"""Columns whose name differs from their field's."""

FORMS: dict[Any, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    str: (str, str),
    int: (str, number_of),
    int | None: (str, count_of),
    bool: (lambda value: "yes" if value else "no", yes_no),
    datetime: (time_text, time_of),
    RunClass: (lambda value: value.label, class_of),
}
"""How a run's fields are written and read, by type; others are words of an enumeration."""


def _columns(name: str, hint: Any) -> Iterator[Column]:
    """Yield the columns of a field of a run: three for a `Who`, otherwise one."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    (kind,) = kinds
    if kind is Who:
        for part in WHO:
            column = name if part == "user" else f"{name}_{part}"
            yield Column(column, lambda detail, part=part: getattr(getattr(detail.run, name), part), str)
        return
    words = (lambda value: value.value), (lambda text: word_of(kind, text))
    write, read = FORMS.get(hint) or FORMS.get(kind) or words
    optional = kind is not hint

    def written(detail: RunDetail) -> str:
        value = getattr(detail.run, name)
        return "" if value is None else write(value)

    def taken(text: str) -> Any:
        return None if optional and not text.strip() else read(text)

    yield Column(NAMES.get(name, name), written, taken, may_be_empty=issubclass(kind, Enum))


_FIELDS = {name: list(_columns(name, hint)) for name, hint in get_type_hints(Run).items()}
"""The columns of each field of a run."""

DETAILS = {
    "modules": Module,
    "measurements": Measurement,
    "events": Event,
    "edits": Edit,
    "files": RouterFiles,
    "configs": ConfigUse,
}
LISTS = tuple(DETAILS)
"""The columns of a run's details, as JSON."""

_BY_NAME = {
    column.name: column
    for column in (
        *chain.from_iterable(_FIELDS.values()),
        *(_listed(name, kind) for name, kind in DETAILS.items()),
        Column("duration_s", _duration, None),
        Column("members", lambda detail: " ".join(detail.members), None),
        Column("lost", lambda detail: " ".join(detail.lost), None),
    )
}

FIRST = (
    *("experiment", "number", "class", "title", "operator", "comment", "quality"),
    *("started_at", "stopped_at", "duration_s", "outcome", "reason", "members", "lost", "config_name"),
    *("stage", "reserved_at", "start_commanded_at", "last_running_at", "stop_commanded_at"),
    *("started_by", "started_by_host", "started_by_address"),
    *("stopped_by", "stopped_by_host", "stopped_by_address"),
    *("adopted", "fleet", "ioc", *LISTS),
)
"""The columns in order; never rename or move one. A new field gets its column at the end."""

HEADER = tuple(dict.fromkeys((*FIRST, *_BY_NAME)))
COLUMNS = tuple(_BY_NAME[name] for name in HEADER)


def row_text(fields: Iterable[str]) -> str:
    """Return one row of texts with its line end."""
    return _row(map(_escaped, fields))


def _row(fields: Iterable[str]) -> str:
    return ",".join(_quoted(_no_formula(field)) for field in fields) + "\n"


def _escaped(field: str) -> str:
    """Return a field with unprintable characters escaped; `_unescaped` reverses it."""
    if "\\" in field:
        field = _ESCAPED.sub(lambda found: f"\\u005c{found.group()[1:]}", field)
    if field.isprintable():
        return field
    lines = field.split("\r\n")
    return "\r\n".join(
        "".join(c if c in LINES or c.isprintable() else _code(c) for c in line) for line in lines
    )


def _code(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unescaped(field: str) -> str:
    return _ESCAPED.sub(_meant, field) if "\\" in field else field


def _meant(found: re.Match[str]) -> str:
    """Return the character of an escape; an escape that no export writes stays."""
    code = int(found.group()[2:], 16)
    if code > sys.maxunicode or (chr(code).isprintable() and chr(code) != "\\"):
        return found.group()
    return chr(code)


def _no_formula(field: str) -> str:
    """Return a field that a spreadsheet reads as text or as a number."""
    return f"'{field}" if _FORMULA.match(field) and not _NUMBER.fullmatch(field) else field


def plain_text(field: str) -> str:
    """Return the field that `row_text` was given."""
    return _unescaped(field[1:] if field.startswith("'") and _FORMULA.match(field) else field)


def _quoted(field: str) -> str:
    if any(c in field for c in ',"\r\n') or field != field.strip():
        return '"' + field.replace('"', '""') + '"'
    return field


def in_order(detail: RunDetail) -> RunDetail:
    """Return the run with its measurements, files and configurations in the order of files.

    The database has them in the order of the sheet, which may differ in another database.
    """
    found = sorted(detail.measurements, key=lambda m: (m.observable, tuple(Moment).index(m.moment)))
    members = {module.name: index for index, module in enumerate(detail.modules)}
    used = sorted(
        detail.configs,
        key=lambda use: (members.get(use.module, len(members)), use.module, PARTS.index(use.part)),
    )
    filed = sorted(detail.files, key=lambda files: files.router)
    return replace(detail, measurements=tuple(found), files=tuple(filed), configs=tuple(used))


def header_text() -> str:
    """Return the header with its line end."""
    return row_text(HEADER)


def run_text(detail: RunDetail) -> str:
    """Return a run as a row with its line end."""
    # JSON has its own escapes, which other programs read.
    return _row(
        text if column.name in LISTS else _escaped(text)
        for column in COLUMNS
        for text in [column.write(detail)]
    )


def lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream; raises `csv.Error` at one that is longer than exports have."""
    while text := stream.readline(FIELD_MAX + 1):
        if len(text) > FIELD_MAX:
            raise csv.Error(f"a line has more than {FIELD_MAX} characters")
        yield text


def rows(stream: TextIO) -> Iterator[tuple[int, list[str] | Fault]]:
    """Yield each non-empty row with the line where it begins, and a fault if the file is not CSV.

    Open the stream with `newline=""`. A fault is the last item, because the beginning of the next row is not
    known.
    """
    # The limit applies to the process; a larger one does no harm.
    csv.field_size_limit(max(FIELD_MAX, csv.field_size_limit()))
    reader = csv.reader(lines(stream), strict=True)
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, Fault(line, "", f"is not CSV: {error}")
            return
        except UnicodeDecodeError:
            fault = not_utf8(stream)
            yield fault.line, fault
            return
        if any(field.strip() for field in row):
            yield line, row
        line = reader.line_num + 1


def read_header(names: Sequence[str], line: int, *, experiment: str) -> list[Fault]:
    """Return the faults of a header; `experiment` is the one given for all runs, or empty."""
    faults = [
        Fault(line, name or f"{index + 1}", "there is no such column")
        for index, name in enumerate(names)
        if name not in _BY_NAME
    ]
    faults += [Fault(line, name, "occurs twice") for name in sorted(set(names)) if names.count(name) > 1]
    needed = ("number",) if experiment else ("experiment", "number")
    faults += [Fault(line, name, "is missing") for name in needed if name not in names]
    return faults


def read_run(names: Sequence[str], row: Sequence[str], line: int, *, experiment: str) -> RunDetail | Fault:
    """Return the run of a row, or its fault.

    Missing columns have their default; without `stage` the run has ended.
    """
    if len(row) != len(names):
        return Fault(line, "", f"has {len(row)} fields, and the header has {len(names)}")
    values: dict[str, Any] = {}
    for name, field in zip(names, row, strict=True):
        column, text = _BY_NAME[name], field if name in LISTS else plain_text(field)
        if column.read is None:
            continue
        if not text and column.may_be_empty:
            continue
        try:
            values[name] = column.read(text)
        except Bad as bad:
            return Fault(line, name, str(bad))
    lists = {name: values.pop(name, ()) for name in LISTS}
    try:
        return checked(RunDetail(_run(values, experiment), **lists))
    except Bad as bad:
        return Fault(line, bad.column, str(bad))


def _run(values: dict[str, Any], experiment: str) -> Run:
    if experiment:
        values["experiment"] = experiment
    if "stage" not in values:
        values["stage"] = Stage.ENDED
        values["outcome"] = values.get("outcome") or RunOutcome.STOPPED
    made = {}
    for name, columns in _FIELDS.items():
        if len(columns) > 1:
            made[name] = Who(*(values.get(column.name, "") for column in columns))
        elif columns[0].name in values:
            made[name] = values[columns[0].name]
    return Run(**made)
