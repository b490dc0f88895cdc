"""Reading from the database: runs, their details, the log."""
