"""The Channel Access face: records, publishing, puts."""
