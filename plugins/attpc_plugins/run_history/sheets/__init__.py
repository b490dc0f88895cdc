"""Run sheets: observables as PVs, values read from other PVs, and the values of each run."""
