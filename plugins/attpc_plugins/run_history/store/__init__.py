"""The store: the one place that knows SQL. Typed dataclasses go in and come out."""

from __future__ import annotations

from .applying import Applied, Applying, Rejected, Step
from .base import prepare_schema
from .experiments import Experiments
from .files import Files
from .importing import Importing
from .lease import Leases
from .numbers import Numbers
from .puts import Puts
from .queries import Queries
from .sheets import Sheets

__all__ = ["Applied", "Rejected", "Step", "Store", "prepare_schema"]


class Store(Applying, Numbers, Leases, Experiments, Sheets, Puts, Queries, Files, Importing):
    """The run history in PostgreSQL; made by `await Store.connect(dsn)`.

    Its methods are in one base class for each topic. All raise `StoreError`'s kinds (`store_errors.py`) and
    nothing of asyncpg's.
    """
