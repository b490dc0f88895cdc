"""The hosts of the data routers: their files, access and faults."""
