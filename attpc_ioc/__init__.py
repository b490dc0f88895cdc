"""Run control for the AT-TPC: an EPICS IOC for a fleet of GET ECC servers, with plugins."""
