"""The PV table: rows of pure data that records, exports and documents are made from."""
