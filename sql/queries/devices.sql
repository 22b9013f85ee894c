-- name: device_find
-- Devices by account and name, for many callers at once.
SELECT w.place, d.id, d.account_id, d.endpoint, d.profile, coalesce(d.learned::text, '{}') AS learned, d.state,
       d.first_seen, d.last_seen, d.last_session_id, d.verified_by
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS w (account_id, endpoint, place)
JOIN device d ON d.account_id = w.account_id AND d.endpoint = w.endpoint;

-- name: device_list
SELECT id, account_id, endpoint, profile, coalesce(learned::text, '{}') AS learned, state, first_seen, last_seen,
       last_session_id, verified_by
FROM device
WHERE account_id = $1 AND ($2::text IS NULL OR state = $2) AND endpoint > $3
ORDER BY endpoint
LIMIT $4;

-- name: device_forget
WITH forgotten AS (
    UPDATE device SET learned = NULL WHERE account_id = $1 AND endpoint = $2 RETURNING id, account_id, endpoint
), anew AS (
    INSERT INTO est_offer (account_id, endpoint) SELECT account_id, endpoint FROM forgotten
    ON CONFLICT (account_id, endpoint) DO UPDATE
    SET rounds = 0, offered_at = NULL, waited_until = NULL, asked_at = NULL
)
SELECT id FROM forgotten;

-- name: device_remove
WITH keys AS (
    DELETE FROM known_key WHERE account_id = $1 AND endpoint = $2
), offers AS (
    DELETE FROM est_offer WHERE account_id = $1 AND endpoint = $2
)
DELETE FROM device WHERE account_id = $1 AND endpoint = $2 RETURNING id;

-- name: device_by_id
SELECT id, account_id, endpoint, profile, coalesce(learned::text, '{}') AS learned, state, first_seen, last_seen,
       last_session_id, verified_by
FROM device WHERE account_id = $1 AND id = $2;

-- name: device_held
SELECT certificate_id FROM device WHERE account_id = $1 AND id = $2;

-- name: device_add
-- A device that is expected; one that is here already is left as it is.
INSERT INTO device (id, account_id, endpoint, name, description, first_seen, last_seen, enrolled_at)
VALUES ($1, $2, $3, nullif($4, $3), $5, $6, $6, (SELECT min(e.created_at) FROM device_enrollment e WHERE e.device_id = $1))
ON CONFLICT DO NOTHING
RETURNING id;

-- name: device_labels
SELECT endpoint, coalesce(name, endpoint) AS name, description FROM device WHERE account_id = $1 AND id = $2 FOR UPDATE;

-- name: device_label
UPDATE device SET name = nullif($3, endpoint), description = $4 WHERE account_id = $1 AND id = $2;

-- name: device_of_factory_key
-- Another device than this one whose factory key it is, whatever its account.
SELECT account_id, endpoint FROM device
WHERE factory_key = $1 AND (account_id, endpoint) <> ($2::uuid, $3::text)
LIMIT 1;
