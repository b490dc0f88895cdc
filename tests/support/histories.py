"""Runs of every kind, as strategies: everything that the database can hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from attpc_plugins.run_history.exchange.csv_file import in_order
from attpc_plugins.run_history.store.applying.files import digest_of
from attpc_plugins.run_history.store.model.history import (
    ConfigUse,
    Edit,
    Event,
    FramesCheck,
    Link,
    Measurement,
    Module,
    Moment,
    Quality,
    RouterFiles,
    Run,
    RunDetail,
    Stage,
)
from hypothesis import strategies as st

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass, RunOutcome

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
"""Any Unicode that PostgreSQL keeps: line ends, quotes, control characters, emoji."""

words = st.text("abcXYZ 09µ☢,;\"'=-", min_size=1, max_size=20).filter(lambda s: s == s.strip())
times = st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 30)).map(
    lambda when: when.replace(tzinfo=UTC, fold=0)
)
whos = st.builds(Who, texts, texts, texts)
values = st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.floats(), texts)
seconds = st.floats(0, 1e9)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """None, or one of the strategy."""
    return st.none() | strategy


links = st.builds(Link, words, words, texts, st.integers(0, 65535), texts)
modules = st.builds(
    Module,
    words,
    st.sampled_from(["cobo", "mutant", "other"]),
    texts,
    maybe(texts),
    maybe(texts),
    maybe(texts),
    maybe(seconds),
    st.booleans(),
    st.lists(links, max_size=2, unique_by=lambda link: (link.source, link.name)).map(
        lambda found: tuple(sorted(found, key=lambda link: (link.source, link.name)))
    ),
)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    value = draw(maybe(values))
    fault = draw(texts) if value is not None else draw(texts.filter(bool))
    return Measurement(
        draw(words),
        draw(st.sampled_from(Moment)),
        draw(times),
        value,
        draw(texts),
        draw(st.integers(0, 3)),
        draw(texts),
        draw(maybe(times)),
        draw(st.booleans()),
        fault,
        draw(texts),
    )


kinds = ["starting", "started", "degraded", "stopping", "stopped", "failed", "state", "operation"]
codes = st.integers(-(2**31) + 1, 2**31 - 1)
events = st.builds(
    Event, times, st.sampled_from(kinds), texts, texts, st.booleans(), st.booleans(), codes, maybe(seconds)
)
fields = st.sampled_from(["title", "operator", "run_class", "comment", "quality"])
edits = st.builds(Edit, fields, texts, times, texts, maybe(texts)) | st.builds(
    Edit, st.just("value"), texts, times, texts, maybe(texts), words
)


counts = st.integers(0, 2**62)
figures = (maybe(counts), maybe(counts), maybe(counts), maybe(counts), texts)
files = st.builds(
    RouterFiles,
    words,
    words,
    times,
    st.lists(words, max_size=2).map(tuple),
    counts,
    counts,
    texts,
    texts,
    texts,
    *figures,
    maybe(counts),
    maybe(counts),
    maybe(counts),
    st.sampled_from([check for check in FramesCheck if check is not FramesCheck.INCOMPLETE]),
)


@st.composite
def configs(draw: st.DrawFn) -> ConfigUse:
    """A configuration file of a run, as the store gives it: without its text."""
    part = draw(st.sampled_from(["describe", "prepare", "configure"]))
    use = ConfigUse(draw(words), part, draw(texts), draw(times))
    if draw(st.booleans()):
        return replace(use, fault=draw(texts.filter(bool)))
    source = draw(st.sampled_from(["file", "reply"]))
    return replace(use, source=source, sha256=digest_of(draw(texts)))


@st.composite
def run_details(draw: st.DrawFn) -> RunDetail:
    """A run at any stage of its life, as a database gives it."""
    stage = draw(st.sampled_from([s for s in Stage if s is not Stage.RESERVED]))
    started = draw(
        times if stage is Stage.RUNNING else st.none() if stage is Stage.STARTING else maybe(times)
    )
    run = Run(
        draw(words),
        draw(st.integers(0, 2**31 - 1)),
        stage,
        draw(st.sampled_from(RunClass)),
        draw(texts),
        draw(texts),
        draw(texts),
        draw(st.sampled_from(Quality)),
        draw(texts),
        draw(texts),
        draw(times),
        draw(maybe(times)),
        started,
        draw(maybe(times)),
        draw(maybe(times)),
        draw(maybe(times)) if stage is Stage.ENDED else None,
        draw(whos),
        draw(whos),
        draw(st.sampled_from(RunOutcome)) if stage is Stage.ENDED else None,
        draw(texts),
        draw(st.booleans()),
        draw(texts),
        draw(words),
        *map(draw, figures),
        draw(maybe(counts)),
        draw(st.sampled_from(FramesCheck)),
    )
    found = draw(st.lists(measurements(), max_size=3, unique_by=lambda m: (m.observable, m.moment)))
    return in_order(
        RunDetail(
            run,
            tuple(draw(st.lists(modules, max_size=2, unique_by=lambda m: m.name))),
            tuple(found),
            tuple(sorted(draw(st.lists(events, max_size=2)), key=lambda e: e.happened_at)),
            tuple(sorted(draw(st.lists(edits, max_size=2)), key=lambda e: e.edited_at)),
            tuple(draw(st.lists(files, max_size=2, unique_by=lambda f: f.router))),
            tuple(draw(st.lists(configs(), max_size=3, unique_by=lambda c: (c.module, c.part)))),
        )
    )
