"""Files for other programs, made from the PV table."""
