"""Reads the text of an access security file (`.acf`) as EPICS base's `asLib` does.

Grammar and meaning are those of EPICS base 7 ("Access Security" of its Application Developer's Guide). What
is not supported is refused and never ignored, because a rule without its condition would give more rights
than it says: INP and CALC make rules depend on PVs, and METHOD, AUTHORITY and PROTOCOL need information that
neither Channel Access nor PVAccess without TLS has.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from attpc_ioc.errors import SettingsError

from .rules import FIELD_LEVEL, VALUE_LEVEL, Right, Rule, Rules

FAULTS_MAX = 50
"""Faults that are listed; more are counted."""

_GRAMMAR = r"""
start: (uag | hag | asg)*
uag: UAG "(" _text ")" ["{" _texts "}"]
hag: HAG "(" _text ")" ["{" _texts "}"]
asg: ASG "(" _text ")" ["{" (rule | input)+ "}"]
input: INP "(" _text ")"
rule: RULE "(" NUMBER "," _text option? ")" ["{" condition+ "}"]
option: "," _text
condition: (UAG | HAG | CALC | METHOD | AUTHORITY | PROTOCOL) "(" _texts ")"
_texts: _text ("," _text)*
_text: NAME | QUOTED

UAG: "UAG"
HAG: "HAG"
ASG: "ASG"
RULE: "RULE"
CALC: "CALC"
METHOD: "METHOD"
AUTHORITY: "AUTHORITY"
PROTOCOL: "PROTOCOL"
INP.1: /INP[A-U](?![a-zA-Z0-9_\-+:.\[\]<>;])/
NUMBER.1: /[-+]?([0-9]+|[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?)(?![a-zA-Z0-9_\-+:.\[\]<>;])/
NAME: /[a-zA-Z0-9_\-+:.\[\]<>;]+/
QUOTED: /"([^"\n\\]|\\[^\n])*"/
COMMENT: /#[^\n]*/
SPACE: /[ \t\r\n]+/
%ignore COMMENT
%ignore SPACE
"""

_LEVELS = {"0": VALUE_LEVEL, "1": FIELD_LEVEL}
"""EPICS base accepts other numbers too, but nothing has such a level."""

_SHOWN = {
    "LPAR": "'('",
    "RPAR": "')'",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "COMMA": "','",
    "NUMBER": "a level (0 or 1)",
    "NAME": "a name",
    "QUOTED": "a quoted text",
    "INP": "INPA to INPU",
    "$END": "the end of the file",
}

_NOT_SUPPORTED = {
    "CALC": "rules that depend on PVs are not supported",
    "METHOD": "Channel Access does not say how a client proved its identity, nor does p4p for PVAccess",
    "AUTHORITY": "nobody vouches for a client of Channel Access, nor of PVAccess without TLS",
    "PROTOCOL": "a rule is for Channel Access and PVAccess alike, and this IOC does not speak TLS",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the file, and where; `line` and `column` count from 1."""

    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.text}"


class AccessFileError(SettingsError):
    """An access security file is wrong or cannot be read."""


def parse_rules(text: str, file: str) -> Rules:
    """Return the rules of the text of a file called `file`.

    Raises `AccessFileError` with the place of a syntax error, or else with every fault.
    """
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise AccessFileError(file, [str(_syntax_fault(error, text))]) from None
    reader = _Reader()
    rules = reader.read(tree)
    if not rules.groups and not reader.faults:
        reader.faults.append(Fault(1, 1, "there is no ASG: nobody could read anything"))
    if reader.faults:
        lines = [str(fault) for fault in reader.faults[:FAULTS_MAX]]
        if len(reader.faults) > FAULTS_MAX:
            lines.append(f"and {len(reader.faults) - FAULTS_MAX} more faults")
        raise AccessFileError(file, lines)
    return rules


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="basic")


def _syntax_fault(error: UnexpectedInput, text: str) -> Fault:
    if isinstance(error, UnexpectedToken):
        wanted = error.accepts or error.expected
        what = f"{_words(wanted)} expected"
        if error.token.type == "$END":
            lines = text.split("\n")
            return Fault(len(lines), len(lines[-1]) + 1, f"{what}, but the file ends here")
        return Fault(error.line, error.column, f"{what}, not {_cut(str(error.token))}{_hint(error, wanted)}")
    if isinstance(error, UnexpectedCharacters):
        character = text[error.pos_in_stream]
        if character == '"':
            return Fault(error.line, error.column, "this quoted text has no end on its line")
        return Fault(
            error.line,
            error.column,
            f"{character!r} cannot stand here; a name with other characters than letters, digits and "
            "_-+:.[]<>; is to be in double quotes",
        )
    return Fault(1, 1, "this is not an access security file")


def _words(wanted: set[str]) -> str:
    words = sorted(_SHOWN.get(name, name) for name in wanted)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _hint(error: UnexpectedToken, wanted: set[str]) -> str:
    if "QUOTED" in wanted and error.token.type not in _SHOWN.keys() - {"NUMBER"}:
        return ": a name that is also a word of this language or a number is to be in double quotes"
    return ""


def _cut(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _plain(token: Token) -> str:
    """Return a name without its quotes; escapes stay, as in EPICS base."""
    return str(token)[1:-1] if token.type == "QUOTED" else str(token)


class _Reader:
    """Makes rules from the parse tree, and collects the faults."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._users: dict[str, frozenset[str]] = {}
        self._hosts: dict[str, frozenset[str]] = {}
        self._groups: dict[str, tuple[Rule, ...]] = {}

    def read(self, tree: Tree[Token]) -> Rules:
        for item in _trees(tree):
            keyword, name, *members = _tokens(item)
            if item.data == "uag":
                self._define(keyword, name, self._users, frozenset(map(_plain, members)))
            elif item.data == "hag":
                hosts = frozenset(_plain(member).lower() for member in members)
                self._define(keyword, name, self._hosts, hosts)
            else:
                self._define(keyword, name, self._groups, tuple(self._rules_of(item)))
        return Rules(self._groups)

    def _define(self, keyword: Token, name: Token, among: dict[str, object] | dict, value: object) -> None:
        if _plain(name) in among:
            self._fault(name, f"there is another {keyword} of the name {_plain(name)} before")
        among[_plain(name)] = value

    def _rules_of(self, group: Tree[Token]) -> Iterator[Rule]:
        for item in _trees(group):
            if item.data == "input":
                self._fault(_tokens(item)[0], "INP is not supported: no rule can depend on a PV")
                continue
            rule = self._rule(item)
            if rule is not None:
                yield rule

    def _rule(self, item: Tree[Token]) -> Rule | None:
        _, level, right = _tokens(item)
        before = len(self.faults)
        if str(level) not in _LEVELS:
            self._fault(level, f"the level of a rule is 0 or 1, not {level}")
        if _plain(right) not in Right.__members__:
            self._fault(right, f"a rule gives NONE, READ or WRITE, not {_cut(_plain(right))}")
        users: frozenset[str] | None = None
        hosts: frozenset[str] | None = None
        for part in _trees(item):
            keyword, *names = _tokens(part)
            if part.data == "option":
                # It says which puts are logged: this IOC logs all of them.
                if _plain(keyword) not in ("TRAPWRITE", "NOTRAPWRITE"):
                    self._fault(keyword, f"TRAPWRITE or NOTRAPWRITE expected, not {_cut(_plain(keyword))}")
            elif keyword.type == "UAG":
                users = (users or frozenset()) | self._members(keyword, names, self._users)
            elif keyword.type == "HAG":
                hosts = (hosts or frozenset()) | self._members(keyword, names, self._hosts)
            else:
                self._fault(keyword, f"{keyword} is not supported: {_NOT_SUPPORTED[keyword.type]}")
        if len(self.faults) > before:
            return None
        return Rule(_LEVELS[str(level)], Right[_plain(right)], users, hosts)

    def _members(
        self, keyword: Token, names: list[Token], defined: dict[str, frozenset[str]]
    ) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for name in names:
            if _plain(name) not in defined:
                self._fault(name, f"there is no {keyword} of the name {_plain(name)} before this rule")
            found |= defined.get(_plain(name), frozenset())
        return found

    def _fault(self, token: Token, text: str) -> None:
        self.faults.append(Fault(token.line or 1, token.column or 1, text))


def _trees(tree: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in tree.children if isinstance(child, Tree)]


def _tokens(tree: Tree[Token]) -> list[Token]:
    return [child for child in tree.children if isinstance(child, Token)]
