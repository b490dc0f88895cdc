"""The PV table: rows of pure data from which records, exports and documents are made."""
