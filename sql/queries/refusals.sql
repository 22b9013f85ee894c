-- name: refusal_add
-- In the order of the key, so that two workers wait for each other in one direction only.
INSERT INTO refusal (source, reason, identity, credential, count, first_seen, last_seen)
SELECT w.source, w.reason, w.identity, max(w.credential), sum(w.count), min(w.seen), max(w.seen)
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[])
    AS w (source, reason, identity, credential, count, seen)
GROUP BY w.source, w.reason, w.identity
ORDER BY w.source, w.reason, w.identity
ON CONFLICT (source, reason, identity) DO UPDATE
SET credential = EXCLUDED.credential, count = refusal.count + EXCLUDED.count,
    last_seen = greatest(refusal.last_seen, EXCLUDED.last_seen);

-- name: refusal_trim
-- Let the oldest beyond $1 go, and tell how many refusals they were; a row that another worker trims or counts now is
-- left to it.
WITH gone AS (
    DELETE FROM refusal r
    USING (SELECT source, reason, identity FROM refusal
           ORDER BY last_seen DESC OFFSET $1 FOR UPDATE SKIP LOCKED) old
    WHERE r.source = old.source AND r.reason = old.reason AND r.identity = old.identity
    RETURNING r.count
)
SELECT coalesce(sum(count), 0)::bigint FROM gone;

-- name: refusal_unlisted_add
-- $1 more that are in no row; counted anew after a day without any, so that it tells of one flood and not of all.
INSERT INTO refusal_unlisted AS u (count, first_at, last_at) VALUES ($1, $2, $2)
ON CONFLICT (only_row) DO UPDATE
SET count = EXCLUDED.count + CASE WHEN u.last_at < EXCLUDED.last_at - interval '1 day' THEN 0 ELSE u.count END,
    first_at = CASE WHEN u.last_at < EXCLUDED.last_at - interval '1 day' THEN EXCLUDED.first_at ELSE u.first_at END,
    last_at = greatest(u.last_at, EXCLUDED.last_at);

-- name: refusal_unlisted
SELECT count, first_at, last_at FROM refusal_unlisted;

-- name: refusal_list
SELECT source, reason, identity, credential, count, first_seen, last_seen
FROM refusal ORDER BY last_seen DESC LIMIT $1;
