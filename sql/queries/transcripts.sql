-- name: transcript_list
-- Newest first; behind the attempt of $3 and $4, when they are given.
SELECT session_id, endpoint, started_at, cause, octet_length(content::text) AS bytes
FROM transcript WHERE account_id = $1 AND ($2::text IS NULL OR endpoint = $2)
  AND ($3::timestamptz IS NULL OR started_at < $3 OR (started_at = $3 AND session_id > $4::uuid))
ORDER BY started_at DESC, session_id
LIMIT $5;

-- name: transcript_find
-- Of this session, or the device's newest.
SELECT content::text AS content FROM transcript
WHERE account_id = $1 AND endpoint = $2 AND ($3::uuid IS NULL OR session_id = $3)
ORDER BY started_at DESC LIMIT 1;

-- name: transcript_delete_old
WITH gone AS (DELETE FROM transcript WHERE started_at < now() - make_interval(days => $1) RETURNING 1)
SELECT count(*) FROM gone;
