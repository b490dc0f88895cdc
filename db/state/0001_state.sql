-- The state database of one IOC (SQLite): its event log, and what it keeps over restarts.
-- The number of the last file applied is in PRAGMA user_version. Files are never changed, only added.

-- Every event once, in the order in which it happened. Positions are never used again: the newest row stays.
CREATE TABLE event (
    position INTEGER PRIMARY KEY,
    kind     TEXT NOT NULL,
    time_s   REAL NOT NULL,   -- Unix time at which it was seen
    body     TEXT NOT NULL    -- JSON; {"$text": DIGEST} stands for a long text
) STRICT;

-- Long texts, as the reply to a Configure with every configuration file: once each, by SHA-256.
CREATE TABLE long_text (
    digest TEXT PRIMARY KEY,
    body   BLOB NOT NULL      -- UTF-8, compressed by zlib
) STRICT, WITHOUT ROWID;

CREATE TABLE event_text (
    position INTEGER NOT NULL REFERENCES event ON DELETE CASCADE,
    digest   TEXT NOT NULL REFERENCES long_text,
    PRIMARY KEY (position, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_text_digest ON event_text (digest);

-- How far each reader that must miss nothing has come.
CREATE TABLE cursor (
    reader   TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is there after a restart, by topic: modules, the run, run numbers, what plugins keep.
CREATE TABLE kept (
    topic TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,      -- JSON
    PRIMARY KEY (topic, key)
) STRICT, WITHOUT ROWID;

-- Why the topic may lack what was kept before: an earlier database, or file, could not be read.
CREATE TABLE lost (
    topic  TEXT PRIMARY KEY,  -- '' for every topic without a row of its own
    reason TEXT NOT NULL      -- '' where the loss was acknowledged
) STRICT, WITHOUT ROWID;

-- A new database is another log: a reader begins at its first event.
CREATE TABLE identity (
    id TEXT NOT NULL
) STRICT;
