-- How far the event log of each IOC was applied: moved in the transaction that applies its events, so that none is
-- lost or counted twice, and a database that was restored goes on from its own position.
-- `applied_stamps` says what was applied of the journals of version 0.1, which had no positions.

CREATE TABLE attpc.log_positions (
    log_id   text PRIMARY KEY CHECK (log_id <> ''),
    ioc      text NOT NULL DEFAULT '',
    position bigint NOT NULL CHECK (position >= 0),
    moved_at timestamptz NOT NULL DEFAULT now()
);
