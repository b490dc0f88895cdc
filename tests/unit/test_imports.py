"""Imports between the program's own modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imports import circles


def test_no_modules_import_each_other_in_a_circle():
    assert not circles()


def test_a_circle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Imports for types only and in functions count."""
    house = tmp_path / "some_house"
    house.mkdir()
    (house / "__init__.py").touch()
    (house / "roof.py").write_text("def of():\n    from some_house import wall\n")
    (house / "wall.py").write_text("from some_house.floor import x\n")
    (house / "floor.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import roof\nx = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (circle,) = circles(("some_house",))
    roof, wall, floor = "some_house.roof", "some_house.wall", "some_house.floor"
    assert circle in {
        " -> ".join(one)
        for one in ((roof, wall, floor, roof), (wall, floor, roof, wall), (floor, roof, wall, floor))
    }
