"""The store: the only module with SQL. It takes and returns typed dataclasses."""

from __future__ import annotations

from attpc_plugins.run_history.store.applying.batch import Applied, Applying, Rejected, Step
from attpc_plugins.run_history.store.applying.files import Files
from attpc_plugins.run_history.store.applying.importing import Importing
from attpc_plugins.run_history.store.reading.queries import Queries

from .connections import prepare_schema
from .experiments import Experiments
from .lease import Leases
from .numbers import Numbers
from .observables import Sheets
from .puts import Puts

__all__ = ["Applied", "Rejected", "Step", "Store", "prepare_schema"]


class Store(Applying, Numbers, Leases, Experiments, Sheets, Puts, Queries, Files, Importing):
    """The run history in PostgreSQL; made by `await Store.connect(dsn)`.

    Its methods are in one base class for each topic. All raise kinds of `StoreError` (`store/errors.py`),
    never exceptions of asyncpg.
    """
