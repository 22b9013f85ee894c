-- How many refusals are in no row of the list, because more came at once than are written, or more than are kept: one row.
CREATE TABLE refusal_unlisted (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    count    bigint      NOT NULL,
    first_at timestamptz NOT NULL,
    last_at  timestamptz NOT NULL
);
