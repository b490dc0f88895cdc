"""Simulated ECC servers, boards and data routers over real TCP; see `fleet.SimulatedFleet`."""
