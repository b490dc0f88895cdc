-- The run history: experiments, runs and their modules, events, edits, run sheets, puts, log entries, lease.
-- Everything lives in the schema `attpc`; all times are timestamptz. See db/README.md.

CREATE TABLE attpc.experiments (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name <> '' AND char_length(name) <= 200),
    is_current boolean NOT NULL DEFAULT false,
    comment    text NOT NULL DEFAULT '' CHECK (char_length(comment) <= 65536),
    created_at timestamptz NOT NULL DEFAULT now(),
    chosen_at  timestamptz,
    CHECK (NOT is_current OR chosen_at IS NOT NULL)
);
CREATE UNIQUE INDEX experiments_one_current ON attpc.experiments (is_current) WHERE is_current;

CREATE TABLE attpc.runs (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id      integer NOT NULL REFERENCES attpc.experiments,
    number             integer NOT NULL CHECK (number >= 0),
    state              text NOT NULL
                       CHECK (state IN ('reserved', 'starting', 'running', 'stopping', 'ended')),
    run_class          text NOT NULL DEFAULT 'Testing'
                       CHECK (run_class IN ('Testing', 'Production', 'Beam', 'Junk', 'Pulser')),
    title              text NOT NULL DEFAULT '' CHECK (char_length(title) <= 1000),
    operator           text NOT NULL DEFAULT '' CHECK (char_length(operator) <= 1000),
    comment            text NOT NULL DEFAULT '' CHECK (char_length(comment) <= 65536),
    quality            text NOT NULL DEFAULT 'Unknown'
                       CHECK (quality IN ('Unknown', 'Good', 'Bad', 'Partial')),
    fleet              text NOT NULL DEFAULT '',
    ioc                text NOT NULL DEFAULT '',
    attempt            text UNIQUE CHECK (attempt <> ''),
    reserved_at        timestamptz NOT NULL DEFAULT now(),
    start_commanded_at timestamptz,
    started_at         timestamptz,
    last_running_at    timestamptz,
    stop_commanded_at  timestamptz,
    stopped_at         timestamptz,
    started_by_user    text NOT NULL DEFAULT '',
    started_by_host    text NOT NULL DEFAULT '',
    started_by_address text NOT NULL DEFAULT '',
    stopped_by_user    text NOT NULL DEFAULT '',
    stopped_by_host    text NOT NULL DEFAULT '',
    stopped_by_address text NOT NULL DEFAULT '',
    outcome            text CHECK (outcome IN
                           ('stopped', 'stopped outside', 'interrupted', 'failed', 'aborted')),
    reason             text NOT NULL DEFAULT '',
    adopted            boolean NOT NULL DEFAULT false,
    config_name        text NOT NULL DEFAULT '',
    facts_at           timestamptz,
    listed_at          timestamptz NOT NULL GENERATED ALWAYS AS
                       (coalesce(started_at, start_commanded_at, reserved_at)) STORED,
    words              tsvector NOT NULL GENERATED ALWAYS AS
                       (to_tsvector('simple', title || ' ' || operator || ' ' || comment)) STORED,
    UNIQUE (experiment_id, number),
    CHECK (outcome IS NULL OR state = 'ended'),
    CHECK (state <> 'ended' OR outcome IS NOT NULL),
    CHECK (stopped_at IS NULL OR state = 'ended'),
    CHECK (state NOT IN ('reserved', 'starting') OR started_at IS NULL),
    CHECK (state <> 'running' OR started_at IS NOT NULL)
);
CREATE INDEX runs_by_time ON attpc.runs (listed_at DESC, id DESC);
CREATE INDEX runs_of_experiment_by_time ON attpc.runs (experiment_id, listed_at DESC, id DESC);
CREATE INDEX runs_of_class ON attpc.runs (run_class, listed_at DESC, id DESC);
CREATE INDEX runs_of_quality ON attpc.runs (quality, listed_at DESC, id DESC);
CREATE INDEX runs_of_experiment_and_class ON attpc.runs (experiment_id, run_class, number DESC);
CREATE INDEX runs_of_experiment_and_quality ON attpc.runs (experiment_id, quality, number DESC);
CREATE INDEX runs_open ON attpc.runs (fleet, id) WHERE state <> 'ended';
CREATE INDEX runs_by_word ON attpc.runs USING gin (words) WITH (fastupdate = off);

-- Attempts at a start whose number was given back: what the journal still says of them is void.
CREATE TABLE attpc.released_attempts (
    attempt       text PRIMARY KEY CHECK (attempt <> ''),
    experiment_id integer NOT NULL REFERENCES attpc.experiments,
    number        integer NOT NULL,
    released_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX released_attempts_of_number ON attpc.released_attempts (experiment_id, number);

-- What the fleet was when the run was started: one row for each member.
CREATE TABLE attpc.run_modules (
    run_id       bigint NOT NULL REFERENCES attpc.runs ON DELETE CASCADE,
    name         text NOT NULL CHECK (name <> ''),
    position     integer NOT NULL CHECK (position >= 0),
    kind         text NOT NULL DEFAULT 'other' CHECK (kind IN ('cobo', 'mutant', 'other')),
    url          text NOT NULL DEFAULT '',
    describe     text,
    prepare      text,
    configure    text,
    transition_s double precision CHECK (transition_s >= 0),
    lost         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE attpc.run_links (
    run_id   bigint NOT NULL,
    module   text NOT NULL,
    source   text NOT NULL CHECK (source <> ''),
    name     text NOT NULL,
    address  text NOT NULL DEFAULT '',
    port     integer NOT NULL DEFAULT 0 CHECK (port BETWEEN 0 AND 65535),
    type     text NOT NULL DEFAULT '',
    position integer NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, module, source, name),
    FOREIGN KEY (run_id, module) REFERENCES attpc.run_modules ON DELETE CASCADE
);

-- Which change of a run came from whom; the latest change of a field wins, whatever the order of arrival.
CREATE TABLE attpc.run_edits (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id    bigint NOT NULL REFERENCES attpc.runs ON DELETE CASCADE,
    field     text NOT NULL CHECK (field IN ('title', 'operator', 'run_class', 'comment', 'quality')),
    value     text NOT NULL,
    edited_at timestamptz NOT NULL,
    edited_by text NOT NULL DEFAULT ''
);
CREATE INDEX run_edits_of_field ON attpc.run_edits (run_id, field, edited_at DESC, id DESC);

-- Which IOC in which boot wrote which records of its journal; a stamp that is here was applied.
CREATE TABLE attpc.boots (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ioc  text NOT NULL,
    boot text NOT NULL,
    UNIQUE (ioc, boot)
);

CREATE TABLE attpc.applied_stamps (
    boot_id    integer NOT NULL REFERENCES attpc.boots,
    seq        bigint NOT NULL CHECK (seq >= 0),
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (boot_id, seq)
);
CREATE INDEX applied_stamps_by_age ON attpc.applied_stamps USING brin (applied_at);

-- What happened, in and outside runs: phases of a run, changes of state, SOAP transitions.
CREATE TABLE attpc.events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    boot_id     integer REFERENCES attpc.boots,
    seq         bigint,
    run_id      bigint REFERENCES attpc.runs ON DELETE CASCADE,
    happened_at timestamptz NOT NULL,
    kind        text NOT NULL CHECK (kind IN
                    ('starting', 'started', 'degraded', 'stopping', 'stopped', 'failed', 'state', 'operation')),
    module      text NOT NULL DEFAULT '',
    text        text NOT NULL DEFAULT '',
    ok          boolean NOT NULL DEFAULT true,
    external    boolean NOT NULL DEFAULT false,
    code        integer NOT NULL DEFAULT 0,
    duration_s  double precision CHECK (duration_s >= 0),
    UNIQUE (boot_id, seq)
);
CREATE INDEX events_of_run ON attpc.events (run_id, happened_at, id) WHERE run_id IS NOT NULL;
CREATE INDEX events_by_time ON attpc.events (happened_at DESC, id DESC);

CREATE TABLE attpc.observables (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id integer NOT NULL REFERENCES attpc.experiments,
    name          text NOT NULL CHECK (name = btrim(name) AND char_length(name) BETWEEN 1 AND 100),
    kind          text NOT NULL CHECK (kind IN ('integer', 'float', 'string')),
    units         text NOT NULL DEFAULT '',
    comment       text NOT NULL DEFAULT '',
    pv            text NOT NULL DEFAULT '',
    position      integer NOT NULL DEFAULT 0,
    removed_at    timestamptz,
    UNIQUE (experiment_id, name)
);

CREATE TABLE attpc.measurements (
    run_id        bigint NOT NULL REFERENCES attpc.runs ON DELETE CASCADE,
    observable_id integer NOT NULL REFERENCES attpc.observables,
    number        integer NOT NULL,
    moment        text NOT NULL CHECK (moment IN ('start', 'stop', 'entered')),
    kind          text CHECK (kind IN ('integer', 'float', 'string')),
    integer_value bigint,
    float_value   double precision,
    string_value  text,
    units         text NOT NULL DEFAULT '',
    severity      smallint NOT NULL DEFAULT 0 CHECK (severity BETWEEN 0 AND 3),
    pv            text NOT NULL DEFAULT '',
    stamped_at    timestamptz,
    measured_at   timestamptz NOT NULL,
    carried       boolean NOT NULL DEFAULT false,
    fault         text NOT NULL DEFAULT '',
    entered_by    text NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, observable_id, moment),
    CHECK ((integer_value IS NOT NULL) = (kind IS NOT NULL AND kind = 'integer')),
    CHECK ((float_value IS NOT NULL) = (kind IS NOT NULL AND kind = 'float')),
    CHECK ((string_value IS NOT NULL) = (kind IS NOT NULL AND kind = 'string')),
    CHECK (kind IS NOT NULL OR fault <> '')
);
CREATE INDEX measurements_of_observable ON attpc.measurements (observable_id, number DESC);

CREATE TABLE attpc.puts (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    put_at    timestamptz NOT NULL,
    ioc       text NOT NULL DEFAULT '',
    pv        text NOT NULL,
    by_user   text NOT NULL DEFAULT '',
    host      text NOT NULL DEFAULT '',
    address   text NOT NULL DEFAULT '',
    old_value text NOT NULL DEFAULT '',
    new_value text NOT NULL DEFAULT '',
    ok        boolean NOT NULL,
    reason    text NOT NULL DEFAULT ''
);
CREATE INDEX puts_by_time ON attpc.puts (put_at DESC, id DESC);
CREATE INDEX puts_of_user ON attpc.puts (by_user, put_at DESC, id DESC);
CREATE INDEX puts_failed ON attpc.puts (put_at DESC, id DESC) WHERE NOT ok;
CREATE INDEX puts_of_pv ON attpc.puts (pv, put_at DESC, id DESC);

CREATE TABLE attpc.log_entries (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    logged_at timestamptz NOT NULL,
    level     text NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    ioc       text NOT NULL DEFAULT '',
    source    text NOT NULL DEFAULT '',
    text      text NOT NULL,
    run_id    bigint REFERENCES attpc.runs ON DELETE SET NULL
);
CREATE INDEX log_entries_by_time ON attpc.log_entries (logged_at DESC, id DESC);
CREATE INDEX log_entries_alarming ON attpc.log_entries (logged_at DESC, id DESC) WHERE level <> 'info';
CREATE INDEX log_entries_of_run ON attpc.log_entries (run_id, logged_at) WHERE run_id IS NOT NULL;

-- Which IOC commands which fleet. Times are the server's.
CREATE TABLE attpc.leases (
    fleet       text PRIMARY KEY CHECK (fleet <> ''),
    ioc         text NOT NULL,
    host        text NOT NULL,
    boot        text NOT NULL CHECK (boot <> ''),
    instance    text NOT NULL DEFAULT '',
    acquired_at timestamptz NOT NULL,
    renewed_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    CHECK (expires_at >= renewed_at AND renewed_at >= acquired_at)
);
