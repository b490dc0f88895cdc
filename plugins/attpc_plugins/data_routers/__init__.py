"""Data routers: watches the hosts that record the data, and brings every run's files to their place."""
