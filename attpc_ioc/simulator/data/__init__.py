"""The hosts on which the data routers write: their files, their ways in, their faults."""
