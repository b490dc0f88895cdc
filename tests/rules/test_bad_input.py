"""Each refused put, with EPICS base's own program: it fails, changes nothing, sends nothing, and says why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import caproto
import pytest

from attpc_ioc.model.states import State
from tests.ca.raw import raw_client
from tests.support.ca import Ran, caget, caput
from tests.support.rig import EXPERIMENT, Rig, rig
from tests.support.trouble import shown

ECA_PUTFAIL = caproto.CAStatus.ECA_PUTFAIL.value.code_with_severity


@dataclass(frozen=True)
class Bad:
    """A put that is to be refused: how `caput` is called, and what the scope's message has to say."""

    name: str
    value: tuple[str, ...]
    because: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}={' '.join(self.value)[:24]}"


def text(name: str, value: str, because: str) -> Bad:
    return Bad(name, (value,), because, ("-S",))


LONG_TITLE = "ä" * 201
LIMIT = f"{EXPERIMENT}/{EXPERIMENT}"

REFUSED = [
    # wrong state
    Bad("Prepare", ("1",), "cobo0, cobo1, mutant: are in Idle; Prepare takes modules from Described"),
    Bad("Configure", ("1",), "are in Idle; Configure takes modules from Prepared"),
    Bad("Ecc:cobo0:Start", ("1",), "cobo0: is in Idle; Start starts from Ready"),
    Bad("Ecc:cobo0:Stop", ("1",), "cobo0: is in Idle; Stop starts from Running or Paused"),
    Bad("Ecc:cobo0:Undo", ("1",), "cobo0: is in Idle; Undo starts from Described or Prepared"),
    Bad("Ecc:mutant:Breakup", ("1",), "mutant: is in Idle; Breakup starts from Ready or Running or Paused"),
    Bad("Run:Start", ("1",), "cobo0, cobo1, mutant: are in Idle, not Ready"),
    Bad("Run:Adopt", ("1",), "no module runs without a run"),
    Bad("Abort", ("1",), "no command is running"),
    # unknown and malformed configs
    text("Config", "nope", "nothing was changed: cobo0 does not offer 'nope'"),
    text("Config", "", "does not offer ''"),
    text("Config", "<x/>&", "does not offer '<x/>&'"),
    text("Ecc:cobo0:Config", "cobo0/nope/nope", "cobo0 does not offer cobo0/nope/nope"),
    text("Ecc:cobo0:Config", f"cobo1/{LIMIT}", "another name would take over another board"),
    text("Ecc:cobo0:Config", "cobo0/e20009", "describe/prepare/configure"),
    text("Ecc:cobo0:Config", "//", "must be a word"),
    text("Ecc:cobo0:Config", f" /{LIMIT}", "must be a word"),
    text("Ecc:cobo0:Config", f"cobo0/{LIMIT}/x", "describe/prepare/configure"),
    Bad("ConfigIndex", ("99",), "there is no config 99"),
    Bad("Ecc:cobo0:ConfigIndex", ("-1",), "there is no config -1"),
    Bad("Ecc:cobo0:ConfigIndex", ("2147483647",), "there is no config 2147483647"),
    Bad("Ecc:cobo0:ConfigIndex", ("one",), "ConfigIndex"),
    # texts
    text("Run:Title", LONG_TITLE, "200"),
    text("Run:Operator", "x" * 1000, "200"),
    text("Run:Experiment", "../../etc", "cannot be an experiment's name"),
    text("Run:Experiment", "", "cannot be an experiment's name"),
    text("Run:Experiment", "a b", "cannot be an experiment's name"),
    text("Run:Experiment", "x" * 64, "cannot be an experiment's name"),
    # enums
    Bad("GoTo", ("99",), "GoTo: 99 is not the number of a label (0 to 4: None, Idle, Described, ", ("-n",)),
    Bad("Run:Class", ("5",), "Class: 5 is not the number of a label (0 to 4: Testing, ", ("-n",)),
    Bad("Ecc:cobo0:Enable", ("2",), "Enable: 2 is not the number of a label (0 to 1: No, Yes)", ("-n",)),
    # numbers
    Bad("Run:MaxDuration", ("nan",), "is not a number"),
    Bad("Run:MaxDuration", ("inf",), "is not a number"),
    Bad("Run:MaxDuration", ("-1",), "MaxDuration"),
    Bad("Run:MaxDuration", ("soon",), "MaxDuration"),
]


async def put(it: Rig, bad: Bad) -> Ran:
    return await caput(it.place, "-c", "-w", "10", "-t", *bad.options, it.prefix + bad.name, *bad.value)


def everything(it: Rig) -> object:
    """All that a refused put may not change."""
    view = it.run
    modules = tuple((m.state, m.enabled, m.selected, m.loaded) for m in it.snapshot.modules.values())
    return modules, view.state, view.experiment, view.texts, view.max_duration_s, view.number


@pytest.mark.parametrize("part", range(4))
async def test_each_refused_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        await it.ok("Run:Class", "Pulser")
        before, transitions = everything(it), it.fleet.log.transitions()
        for bad in REFUSED[part::4]:
            value = shown(it, bad.name)
            ran = await put(it, bad)
            message = (await it.message(bad.name)).replace("\\'", "'")
            assert ran.code == 1, f"{bad}: {ran.both} {message}"
            assert bad.because in message, f"{bad}: {message}"
            # The PV itself keeps value and alarm: a refusal is no alarm of the command's PV.
            assert shown(it, bad.name) == value, bad
            assert everything(it) == before, bad
        assert it.fleet.log.transitions() == transitions
        names = [it.prefix + bad.name for bad in REFUSED]
        assert (await caget(it.place, "-t", *names)).code == 0


@pytest.mark.parametrize(
    "name", ["State_RBV", "Ecc:cobo0:State_RBV", "Run:Number_RBV", "CoBo0:State_RBV", "Run:Title.DESC"]
)
async def test_readbacks_and_fields_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with rig(tmp_path, monkeypatch) as it:
        before = await it.get(name)
        ran = await put(it, Bad(name, ("1",), ""))
        assert ran.code == 1, ran.both
        assert "Write access denied" in ran.both
        assert await it.get(name) == before


async def test_an_enum_99_from_a_client_that_does_not_check(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        async with raw_client(it.place.port) as raw:
            for name in ("GoTo", "Run:Class", "Ecc:cobo0:Enable", "Describe", "Run:Start"):
                sid = (await raw.channel(it.prefix + name)).sid
                raw.send(caproto.WriteNotifyRequest((99,), caproto.ChannelType.ENUM, 1, sid, 1))
                reply = await raw.until(caproto.WriteNotifyResponse)
                assert reply.status.code_with_severity == ECA_PUTFAIL
                assert "99 is not the number of a label" in await it.message(name)
                # The PV is not poisoned: it can be read with its labels.
                assert await it.get(name) in ("None", "Testing", "Yes", "Done")
        assert it.fleet.log.transitions() == []


@pytest.mark.parametrize("name", ["GoTo", "Describe", "Run:Class", "Ecc:cobo0:Enable", "Run:Stop"])
async def test_a_string_to_an_enum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """`caput` looks at the labels itself, so it is a ruder client that gets through to the IOC."""
    async with rig(tmp_path, monkeypatch) as it:
        before = await it.get(name)
        assert (await put(it, Bad(name, ("nonsense",), ""))).code == 1
        async with raw_client(it.place.port) as raw:
            sid = (await raw.channel(it.prefix + name)).sid
            raw.send(caproto.WriteNotifyRequest([b"nonsense"], caproto.ChannelType.STRING, 1, sid, 1))
            reply = await raw.until(caproto.WriteNotifyResponse)
            assert reply.status.code_with_severity == ECA_PUTFAIL
        assert "nonsense" in await it.message(name)
        assert "is not one of" in await it.message(name)
        assert await it.get(name) == before
        assert it.fleet.log.transitions() == []


@pytest.mark.parametrize("name", ["GoTo", "Describe", "Run:MaxDuration", "ConfigIndex", "Ecc:cobo0:Start"])
async def test_an_array_to_a_scalar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """libca refuses to send it (ECA_BADCOUNT); a ruder client gets through to the IOC."""
    async with rig(tmp_path, monkeypatch) as it:
        before = await it.get(name)
        ran = await put(it, Bad(name, ("2", "1", "0"), "", ("-a",)))
        assert ran.code == 1, ran.both
        async with raw_client(it.place.port) as raw:
            sid = (await raw.channel(it.prefix + name)).sid
            raw.send(caproto.WriteNotifyRequest((1, 0), caproto.ChannelType.DOUBLE, 2, sid, 1))
            reply = await raw.until(caproto.WriteNotifyResponse)
            assert reply.status.code_with_severity == ECA_PUTFAIL
        assert "an array of 2 elements does not go into a single value" in await it.message(name)
        assert await it.get(name) == before
        assert it.fleet.log.transitions() == []


async def test_what_is_just_within_the_limits_is_taken(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        title = "ä" * 200
        assert (await it.put_text("Run:Title", title)).code == 0
        assert await it.get_text("Run:Title") == title
        assert (await it.put_text("Run:Experiment", "x" * 63)).code == 0
        await it.ok("Run:MaxDuration", "0.5")
        await it.ok("Ecc:cobo0:ConfigIndex", "0")
        await it.ok("GoTo", "None")
        await it.ok("Describe", "0")
        await it.until_all(State.IDLE)
        assert it.fleet.log.transitions() == []


async def test_a_good_put_takes_the_refusal_away(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        assert (await it.put_text("Config", "nope")).code == 1
        assert await it.get("Result_RBV") == "Refused"
        assert await it.severity("Result_RBV") == "MINOR"
        count = int(await it.get("ResultCount_RBV"))
        assert (await it.put_text("Config", EXPERIMENT)).code == 0
        assert await it.get("Result_RBV") == "Done"
        assert await it.severity("Result_RBV") == "NO_ALARM"
        assert int(await it.get("ResultCount_RBV")) == count + 1
