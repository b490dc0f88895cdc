"""Run sheets: observables as PVs, values read from other PVs, and what each run gets of them."""
