"""Manifests, the entries of closings and whose files are whose: what needs no host."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.closings import CLOSING, Closing, ClosingBusy, Phase
from attpc_plugins.data_routers.closing.manifest import Manifest, ManifestError
from attpc_plugins.data_routers.closing.rows import WORST_FIRST, closing_rows
from attpc_plugins.data_routers.closing.steps import Quiet, amount, names_text
from attpc_plugins.data_routers.closing.whose import own_files, settle
from attpc_plugins.data_routers.commands.verify import differences
from attpc_plugins.data_routers.model import CloseState, FileEntry
from hypothesis import given
from hypothesis import strategies as st

from attpc_ioc.errors import StateDirError
from attpc_ioc.model import outside
from attpc_ioc.model.run import RunRef
from tests.support.closings import closings_in, entries_of
from tests.support.state_dir import make_unwritable, make_writable, put_row

NAMES = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda raw: not {0, ord("/")} & set(raw) and raw not in (b".", b".."))
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
TIMES = st.floats(min_value=0, max_value=outside.LATEST_S)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
RUNS = st.builds(
    RunRef, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True), st.integers(0, 2**31 - 1)
)
FILES = st.lists(
    st.builds(
        FileEntry,
        NAMES,
        st.integers(0, 2**60),
        TIMES,
        st.sampled_from(["", "0" * 64, "0123456789abcdef" * 4]),
    ),
    max_size=6,
    unique_by=lambda file: file.name,
).map(lambda files: tuple(sorted(files, key=lambda file: file.name)))
MANIFESTS = st.builds(
    Manifest,
    run=RUNS,
    router=TEXTS,
    sources=st.lists(TEXTS, max_size=3).map(tuple),
    files=FILES,
    closed_s=TIMES,
    began_s=st.none() | TIMES,
    started_s=st.none() | TIMES,
    stopped_s=st.none() | TIMES,
    missing=st.lists(NAMES, max_size=3, unique=True).map(sorted).map(tuple),
    note=TEXTS,
    closing=TEXTS,
    idle=st.lists(TEXTS, max_size=3).map(tuple),
)


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(made):
    raw = manifest.dump(made)
    assert manifest.load(raw, "here") == made
    assert manifest.dump(manifest.load(raw, "here")) == raw
    json.loads(raw.decode("utf-8"))


GOOD = json.loads(
    manifest.dump(
        Manifest(RunRef("e20009", 42), "CoBo0", ("CoBo0",), (FileEntry("a.graw", 3, 4.0, "0" * 64),), 5.0)
    )
)


def without(key: str) -> dict:
    return {k: v for k, v in GOOD.items() if k != key}


def file_with(**fields: object) -> dict:
    return GOOD | {"files": [GOOD["files"][0] | fields]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (GOOD | {"version": 2}, "version"),
        (GOOD | {"more": 1}, "more: Extra inputs"),
        (without("files"), "files: Field required"),
        (GOOD | {"run": -1}, "run: "),
        (GOOD | {"run": "42"}, "run: "),
        (GOOD | {"experiment": "../x"}, "experiment: '../x' cannot be"),
        (file_with(name="a/b"), "files[0].name: must be the name of a file"),
        (file_with(name="a\0b"), "files[0].name"),
        (file_with(name_bytes="2f"), "files[0].name_bytes"),
        (file_with(name_bytes="zz"), "files[0].name_bytes"),
        (file_with(size=-1), "files[0].size"),
        (file_with(size=1.5), "files[0].size"),
        (file_with(sha256="00"), "files[0].sha256"),
        (file_with(more=1), "files[0].more"),
        (GOOD | {"files": GOOD["files"] * 2}, "'a.graw' is there more than once"),
        (GOOD | {"missing": [{}]}, "missing[0].name: Field required"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_with_file_and_key(document, said):
    with pytest.raises(ManifestError) as error:
        manifest.load(json.dumps(document).encode(), "/data/run_0042/manifest.json")
    assert f"/data/run_0042/manifest.json: {said}" in str(error.value) or said in str(error.value)
    assert str(error.value).startswith("/data/run_0042/manifest.json: ")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff", "byte 1: is not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"version": 1', "is not JSON"),
        (manifest.dump(manifest.load(json.dumps(GOOD).encode(), ""))[:-5], "is not JSON"),
        (json.dumps(GOOD | {"closed_s": math.nan}).encode(), "closed_s"),
    ],
)
def test_what_is_no_manifest_is_said(raw, said):
    with pytest.raises(ManifestError, match=said):
        manifest.load(raw, "here")


def test_differences_are_reported_by_name():
    files = (FileEntry("a", 1, 0.0, "0" * 64), FileEntry("b", 2, 0.0), FileEntry("c", 3, 0.0))
    record = Manifest(RunRef("e", 1), "CoBo0", (), files, 0.0)
    assert list(differences(record, files, RunRef("e", 1), "CoBo0")) == []
    there = (FileEntry("a", 1, 9.0, "1" * 64), FileEntry("b", 20, 9.0), FileEntry("d", 1, 0.0))
    assert list(differences(record, there, RunRef("e", 2), "CoBo1")) == [
        "the manifest belongs to e/run_0001 of CoBo0",
        "missing: c",
        "not in the manifest: d",
        "a: its SHA-256 differs from the manifest, its contents have changed",
        "b: 20 bytes, 2 in the manifest",
    ]


# ---------------------------------------------------------------------------- entries


ENTRIES = st.builds(
    Closing,
    run=RUNS,
    router=st.text(st.characters(codec="ascii"), min_size=1, max_size=10),
    sources=st.lists(TEXTS, max_size=2).map(tuple),
    phase=st.sampled_from(Phase),
    began_s=TIMES,
    started_s=st.none() | TIMES,
    stopped_s=st.none() | TIMES,
    settled=st.booleans(),
    before=st.none() | st.dictionaries(NAMES, st.none() | st.integers(0, 2**60), max_size=4),
    chosen=st.dictionaries(NAMES, st.integers(0, 2**60), max_size=4),
    frozen=st.booleans(),
    mixed=TEXTS,
    accepted=st.frozensets(NAMES, max_size=3),
    streams=st.frozensets(NAMES, max_size=3),
    late=st.dictionaries(NAMES, st.integers(0, 2**60), max_size=3),
    asked=st.booleans(),
    base_bytes=st.integers(0, 2**60),
    state=st.sampled_from(CloseState),
    message=TEXTS,
    reported=TEXTS,
)


@given(ENTRIES)
def test_an_entry_is_read_as_it_was_written(entry):
    assert CLOSING.validate_python(json.loads(json.dumps(CLOSING.dump_python(entry, mode="json")))) == entry


def entry_of(number: int, **fields) -> Closing:
    made = Closing(RunRef("e20009", number), "CoBo0", ("CoBo0",), Phase.CLOSING, began_s=float(number))
    return replace(made, **fields)


async def test_entries_are_there_after_a_restart(tmp_path):
    odd = entry_of(2, chosen={"\udcff%41.graw": 7}, before={"caf\xe9": 3, "a%": None})
    async with closings_in(tmp_path) as closings:
        await closings.save(odd)
        await closings.save(entry_of(1))
        await closings.save(entry_of(3))
        closings.remove(entry_of(3))
    async with closings_in(tmp_path) as closings:
        assert [entry.run.number for entry in closings.of("CoBo0")] == [1, 2]
        assert closings.of("CoBo1") == ()
        found = closings.find(odd.run, "CoBo0")
        assert found is not None
        assert (found.chosen, found.before) == (odd.chosen, odd.before)
        assert closings.fault == ""


@pytest.mark.parametrize("raw", ["", "{}", "[]", '{"run": 9}', "[" * 100_000])
async def test_a_damaged_entry_is_said_and_others_count(tmp_path, raw):
    async with closings_in(tmp_path) as closings:
        await closings.save(entry_of(1))
        await closings.save(entry_of(2))
    put_row(tmp_path, "data_routers/closings", "e20009/run_0001 CoBo0", raw)
    async with closings_in(tmp_path) as closings:
        assert [entry.run.number for entry in closings.of("CoBo0")] == [2]
        assert "e20009/run_0001 CoBo0 is damaged" in closings.fault
        assert "by hand" in closings.fault
        await closings.save(entry_of(1))
        assert closings.fault == ""


async def test_a_loss_is_said_until_the_end_of_the_program(tmp_path):
    async with closings_in(tmp_path) as closings:
        await closings.save(entry_of(1))
    (tmp_path / "state.db").write_bytes(b"no database at all" * 1000)
    for name in ("state.db-wal", "state.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    async with closings_in(tmp_path) as closings:
        assert closings.of() == ()
        assert "closings may be missing: " in closings.fault
        assert "damaged" in closings.fault
    async with closings_in(tmp_path) as closings:
        assert closings.fault == ""


async def test_what_cannot_be_written_is_as_before(tmp_path):
    folder = tmp_path / "state"
    async with closings_in(folder) as closings:
        await closings.save(entry_of(1))
        make_unwritable(folder)
        with pytest.raises(StateDirError):
            await closings.save(entry_of(1, asked=True))
        with pytest.raises(StateDirError):
            await closings.save(entry_of(2))
        (entry,) = closings.of()
        assert not entry.asked
        make_writable(folder)
        await closings.save(entry_of(1, asked=True))
    assert [entry.asked for entry in entries_of(folder)] == [True]


async def test_one_holder_of_a_router_at_a_time(tmp_path):
    async with closings_in(tmp_path) as closings:
        async with closings.locked("CoBo0", 1.0):
            with pytest.raises(ClosingBusy, match="files of CoBo0 are being closed"):
                async with closings.locked("CoBo0", 0.05):
                    raise AssertionError
            async with closings.locked("CoBo1", 1.0):
                pass
        async with closings.locked("CoBo0", 1.0):
            pass


# ---------------------------------------------------------------------------- whose files are whose


def listed(*names: str) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name, 1, 0.0) for name in names)


def own(entry: Closing, entries, *names: str) -> set[str]:
    return {file.name for file in own_files(entry, entries, listed(*names))}


def test_strays_are_nobodys():
    (one,) = settle([entry_of(1)], listed("stray"), early=True)
    assert own(one, [one], "stray", "mine") == {"mine"}


def test_a_stray_that_grows_in_a_run_belongs_to_it():
    before = {"stray": 1, "still": 1, "of an earlier version": None}
    one = entry_of(1, settled=True, before=before)
    files = tuple(
        FileEntry(name, size, 0.0)
        for name, size in (("stray", 2), ("still", 1), ("of an earlier version", 9))
    )
    assert [file.name for file in own_files(one, [one], files)] == ["stray"]
    earlier = entry_of(0, phase=Phase.DROPPED, chosen={"stray": 1})
    assert own_files(one, [earlier, one], files) == (), "it is known to be an earlier run's"


def test_a_closing_of_an_earlier_version_is_read():
    """It has the names of the files from before the run without their sizes."""
    kept = CLOSING.dump_python(entry_of(1, before={"a%.graw": None}), mode="json")
    del kept["streams"], kept["late"]
    (name,) = kept["before"]
    read = CLOSING.validate_python(kept | {"before": [name]})
    assert read == entry_of(1, before={"a%.graw": None}, token=read.token)


def test_what_is_there_when_the_next_run_begins_is_the_earlier_runs():
    one = entry_of(1, settled=True, before={"stray": 1})
    one, two = settle([one, entry_of(2)], listed("stray", "first"), early=True)
    both = [one, two]
    assert own(one, both, "stray", "first", "second") == {"first"}
    assert own(two, both, "stray", "first", "second") == {"second"}
    assert (one.mixed, two.mixed) == ("", "")


def test_three_runs_each_have_their_own():
    entries = (entry_of(1),)
    there: list[str] = []
    for number in (1, 2, 3):
        if number > 1:
            entries = (*entries, entry_of(number))
        entries = settle(entries, listed(*there), early=True)
        there.append(f"file {number}")
    for number in (1, 2, 3):
        assert own(entries[number - 1], entries, *there) == {f"file {number}"}


def test_a_host_that_answers_late_and_has_nothing_is_no_fault():
    one, two = settle([entry_of(1, settled=True), entry_of(2)], (), early=False)
    assert (one.frozen, one.chosen, two.before, two.mixed) == (True, {}, {}, "")


def test_late_and_alone_all_is_the_runs():
    (one,) = settle([entry_of(1)], listed("a"), early=False)
    assert (one.settled, one.before) == (True, None)
    assert own(one, [one], "a", "b") == {"a", "b"}


def test_late_and_with_an_earlier_one_nobody_can_tell():
    one, two = settle([entry_of(1, settled=True), entry_of(2)], listed("a"), early=False)
    for entry in (one, two):
        assert "files of runs 1, 2 may be mixed" in entry.mixed
        assert "--only" in entry.mixed


def test_two_that_were_never_listed_are_mixed_and_the_third_is_not():
    one, two, three = settle([entry_of(1), entry_of(2), entry_of(3)], listed("a"), early=True)
    assert one.mixed
    assert two.mixed
    assert not three.mixed
    assert own(three, [one, two, three], "a", "b") == {"b"}


# ---------------------------------------------------------------------------- quiet, names, rows


@given(st.lists(st.tuples(st.floats(0.01, 5), st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)))))
def test_quiet_is_the_time_since_the_last_change(steps):
    quiet, now_s, since_s, last = Quiet(), 100.0, 100.0, None
    for passed_s, sizes in steps:
        now_s += passed_s
        if last is None or sizes != last:
            since_s = now_s
        last = sizes
        assert quiet.see(sizes, now_s) == pytest.approx(now_s - since_s)


def test_the_restless_are_named():
    quiet = Quiet()
    quiet.see({"still": 1, "grows": 1, "goes": 1}, 0.0)
    quiet.see({"still": 1, "grows": 2}, 10.0)
    assert quiet.restless(5.0, 11.0) == ("goes", "grows")
    assert quiet.restless(5.0, 20.0) == ()


def test_names_in_messages_are_harmless_and_few():
    assert names_text(["b", "a"]) == "a, b"
    assert names_text(["x\ny", "\udcff"]) == "'x\\ny', '\\udcff'"
    assert names_text([str(n) for n in range(9)]) == "0, 1, 2, 3, 4 and 4 more"
    assert names_text([*(str(n) for n in range(9)), "b\udcff"]) == "'b\\udcff', 0, 1, 2, 3 and 5 more"


def test_amounts_are_in_the_unit_that_fits():
    assert [
        amount(n, size) for n, size in ((0, 0), (1, 999), (2, 90800), (3, 11_900_000), (4, 1_500_000_000_000))
    ] == [
        "0 files, 0 bytes",
        "1 file, 999 bytes",
        "2 files, 90.8 kB",
        "3 files, 11.9 MB",
        "4 files, 1500 GB",
    ]


def test_the_rows_know_every_state():
    assert set(WORST_FIRST) == set(CloseState)
    for row in closing_rows():
        assert len(row.desc) <= 40
        assert not row.severities or row.guidance
        assert not row.labels or len(row.labels) in (2, len(CloseState))
