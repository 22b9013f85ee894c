-- name: session_find
SELECT id, account_id, kind, endpoint, started_at, ended_at, profile, credential, address, outcome, cause, sentence,
       issuance_id, steps::text AS steps
FROM session WHERE id = $1;

-- name: session_of_endpoint
SELECT id, account_id, kind, endpoint, started_at, ended_at, profile, credential, address, outcome, cause, sentence,
       issuance_id, steps::text AS steps
FROM session
WHERE account_id = $1 AND endpoint = $2 AND ($3::timestamptz IS NULL OR started_at < $3)
ORDER BY started_at DESC
LIMIT $4;
