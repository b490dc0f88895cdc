"""The Channel Access side: records, publishing, puts."""
