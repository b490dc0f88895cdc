-- What an edit replaced, and edits of measured values: `field` is then `value`, of this observable.

ALTER TABLE attpc.run_edits
    ADD COLUMN old_value text,
    ADD COLUMN observable text NOT NULL DEFAULT '',
    DROP CONSTRAINT run_edits_field_check,
    ADD CONSTRAINT run_edits_field_check
        CHECK (field IN ('title', 'operator', 'run_class', 'comment', 'quality', 'value')),
    ADD CONSTRAINT run_edits_observable_check CHECK ((field = 'value') = (observable <> ''));
