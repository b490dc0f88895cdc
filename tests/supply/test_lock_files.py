"""The lock files: they hold what `pyproject.toml` asks for, with hashes, and are what is installed here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN, DEV = "deploy/requirements.lock", "deploy/requirements-dev.lock"
EXTRAS = [text for extra in ("dev", "bluesky") for text in PROJECT["optional-dependencies"][extra]]
ASKED = {RUN: PROJECT["dependencies"], DEV: PROJECT["dependencies"] + EXTRAS}


def entries(file: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock file with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        words, *hashes = re.split(r"\s+--hash=", line)
        yield Requirement(words), hashes


def here(requirement: Requirement) -> bool:
    return requirement.marker is None or Marker(str(requirement.marker)).evaluate()


def versions(file: str) -> dict[str, str]:
    """Version of each package for this machine."""
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in entries(file)
        if here(requirement)
    }


@pytest.mark.parametrize("file", [RUN, DEV])
def test_every_entry_is_one_version_with_hashes(file):
    found = list(entries(file))
    assert found
    for requirement, hashes in found:
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


@pytest.mark.parametrize("file", [RUN, DEV])
def test_a_lock_file_names_no_place(file):
    """Where packages come from is for the site to say; a path would be one machine's."""
    assert not re.search(r"://|--index-url|--find-links|file:", (ROOT / file).read_text())


@pytest.mark.parametrize("file", [RUN, DEV])
def test_the_lock_file_has_what_the_project_asks_for(file):
    locked = versions(file)
    for text in ASKED[file]:
        asked = Requirement(text)
        if here(asked):
            version = locked.get(canonicalize_name(asked.name))
            assert version, f"{asked.name} is missing from {file}: make lock"
            assert version in asked.specifier, f"{file} has {asked.name} {version}: make lock"


def test_what_runs_is_tested_in_the_same_versions():
    assert versions(RUN).items() <= versions(DEV).items()


def test_the_build_needs_nothing_but_what_is_locked():
    """`--no-build-isolation` takes what is there."""
    system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    for text in system["requires"]:
        asked = Requirement(text)
        assert versions(RUN)[canonicalize_name(asked.name)] in asked.specifier
