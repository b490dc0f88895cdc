-- The events of a run are those that all streams have that have any: a board without data does not make them 0, and is
-- found by unequal_events. See db/README.md.

-- The files of all data routers of a run together. A figure is known if that of each is, or if what is known is bad
-- enough. Of words the last in the list is the worst; one that is not in it is worse. A router whose streams have no
-- frame has event_count 0 and no all_from; one of which some streams have none has a first_event and no all_from.
CREATE OR REPLACE VIEW attpc.files_of_runs AS
WITH figures AS (
    SELECT run_id,
        (array_agg(state ORDER BY array_position(
            ARRAY['Done', 'Waiting', 'Moving', 'Unreachable', 'Incomplete', 'Failed'], state) DESC NULLS FIRST))[1]
            AS files_state,
        CASE WHEN bool_and(event_count IS NOT NULL)
            THEN coalesce(min(event_count) FILTER (WHERE event_count > 0 OR all_from IS NOT NULL), 0) END
            AS event_count,
        CASE WHEN bool_and(missing_events IS NOT NULL) OR sum(missing_events) > 0
            THEN least(sum(missing_events), 9223372036854775807)::bigint END AS missing_events,
        CASE WHEN bool_and(resets IS NOT NULL) OR sum(resets) > 0
            THEN least(sum(resets), 9223372036854775807)::bigint END AS resets,
        CASE WHEN bool_and(damaged_frames IS NOT NULL) OR sum(damaged_frames) > 0
            THEN least(sum(damaged_frames), 9223372036854775807)::bigint END AS damaged_frames,
        (array_agg(sync ORDER BY array_position(
            ARRAY['', 'OutOfStep', 'Reset', 'Torn', 'Dead'], sync) DESC NULLS FIRST))[1] AS sync,
        CASE
            WHEN bool_or(frames_check = 'faults') THEN 'faults'
            WHEN bool_and(frames_check = 'no faults') THEN 'no faults'
            WHEN bool_or(frames_check = 'no faults') THEN 'incomplete'
            ELSE 'not run'
        END AS frames_check,
        bool_or(event_count = 0 OR first_event IS NOT NULL AND all_from IS NULL) AS some_without,
        bool_and(event_count IS NOT NULL AND (event_count = 0 OR all_from IS NOT NULL)) AS ends_known,
        min(event_count) AS fewest,
        max(event_count) AS most,
        min(first_event)::numeric AS first_event,
        max(last_event)::numeric AS last_event,
        max(all_from)::numeric AS all_from,
        min(all_from::numeric + event_count - 1) AS all_to
    FROM attpc.run_files GROUP BY run_id
),
-- Runs of the versions before 0007 have numbers of events only. A board that has none lacks all that others have.
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
        WHEN f.some_without THEN CASE WHEN f.ends_known OR e.span > 0 THEN least(e.span, 9223372036854775807) END
        WHEN f.ends_known OR e.late > 0 OR e.early > coalesce(e.in_a_second, 0) THEN least(
            e.late + CASE WHEN e.early > coalesce(e.in_a_second, 0) THEN e.early ELSE 0 END, 9223372036854775807)
    END::bigint AS unequal_events,
    f.frames_check
FROM figures f JOIN ends e USING (run_id);

UPDATE attpc.runs r SET event_count = f.event_count
FROM attpc.files_of_runs f WHERE f.run_id = r.id AND r.event_count = 0 AND f.event_count > 0;

COMMENT ON COLUMN attpc.run_files.event_count IS
    'Events that every stream (AsAd board, or MuTAnT) of this router has that has any: last to first number, missing '
    'ones counted. NULL: not known';
COMMENT ON COLUMN attpc.run_files.sync IS
    'The worst Router:Sync_RBV of the run: OutOfStep, Reset or Torn; Dead: its frames are not read, and it had no data '
    'any more when the run was stopped, while others had; empty if there was none of these';
COMMENT ON COLUMN attpc.runs.event_count IS
    'Events that every stream of every data router has that has any; NULL if that of a data router is not known';
COMMENT ON COLUMN attpc.runs.unequal_events IS
    'Events at the beginning and at the end of the run that not all streams have, all of them where one has none; those '
    'of one second at the end do not count, because a stop may reach boards one after the other. NULL: not known';
