"""The option that says how a list is printed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


FormatOption = Annotated[
    Output, typer.Option("--format", help="table for people; csv, or json (one object a line), for programs.")
]
