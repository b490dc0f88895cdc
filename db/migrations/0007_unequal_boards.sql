-- Whether all boards of a run have the same events, and what a check of all its frames has found, in words. See
-- db/README.md.

ALTER TABLE attpc.run_files
    ADD COLUMN first_event bigint CHECK (first_event >= 0),
    ADD COLUMN last_event bigint CHECK (last_event >= 0),
    ADD COLUMN all_from bigint CHECK (all_from >= 0),
    ADD COLUMN frames_check text NOT NULL DEFAULT 'not run'
        CHECK (frames_check IN ('not run', 'no faults', 'faults'));
ALTER TABLE attpc.runs
    ADD COLUMN unequal_events bigint CHECK (unequal_events >= 0),
    ADD COLUMN frames_check text NOT NULL DEFAULT 'not run'
        CHECK (frames_check IN ('not run', 'incomplete', 'no faults', 'faults'));

UPDATE attpc.run_files SET frames_check = CASE WHEN checked THEN 'no faults' ELSE 'faults' END
WHERE checked IS NOT NULL;
UPDATE attpc.runs SET frames_check = CASE WHEN checked THEN 'no faults' ELSE 'faults' END
WHERE checked IS NOT NULL;

DROP VIEW attpc.files_of_runs;
ALTER TABLE attpc.runs DROP COLUMN bad, DROP COLUMN checked;
ALTER TABLE attpc.run_files DROP COLUMN checked;

-- The files of all data routers of a run together. A figure is known if that of each is, or if what is known is bad
-- enough. Of words the last in the list is the worst; one that is not in it is worse.
CREATE VIEW attpc.files_of_runs AS
WITH figures AS (
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
        CASE
            WHEN bool_or(frames_check = 'faults') THEN 'faults'
            WHEN bool_and(frames_check = 'no faults') THEN 'no faults'
            WHEN bool_or(frames_check = 'no faults') THEN 'incomplete'
            ELSE 'not run'
        END AS frames_check,
        bool_and(event_count IS NOT NULL AND (event_count = 0 OR all_from IS NOT NULL)) AS ends_known,
        min(event_count) AS fewest,
        max(event_count) AS most,
        min(first_event)::numeric AS first_event,
        max(last_event)::numeric AS last_event,
        max(all_from)::numeric AS all_from,
        min(all_from::numeric + event_count - 1) AS all_to
    FROM attpc.run_files GROUP BY run_id
),
-- Runs of the version before have numbers of events only. A board that has none lacks all that others have.
ends AS (
    SELECT run_id,
        coalesce(all_from - first_event, 0) AS late,
        coalesce(last_event - all_to, most - fewest, 0) AS early,
        greatest(last_event - first_event + 1, most) AS span,
        coalesce(last_event, most) / nullif(extract(epoch FROM r.stopped_at - r.started_at), 0) AS in_a_second
    FROM figures f JOIN attpc.runs r ON r.id = f.run_id
)
SELECT f.run_id, f.files_state,
    CASE WHEN f.event_count IS NOT NULL
        THEN greatest(least(f.event_count, f.all_to - f.all_from + 1), 0)::bigint END AS event_count,
    f.missing_events, f.resets, f.damaged_frames, f.sync,
    CASE
        WHEN f.fewest = 0 THEN CASE WHEN f.ends_known OR e.span > 0 THEN least(e.span, 9223372036854775807) END
        WHEN f.ends_known OR e.late > 0 OR e.early > coalesce(e.in_a_second, 0) THEN least(
            e.late + CASE WHEN e.early > coalesce(e.in_a_second, 0) THEN e.early ELSE 0 END, 9223372036854775807)
    END::bigint AS unequal_events,
    f.frames_check
FROM figures f JOIN ends e USING (run_id);

UPDATE attpc.runs r SET unequal_events = f.unequal_events, frames_check = f.frames_check
FROM attpc.files_of_runs f WHERE f.run_id = r.id;

-- The runs to look at: the rule in db/README.md.
ALTER TABLE attpc.runs ADD COLUMN bad boolean NOT NULL GENERATED ALWAYS AS (
    coalesce(outcome IN ('failed', 'aborted', 'interrupted'), false)
    OR files_state NOT IN ('', 'Done')
    OR coalesce(event_count = 0, false)
    OR coalesce(unequal_events > 0, false)
    OR coalesce(missing_events > 0, false)
    OR coalesce(resets > 0, false)
    OR coalesce(damaged_frames > 0, false)
    OR sync <> ''
    OR frames_check = 'faults'
) STORED;
CREATE INDEX runs_bad ON attpc.runs (listed_at DESC, id DESC) WHERE bad;
CREATE INDEX runs_of_experiment_bad ON attpc.runs (experiment_id, number DESC) WHERE bad;

COMMENT ON COLUMN attpc.run_files.event_count IS
    'Events that every stream (AsAd board, or MuTAnT) of this router has: last to first number, missing ones counted. '
    'NULL: not known';
COMMENT ON COLUMN attpc.run_files.first_event IS 'The first event number of any stream; NULL: none, or not known';
COMMENT ON COLUMN attpc.run_files.last_event IS 'The last event number of any stream; NULL: none, or not known';
COMMENT ON COLUMN attpc.run_files.all_from IS
    'The first event number that every stream has; NULL: one has none, or not known';
COMMENT ON COLUMN attpc.run_files.missing_events IS
    'Event numbers left out between the first and the last, summed over the streams: an event that four AsAd boards '
    'lack counts four times. NULL: not known';
COMMENT ON COLUMN attpc.run_files.resets IS
    'How often event numbers began anew, summed over the streams. NULL: not known';
COMMENT ON COLUMN attpc.run_files.damaged_frames IS
    'Frames that are torn or out of order, summed over the streams. NULL: not known';
COMMENT ON COLUMN attpc.run_files.sync IS
    'The worst Router:Sync_RBV of the run: OutOfStep, Reset or Torn; empty if there was none of these';
COMMENT ON COLUMN attpc.run_files.frames_check IS
    'What `attpc-ioc files check` has found in all frames: not run, no faults, or faults: torn, out of order, numbers '
    'that begin anew, or a board that is not as the others';
COMMENT ON COLUMN attpc.run_files.manifest IS
    'The text of manifest.json; empty where a sentry has moved the files, which writes none';
COMMENT ON COLUMN attpc.runs.event_count IS
    'Events that every stream of every data router has; NULL if that of one is not known';
COMMENT ON COLUMN attpc.runs.unequal_events IS
    'Events at the beginning and at the end of the run that not all streams have; those of one second at the end do '
    'not count, because a stop may reach boards one after the other. NULL: not known';
COMMENT ON COLUMN attpc.runs.missing_events IS
    'Sum over all streams; NULL if that of a data router is not known, and no other has any';
COMMENT ON COLUMN attpc.runs.resets IS
    'Sum over all streams; NULL if that of a data router is not known, and no other has any';
COMMENT ON COLUMN attpc.runs.damaged_frames IS
    'Sum over all streams; NULL if that of a data router is not known, and no other has any';
COMMENT ON COLUMN attpc.runs.frames_check IS
    'As of its data routers; incomplete: no faults, but the frames of some were not looked at';
COMMENT ON COLUMN attpc.runs.bad IS 'A run to look at, see db/README.md';
