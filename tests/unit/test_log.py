"""Lines of the log: one an event, whatever the names and texts of clients and hosts hold."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attpc_ioc import log
from attpc_ioc.log import OTHERS_LINES, OTHERS_S, JsonFormatter, KeyValueFormatter, OthersLimit

TEXTS = st.text(st.characters())
"""Any text, with surrogates that came from bytes that are no UTF-8."""


def record(**keys: object) -> logging.LogRecord:
    made = logging.LogRecord("attpc_ioc.test", logging.INFO, __file__, 1, "an event", None, None)
    made.keys = keys
    return made


def value_of(line: str, key: str) -> str:
    text = line.partition(f" {key}=")[2]
    return json.loads(text) if text.startswith('"') else text


@given(TEXTS)
@example("\x1b]0;owned\x07")
@example("\x9b31m")
@example("invoice\u202efdp.exe")
@example("two\u2028lines\x85here")
@example('a "quoted" = text')
@example("\udcff")
@example("🎯 at 4 °C")
@example("")
def test_a_line_shows_every_text_and_obeys_none(text):
    line = KeyValueFormatter().format(record(user=text))
    assert line.isprintable()
    assert value_of(line, "user") == text


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3))
@example("\x9b31m", {"\u202e": "\x00"})
def test_a_json_line_shows_every_text_and_obeys_none(text, more):
    line = JsonFormatter().format(record(user=text, more=more))
    assert line.isprintable()
    read = json.loads(line)
    assert read["user"] == text
    assert read["more"] == more


@pytest.mark.parametrize("formatter", [KeyValueFormatter(), JsonFormatter()])
def test_plain_words_stay_plain(formatter):
    line = formatter.format(record(user="gast", place="Gänge-2", limit_s=0.25))
    assert "\\u" not in line
    assert "Gänge-2" in line


def test_other_libraries_cannot_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    limit = OthersLimit()

    def written(name: str, count: int) -> list[logging.LogRecord]:
        made = [
            logging.LogRecord(name, logging.WARNING, __file__, 1, "again", None, None) for _ in range(count)
        ]
        return [one for one in made if limit.filter(one)]

    assert len(written("asyncio", 1000)) == OTHERS_LINES
    assert len(written("asyncssh", 1)) == 1
    assert len(written("attpc_ioc.app", 1000)) == 1000
    now[0] += OTHERS_S
    line = KeyValueFormatter().format(written("asyncio", 1)[0])
    assert line.endswith(f"event=again left_out_before={1000 - OTHERS_LINES}")
