"""Licences of what is installed with the program: a new one is for a person to read before it is listed."""

from __future__ import annotations

import importlib.metadata

import pytest

from .test_lock_files import DEV, RUN, versions

RUNS_WITH = {
    "Apache Software License",
    "Apache-2.0",
    "Apache-2.0 AND MIT",
    "Apache-2.0 OR BSD-3-Clause",
    "BSD License",
    "BSD",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
    "EPICS",
    "EPL-2.0 OR GPL-2.0-or-later",
    "ISC License (ISCL)",
    "MIT",
    "MIT License",
    "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
}
"""Licences under which the program may be passed on with what it runs with."""

TESTED_WITH = RUNS_WITH | {
    "Apache-2.0 OR BSD-2-Clause",
    "GNU General Public License v3 (GPLv3)",
    "MIT AND PSF-2.0",
    "MPL-2.0",
    "MPL-2.0 AND MIT",
}
"""Those of programs that only the tests use: they are not passed on."""

READ = {"axe-playwright-python": "MPL-2.0 AND MIT", "historydict": "BSD-3-Clause"}
"""What the licence file of a package says that states none in its metadata."""


def licences(package: str) -> set[str]:
    """The licence that a package states: as an expression, else as classifiers, else as free text."""
    if package in READ:
        return {READ[package]}
    metadata = importlib.metadata.metadata(package)
    if expression := metadata.get("License-Expression"):
        return {expression}
    classifiers = [value.split(" :: ") for value in metadata.get_all("Classifier") or []]
    found = {words[-1] for words in classifiers if words[0] == "License" and len(words) > 2}
    return found or set((metadata.get("License") or "says nothing").strip().splitlines()[:1])


@pytest.mark.parametrize(("file", "listed"), [(RUN, RUNS_WITH), (DEV, TESTED_WITH)])
def test_every_licence_is_on_the_list(file, listed):
    unknown = {name: found for name in versions(file) if not (found := licences(name)) <= listed}
    assert not unknown, f"licences that nobody has read yet, in {file}"
