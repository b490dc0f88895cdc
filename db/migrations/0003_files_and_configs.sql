-- What became of a run's data files, router by router, and the configuration files that it used.

CREATE TABLE attpc.run_files (
    run_id     bigint NOT NULL REFERENCES attpc.runs ON DELETE CASCADE,
    router     text NOT NULL CHECK (router <> ''),
    sources    text[] NOT NULL DEFAULT '{}',
    state      text NOT NULL CHECK (state <> ''),
    files      bigint NOT NULL DEFAULT 0 CHECK (files >= 0),
    data_bytes bigint NOT NULL DEFAULT 0 CHECK (data_bytes >= 0),
    location   text NOT NULL DEFAULT '',
    message    text NOT NULL DEFAULT '',
    manifest   text NOT NULL DEFAULT '',
    told_at    timestamptz NOT NULL,
    PRIMARY KEY (run_id, router)
);

-- Each text once, whatever the number of runs that used it. A run imported from CSV names texts that may not be
-- here, so nothing refers to this table.
CREATE TABLE attpc.config_texts (
    sha256     text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    content    text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE attpc.run_configs (
    run_id   bigint NOT NULL REFERENCES attpc.runs ON DELETE CASCADE,
    module   text NOT NULL CHECK (module <> ''),
    part     text NOT NULL CHECK (part IN ('describe', 'prepare', 'configure')),
    name     text NOT NULL,
    source   text NOT NULL DEFAULT '' CHECK (source IN ('', 'file', 'reply')),
    sha256   text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    fault    text NOT NULL DEFAULT '',
    told_at  timestamptz NOT NULL,
    PRIMARY KEY (run_id, module, part),
    CHECK ((sha256 IS NULL) = (fault <> '')),
    CHECK ((sha256 IS NULL) = (source = ''))
);
CREATE INDEX run_configs_of_text ON attpc.run_configs (sha256);
