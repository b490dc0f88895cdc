"""Run sheets: observables as PVs, values read from other PVs, and what is recorded of them for each run."""
