"""What must be right about the settings taken together: duplicates, lengths, what depends on what.

These checks read plain data and pass over whatever is not of the right type (that is another fault), so that
they also run on a file with other faults, and all faults are shown at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attpc_ioc.model.rules import STOP_ASKS_S
from attpc_ioc.model.states import Kind

from .contract import (
    LONGEST_ECC_PART,
    LONGEST_FIXED,
    LONGEST_PLUGIN_PART,
    LONGEST_SOURCE_PART,
    PV_NAME_MAX,
    STRING_MAX,
)
from .faults import Fault, Loc
from .names import default_describe, default_source_name, sender_parts
from .values import name_fault, plugin_name_fault

TOGETHER = "settings_together"
"""Type of the pydantic error that carries these faults."""

POLL_MIN_S, POLL_MAX_S = 0.005, 60
"""Range of the polling periods; what is outside is a fault of its own."""

LIMIT_MAX_S = 86400
"""The longest limit; what is outside is a fault of its own."""

FRESH_MIN_S = 0.01
"""The shortest time-out of a poll; no answer can be relied on to be younger."""

DEFAULT_PREFIX = "ATTPC:"
DEFAULT_ECC_PORT = 8083
DEFAULT_LINK_PORT = 46005


def faults_together(data: Mapping[str, Any]) -> list[Fault]:
    """Return the faults of the settings `data` (plain data, as from TOML) that no single value shows."""
    faults = list(_poll(_table(data, "poll")))
    faults += _fresh(_table(data, "limits"))
    faults += _stop(_table(data, "limits"), _table(data, "order"))
    eccs = list(_tables(data, "ecc"))
    faults += _servers(eccs)
    faults += _sources(eccs)
    for i, ecc in eccs:
        faults += _kind(i, ecc)
        for j, source in _tables(ecc, "source"):
            faults += _links(("ecc", i, "source", j), source)
    faults += _plugins(_table(data, "plugins"))
    faults += _lengths(data, eccs)
    return faults


class _Seen:
    """Values seen so far, by what counts as equal, with the key where each was seen first."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._first: dict[Any, tuple[Loc, str]] = {}

    def fault(self, loc: Loc, value: Any, shown: str) -> Iterator[Fault]:
        """Yield a fault when `value` was seen before."""
        if value not in self._first:
            self._first[value] = (loc, shown)
            return
        first, first_shown = self._first[value]
        but = "" if first_shown == shown else f" {first_shown!r} but for upper and lower case"
        yield Fault(
            loc,
            f"must be another {self._what} than {shown!r}: that is{but} at {Fault(first, '').key} already",
        )


def _servers(eccs: list[tuple[int, Mapping[str, Any]]]) -> Iterator[Fault]:
    names, places = _Seen("name"), _Seen("host and port")
    mutant: int | None = None
    for i, ecc in eccs:
        if name := _text(ecc, "name"):
            yield from names.fault(("ecc", i, "name"), name.lower(), name)
        host, port = _text(ecc, "host"), ecc.get("port", DEFAULT_ECC_PORT)
        if host and _is_int(port):
            yield from places.fault(("ecc", i, "host"), (host.lower(), port), f"{host}:{port}")
        if ecc.get("kind") == Kind.MUTANT:
            if mutant is not None:
                yield Fault(
                    ("ecc", i, "kind"),
                    f"must not be 'mutant' again: ecc[{mutant}] is the MuTAnT, and a fleet has one at most, "
                    "because it clocks and triggers all CoBos: "
                    "run control starts it last and stops it first",
                )
            else:
                mutant = i


def _sources(eccs: list[tuple[int, Mapping[str, Any]]]) -> Iterator[Fault]:
    names, ids = _Seen("name"), _Seen("sender id")
    for i, ecc in eccs:
        for j, source in _tables(ecc, "source"):
            loc: Loc = ("ecc", i, "source", j)
            sender = _text(source, "id")
            twice = list(ids.fault((*loc, "id"), sender.lower(), sender)) if sender else []
            yield from twice
            name = _text(source, "name")
            if not name and not twice and len(sender) <= STRING_MAX and sender_parts(sender):
                name = default_source_name(sender)
                if fault := name_fault(name, behind_prefix=True):
                    yield Fault(
                        (*loc, "name"), f"must be given, since the default of {sender!r} is wrong: it {fault}"
                    )
            elif twice:
                name = ""  # The default name is there twice because the id is.
            if name:
                yield from names.fault((*loc, "name"), name.lower(), name)


def _kind(i: int, ecc: Mapping[str, Any]) -> Iterator[Fault]:
    kind = ecc.get("kind", Kind.COBO)
    if not isinstance(kind, str) or kind not in list(Kind):
        return
    sources = ecc.get("source", ())
    if not isinstance(sources, Sequence) or isinstance(sources, str):
        return
    if not sources:
        yield Fault(
            ("ecc", i, "source"),
            'must have at least one board: a table [[ecc.source]] with id = "CoBo[0]" or another sender id',
        )
    ids = [_text(source, "id") for _, source in _tables(ecc, "source")]
    boards = [parts[0].lower() for sender in ids if (parts := sender_parts(sender))]
    if kind == Kind.COBO and "mutant" in boards:
        yield Fault(
            ("ecc", i, "kind"),
            "must be 'mutant', or 'other' when it drives CoBos as well: it has the MuTAnT's source",
        )
    elif kind == Kind.MUTANT and "cobo" in boards:
        yield Fault(
            ("ecc", i, "kind"), "must be 'other': a server of the kind 'mutant' drives the MuTAnT alone"
        )
    elif (
        ecc.get("describe", "") == ""
        and 0 < len(ids) == len(boards)
        and default_describe(Kind(kind), ids) is None
    ):
        yield Fault(
            ("ecc", i, "describe"),
            "must be given: only a server of the kind 'cobo' with one source CoBo[i] and the MuTAnT have a "
            "default; write the describe name, a pattern such as 'cobo*', '{experiment}', or a list of those",
        )


def _links(loc: Loc, source: Mapping[str, Any]) -> Iterator[Fault]:
    names, places = _Seen("name"), _Seen("address and port")
    links = source.get("link", ())
    if isinstance(links, list | tuple) and not links:
        yield Fault(
            (*loc, "link"),
            "must have at least one data link, a table [[ecc.source.link]] with name and address: "
            "without one Configure fails",
        )
    for k, link in _tables(source, "link"):
        if name := _text(link, "name"):
            yield from names.fault((*loc, "link", k, "name"), name.lower(), name)
        address, port = _text(link, "address"), link.get("port", DEFAULT_LINK_PORT)
        if address and _is_int(port):
            yield from places.fault((*loc, "link", k, "address"), (address, port), f"{address}:{port}")


def _poll(poll: Mapping[str, Any]) -> Iterator[Fault]:
    keys = ("moving_period_s", "quiet_period_s", "backoff_max_s")
    values = dict(zip(keys, (0.02, 0.5, 5.0), strict=True)) | dict(poll)
    for low, high in pairwise(keys):
        a, b = values[low], values[high]
        if _is_number(a) and _is_number(b) and POLL_MIN_S <= b < a <= POLL_MAX_S:
            # The fault is shown at the key that the file has.
            loc, other = (high, low) if high in poll else (low, high)
            relation = "not less than" if loc == high else "not more than"
            yield Fault(
                ("poll", loc),
                f"must be {relation} poll.{other}, which is {values[other]:g}: it is {values[loc]:g}",
            )


def _fresh(limits: Mapping[str, Any]) -> Iterator[Fault]:
    fresh = limits.get("freshness_s", 1.0)
    if _is_number(fresh) and 0 < fresh < FRESH_MIN_S:
        yield Fault(
            ("limits", "freshness_s"),
            f"must be at least {FRESH_MIN_S:g}, not {fresh:g}, or nothing but Stop is ever sent: answers "
            "take longer",
        )


def _stop(limits: Mapping[str, Any], order: Mapping[str, Any]) -> Iterator[Fault]:
    """Where the wait for earlier stages takes all the time, the last stage is never sent its Stop."""
    whole, wait = limits.get("stop_s", 30.0), limits.get("stop_mutant_s", 10.0)
    stages = order.get("stop", ("mutant", "cobo"))
    if not (_is_number(whole) and _is_number(wait) and isinstance(stages, list | tuple)):
        return
    if not 0 < wait <= LIMIT_MAX_S:
        return
    waits = len(stages) - 1
    needed = waits * wait + STOP_ASKS_S
    if not 0 < whole < needed:
        return
    why = "or the last modules are never sent Stop where the first ones hang"
    stage = "" if waits == 1 else f" for each of {waits} stages"
    if "stop_s" in limits or whole <= STOP_ASKS_S:
        of = f" (limits.stop_mutant_s{stage} and {STOP_ASKS_S:g} s)" if waits else ""
        yield Fault(("limits", "stop_s"), f"must be at least {needed:g}{of}, not {whole:g}, {why}")
    else:
        most = (whole - STOP_ASKS_S) / waits
        text = f"must be at most {most:g}, to fit{stage} into limits.stop_s ({whole:g}), not {wait:g}, {why}"
        yield Fault(("limits", "stop_mutant_s"), text)


def _plugins(plugins: Mapping[str, Any]) -> Iterator[Fault]:
    names = _Seen("name")
    for name, section in plugins.items():
        if not isinstance(name, str):
            continue
        if fault := plugin_name_fault(name):
            yield Fault(("plugins", name), fault)
        yield from names.fault(("plugins", name), name.lower(), name)
        if isinstance(section, Mapping) and not isinstance(section.get("enabled", True), bool):
            yield Fault(
                ("plugins", name, "enabled"), f"must be true or false, not {section['enabled']!r:.100}"
            )


def _lengths(data: Mapping[str, Any], eccs: list[tuple[int, Mapping[str, Any]]]) -> Iterator[Fault]:
    prefix = _table(data, "ioc").get("prefix", DEFAULT_PREFIX)
    if not isinstance(prefix, str):
        return
    longest = f"{prefix}{LONGEST_FIXED}"
    if len(longest) > PV_NAME_MAX:
        # Every other name would be too long as well: the prefix is what is wrong.
        yield _too_long(("ioc", "prefix"), longest)
        return
    for i, ecc in eccs:
        if name := _text(ecc, "name"):
            yield from _check(("ecc", i, "name"), name, f"{prefix}Ecc:{name}:{LONGEST_ECC_PART}")
        for j, source in _tables(ecc, "source"):
            if name := _text(source, "name") or default_source_name(_text(source, "id")):
                yield from _check(
                    ("ecc", i, "source", j, "name"), name, f"{prefix}{name}:{LONGEST_SOURCE_PART}"
                )
    for name in _table(data, "plugins"):
        yield from _check(("plugins", name), name, f"{prefix}Plugin:{name}:{LONGEST_PLUGIN_PART}")


def _check(loc: Loc, name: str, pv: str) -> Iterator[Fault]:
    if len(pv) > PV_NAME_MAX and len(name) <= STRING_MAX:
        yield _too_long(loc, pv)


def _too_long(loc: Loc, pv: str) -> Fault:
    over = len(pv) - PV_NAME_MAX
    also = "it" if loc[0] == "ioc" else "it or ioc.prefix"
    return Fault(
        loc,
        f"makes PV names that are too long: {pv!r:.200} has {len(pv)} characters and may have {PV_NAME_MAX}; "
        f"shorten {also} by {over}",
    )


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _tables(data: Mapping[str, Any], key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    value = data.get(key)
    if isinstance(value, list | tuple):
        yield from ((i, item) for i, item in enumerate(value) if isinstance(item, Mapping))


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or isinstance(value, float)
