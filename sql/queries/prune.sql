-- name: partitions_make
SELECT make_partitions($1, $2, now(), $3);

-- name: partitions_drop
SELECT drop_partitions($1, now() - make_interval(days => $2));

-- name: session_delete_old
-- What is left of a month that is not wholly too old.
WITH gone AS (DELETE FROM session WHERE started_at < now() - make_interval(days => $1) RETURNING 1)
SELECT count(*) FROM gone;

-- name: audit_delete_old
WITH gone AS (DELETE FROM audit WHERE at < now() - make_interval(days => $1) RETURNING 1)
SELECT count(*) FROM gone;
