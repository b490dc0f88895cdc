"""Simulated ECC servers over real HTTP, behaving as the real one was observed to behave."""
