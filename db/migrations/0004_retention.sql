-- What the retention deletes is found without a walk through what is kept for ever with its run.
CREATE INDEX events_without_run ON attpc.events (happened_at) WHERE run_id IS NULL;
CREATE INDEX log_entries_without_run ON attpc.log_entries (logged_at) WHERE run_id IS NULL;
