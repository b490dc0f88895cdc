-- What the frames of a run's data files say: of each data router, and of the run. NULL is not known, as of all runs
-- from before this. See db/README.md.

ALTER TABLE attpc.run_files
    ADD COLUMN event_count bigint CHECK (event_count >= 0),
    ADD COLUMN missing_events bigint CHECK (missing_events >= 0),
    ADD COLUMN resets bigint CHECK (resets >= 0),
    ADD COLUMN damaged_frames bigint CHECK (damaged_frames >= 0),
    ADD COLUMN sync text NOT NULL DEFAULT '',
    ADD COLUMN checked boolean;

ALTER TABLE attpc.runs
    ADD COLUMN files_state text NOT NULL DEFAULT '',
    ADD COLUMN event_count bigint CHECK (event_count >= 0),
    ADD COLUMN missing_events bigint CHECK (missing_events >= 0),
    ADD COLUMN resets bigint CHECK (resets >= 0),
    ADD COLUMN damaged_frames bigint CHECK (damaged_frames >= 0),
    ADD COLUMN sync text NOT NULL DEFAULT '',
    ADD COLUMN checked boolean;

-- A check said what it had found at the end of the message only.
UPDATE attpc.run_files SET checked = message NOT LIKE '%; frames: %'
WHERE message LIKE '%; frames: %' OR message LIKE '%; frames checked: %';

-- The files of all data routers of a run together. A figure is known if that of each is, or if what is known is bad
-- enough. Of words the last in the list is the worst; one that is not in it is worse.
CREATE VIEW attpc.files_of_runs AS
SELECT run_id,
    (array_agg(state ORDER BY array_position(
        ARRAY['Done', 'Waiting', 'Moving', 'Unreachable', 'Incomplete', 'Failed'], state) DESC NULLS FIRST))[1]
        AS files_state,
    CASE WHEN bool_and(event_count IS NOT NULL) THEN min(event_count) END AS event_count,
    CASE WHEN bool_and(missing_events IS NOT NULL) OR sum(missing_events) > 0
        THEN least(sum(missing_events), 9223372036854775807)::bigint END AS missing_events,
    CASE WHEN bool_and(resets IS NOT NULL) OR sum(resets) > 0
        THEN least(sum(resets), 9223372036854775807)::bigint END AS resets,
    CASE WHEN bool_and(damaged_frames IS NOT NULL) OR sum(damaged_frames) > 0
        THEN least(sum(damaged_frames), 9223372036854775807)::bigint END AS damaged_frames,
    (array_agg(sync ORDER BY array_position(ARRAY['', 'OutOfStep', 'Reset', 'Torn'], sync) DESC NULLS FIRST))[1]
        AS sync,
    CASE WHEN bool_or(NOT checked) THEN false WHEN bool_and(checked IS NOT NULL) THEN true END AS checked
FROM attpc.run_files GROUP BY run_id;

UPDATE attpc.runs r SET files_state = f.files_state, checked = f.checked
FROM attpc.files_of_runs f WHERE f.run_id = r.id;

-- The runs to look at.
ALTER TABLE attpc.runs ADD COLUMN bad boolean NOT NULL GENERATED ALWAYS AS (
    coalesce(outcome IN ('failed', 'aborted', 'interrupted'), false)
    OR files_state NOT IN ('', 'Done')
    OR coalesce(missing_events > 0, false)
    OR coalesce(resets > 0, false)
    OR coalesce(damaged_frames > 0, false)
    OR sync <> ''
    OR coalesce(NOT checked, false)
) STORED;
CREATE INDEX runs_bad ON attpc.runs (listed_at DESC, id DESC) WHERE bad;
CREATE INDEX runs_of_experiment_bad ON attpc.runs (experiment_id, number DESC) WHERE bad;
