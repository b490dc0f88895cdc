"""The shell commands of the run history: `db`, `history`, `experiments` and `observables`."""
