-- name: device_page_ascending
SELECT shown::text AS shown FROM device_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (first_seen, id) > (SELECT first_seen, id FROM device WHERE id = $2))
ORDER BY first_seen, id
LIMIT $4;

-- name: device_page_descending
SELECT shown::text AS shown FROM device_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (first_seen, id) < (SELECT first_seen, id FROM device WHERE id = $2))
ORDER BY first_seen DESC, id DESC
LIMIT $4;

-- name: device_fitting
SELECT count(*) FROM device_shown WHERE account_id = $1 AND fits(shown, $2::text::jsonb);

-- name: certificate_page_ascending
SELECT shown::text AS shown FROM certificate_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (issued_at, issuance_id) > (SELECT issued_at, issuance_id FROM certificate WHERE issuance_id = $2 LIMIT 1))
  AND ($5::text IS NULL OR endpoint = $5) AND ($6::bytea IS NULL OR serial = $6)
ORDER BY issued_at, issuance_id
LIMIT $4;

-- name: certificate_page_descending
SELECT shown::text AS shown FROM certificate_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (issued_at, issuance_id) < (SELECT issued_at, issuance_id FROM certificate WHERE issuance_id = $2 LIMIT 1))
  AND ($5::text IS NULL OR endpoint = $5) AND ($6::bytea IS NULL OR serial = $6)
ORDER BY issued_at DESC, issuance_id DESC
LIMIT $4;

-- name: certificate_fitting
SELECT count(*) FROM certificate_shown WHERE account_id = $1 AND fits(shown, $2::text::jsonb);

-- name: session_page_ascending
SELECT shown::text AS shown FROM session_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (started_at, id) > (SELECT started_at, id FROM session WHERE id = $2 LIMIT 1))
  AND ($5::text IS NULL OR endpoint = $5)
ORDER BY started_at, id
LIMIT $4;

-- name: session_page_descending
SELECT shown::text AS shown FROM session_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (started_at, id) < (SELECT started_at, id FROM session WHERE id = $2 LIMIT 1))
  AND ($5::text IS NULL OR endpoint = $5)
ORDER BY started_at DESC, id DESC
LIMIT $4;

-- name: session_fitting
SELECT count(*) FROM session_shown WHERE account_id = $1 AND fits(shown, $2::text::jsonb);

-- name: audit_page_ascending
SELECT shown::text AS shown FROM audit_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (at, id) > (SELECT at, id FROM audit WHERE id = $2 LIMIT 1))
ORDER BY at, id
LIMIT $4;

-- name: audit_page_descending
SELECT shown::text AS shown FROM audit_shown
WHERE account_id = $1 AND fits(shown, $3::text::jsonb)
  AND ($2::uuid IS NULL OR (at, id) < (SELECT at, id FROM audit WHERE id = $2 LIMIT 1))
ORDER BY at DESC, id DESC
LIMIT $4;

-- name: audit_fitting
SELECT count(*) FROM audit_shown WHERE account_id = $1 AND fits(shown, $2::text::jsonb);
