"""The rules of an access security file: as EPICS base itself reads them, and a clear word where not."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attpc_ioc.access import AccessFileError, Right, parse_rules, read_rules
from attpc_ioc.access.file import SIZE_MAX_BYTES
from tests.access import aslib
from tests.support.thorough import examples

FUZZ = settings(max_examples=examples(100, 300), deadline=None, suppress_health_check=[HealthCheck.too_slow])

USERS, HOSTS = ("ann", "bob", "eve d", ""), ("console1", "Console2", "10.0.0.7", "")
GROUPS = ("DEFAULT", "OPERATOR", "EXPERT", "none of these")


def faults(text: str) -> list[str]:
    with pytest.raises(AccessFileError) as caught:
        parse_rules(text, "f.acf")
    assert str(caught.value) == "\n".join(f"f.acf: {fault}" for fault in caught.value.faults)
    return caught.value.faults


# ---------------------------------------------------------------------- as EPICS base

_names = st.sampled_from(["a", "UAGs", "INPA1", "x-1", '"quoted name"', "a.b:c;d[0]<e>", "CALCULUS"])
_list = st.lists(_names, min_size=1, max_size=3, unique=True).map(",".join)


def _quoted(texts: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(texts), min_size=1, max_size=3).map(
        lambda chosen: ", ".join(f'"{text}"' for text in chosen)
    )


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file that EPICS base takes."""
    uags = draw(st.lists(_names, max_size=3, unique=True))
    hags = draw(st.lists(_names, max_size=3, unique=True))
    parts = [f"UAG({name}) {{ {draw(_quoted(USERS))} }}" for name in uags]
    parts += [f"HAG({name}) {{ {draw(_quoted(HOSTS)).upper()} }}\n" for name in hags]
    for group in draw(st.lists(st.sampled_from(GROUPS[:3]), min_size=1, max_size=3, unique=True)):
        rules = ""
        for _ in range(draw(st.integers(0, 4))):
            level, right = draw(st.integers(0, 1)), draw(st.sampled_from(["NONE", "READ", "WRITE"]))
            option = draw(st.sampled_from(["", ", TRAPWRITE", ",NOTRAPWRITE"]))
            conditions = ""
            if uags and draw(st.booleans()):
                conditions += (
                    f"UAG({','.join(draw(st.lists(st.sampled_from(uags), min_size=1, max_size=2)))})"
                )
            if hags and draw(st.booleans()):
                conditions += f" HAG({draw(st.sampled_from(hags))})"
            body = f" {{ {conditions} }} # so it is" if conditions else ""
            rules += f"\n  RULE({level},{right}{option}){body}"
        parts.append(f"ASG({group}) {{{rules}\n}}" if rules else f"ASG({group})")
    return "\n".join(parts)


@FUZZ
@given(files())
def test_everybody_has_the_rights_that_epics_base_gives(text: str) -> None:
    assert aslib.takes(text)
    rules = parse_rules(text, "f.acf")
    for group, level, user, host in product(GROUPS, (0, 1), USERS, HOSTS):
        mine = rules.right(group, level, user, host)
        assert mine == aslib.right(group, level, user, host), (group, level, user, host)


_KEYWORDS = "UAG HAG ASG RULE INPA CALC METHOD READ WRITE TRAPWRITE DEFAULT a b 0 1 1.5 -7 INPZ"
_SIGNS = ("(", ")", "{", "}", ",", '"', '"a b"', "#", "\n", "é", "\\", "$")
_words = st.sampled_from((*_KEYWORDS.split(" "), *_SIGNS))


@FUZZ
@given(st.one_of(files().flatmap(lambda text: _damaged(text)), st.lists(_words, max_size=30).map(" ".join)))
def test_what_epics_base_refuses_is_refused_here_with_its_place(text: str) -> None:
    try:
        parse_rules(text, "f.acf")
    except AccessFileError as error:
        lines = text.split("\n")
        for fault in error.faults:
            place = re.match(r"line (\d+), column (\d+): ", fault)
            assert place, fault
            line, column = int(place[1]), int(place[2])
            assert 1 <= column <= len(lines[line - 1]) + 1, fault
    else:
        assert aslib.takes(text)


def _damaged(text: str) -> st.SearchStrategy[str]:
    def damage(cut: tuple[int, int], put_in: str) -> str:
        return text[: min(cut)] + put_in + text[max(cut) :]

    places = st.integers(0, len(text))
    return st.builds(damage, st.tuples(places, places).map(_near), _words)


def _near(cut: tuple[int, int]) -> tuple[int, int]:
    return cut[0], min(cut[0] + 3, cut[1]) if cut[1] > cut[0] else cut[0]


@FUZZ
@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda raw: raw.decode("latin-1"))))
def test_any_text_is_taken_or_refused(text: str) -> None:
    found = [""]
    try:
        parse_rules(text, "f.acf")
    except AccessFileError as error:
        found = error.faults
    assert found
    assert all(fault.isprintable() for fault in found)


# ---------------------------------------------------------------------- what is said of a fault

RULE = "ASG(A) {{ RULE(1, READ) {{ {} }} }}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1, column 1: there is no ASG"),
        ("UAG(a)\n", "line 1, column 1: there is no ASG"),
        ("ASG(A) {\n  INPA(some:pv)\n}", "line 2, column 3: INP is not supported"),
        (RULE.format('CALC("A=1")'), "line 1, column 26: CALC is not supported: rules that depend on PVs"),
        (
            RULE.format('METHOD("x509")'),
            "line 1, column 26: METHOD is not supported: Channel Access does",
        ),
        (RULE.format("AUTHORITY(x)"), "line 1, column 26: AUTHORITY is not supported"),
        (RULE.format("PROTOCOL(TLS)"), "line 1, column 26: PROTOCOL is not supported"),
        (RULE.format("UAG(x)"), "line 1, column 30: there is no UAG of the name x before this rule"),
        (RULE.format("FOO(x)"), "UAG expected, not 'FOO'"),
        ("ASG(A) { RULE(2, READ) }", "line 1, column 15: the level of a rule is 0 or 1, not 2"),
        ("ASG(A) { RULE(1, WRIT) }", "line 1, column 18: a rule gives NONE, READ or WRITE, not 'WRIT'"),
        ("ASG(A) { RULE(1, READ, LOG) }", "line 1, column 24: TRAPWRITE or NOTRAPWRITE expected, not 'LOG'"),
        ("ASG(A)\nASG(A)", "line 2, column 5: there is another ASG of the name A before"),
        ("UAG(1)", "line 1, column 5: a name or a quoted text expected, not '1': a name that is also"),
        ("UAG(HAG)", "is to be in double quotes"),
        ('UAG("a\n")', "line 1, column 5: this quoted text has no end on its line"),
        ("UAG(grün)", "line 1, column 7: 'ü' cannot stand here; a name with other characters"),
        ("ASG(A) {\n", "line 2, column 1: INPA to INPU or RULE expected, but the file ends here"),
        ("ASG(A) }", "line 1, column 8: '{', ASG, HAG, UAG or the end of the file expected, not '}'"),
    ],
)
def test_a_fault_has_its_place_and_what_would_be_right(text: str, fault: str) -> None:
    assert fault in "\n".join(faults(text))


def test_all_faults_are_reported_at_once_up_to_a_number() -> None:
    assert len(faults("ASG(A) { RULE(3, RITE, X) { UAG(x) HAG(y) } INPA(z) }")) == 6
    many = faults("ASG(A) {\n" + "INPA(x)\n" * 70 + "}")
    assert (len(many), many[-1]) == (51, "and 20 more faults")


def test_a_large_file_is_read_at_once_and_a_deep_one_cannot_be() -> None:
    users = ", ".join(f"user{i}" for i in range(20_000))
    rules = parse_rules(f"UAG(many) {{ {users} }} ASG(DEFAULT) {{ RULE(1, WRITE) {{ UAG(many) }} }}", "f")
    assert rules.right("x", 0, "user19999", "") is Right.WRITE
    assert rules.right("x", 0, "user20000", "") is Right.NONE
    assert faults("UAG(" * 20_000)


# ---------------------------------------------------------------------- the file itself


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"ASG(A)\n#\xff", "line 2: is not UTF-8 (byte 0xff)"),
        (b"#" * (SIZE_MAX_BYTES + 1), f"has more than {SIZE_MAX_BYTES} bytes"),
        (b"\xef\xbb\xbfASG(A)", "line 1, column 1: '\\ufeff' cannot stand here"),
        (b"ASG(\0)", "'\\x00' cannot stand here"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, fault: str) -> None:
    file = tmp_path / "rules.acf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AccessFileError, match=re.escape(fault)):
        read_rules(file)


def test_only_a_plain_file_is_opened(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(AccessFileError, match="is not a regular file"):
            read_rules(path)
    (tmp_path / "rules.acf").write_bytes(b"ASG(DEFAULT) { RULE(1, READ) }\r\n")
    assert read_rules(tmp_path / "rules.acf").right("x", 1, "", "") is Right.READ
