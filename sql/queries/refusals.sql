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
-- Let the oldest beyond $1 go; a row that another worker trims or counts now is left to it.
DELETE FROM refusal r
USING (SELECT source, reason, identity FROM refusal
       ORDER BY last_seen DESC OFFSET $1 FOR UPDATE SKIP LOCKED) old
WHERE r.source = old.source AND r.reason = old.reason AND r.identity = old.identity;

-- name: refusal_list
SELECT source, reason, identity, credential, count, first_seen, last_seen
FROM refusal ORDER BY last_seen DESC LIMIT $1;
