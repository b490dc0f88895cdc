"""Files on a host that SSH reaches."""
