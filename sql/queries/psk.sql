-- name: psk_find
-- Bootstrap keys by identity, for many handshakes at once.
SELECT w.place, k.id, k.account_id, k.identity, k.key, k.endpoint
FROM unnest($1::bytea[]) WITH ORDINALITY AS w (identity, place)
JOIN pre_shared_key k ON k.service = 'bootstrap' AND k.identity = w.identity;

-- name: psk_for_endpoint
SELECT id, account_id, identity, key, endpoint
FROM pre_shared_key
WHERE account_id = $1 AND endpoint = $2 AND service = $3
ORDER BY created_at DESC, id
LIMIT 1;

-- name: psk_list
SELECT id, account_id, service, identity, endpoint, created_at
FROM pre_shared_key
WHERE account_id = $1 AND ($2::text IS NULL OR service = $2)
ORDER BY endpoint, created_at, id
LIMIT $3;

-- name: psk_page
-- Behind a row in the order of names, or the first; part of a name or of an identity may be asked for.
SELECT id, account_id, service, identity, endpoint, created_at
FROM pre_shared_key
WHERE account_id = $1
  AND ($2 = '' OR position(lower($2) IN lower(endpoint)) > 0)
  AND ($3 = ''::bytea OR position($3 IN identity) > 0)
  AND ($4::text IS NULL OR (endpoint, id) > ($4, $5::uuid))
ORDER BY endpoint, id
LIMIT $6;

-- name: psk_page_descending
SELECT id, account_id, service, identity, endpoint, created_at
FROM pre_shared_key
WHERE account_id = $1
  AND ($2 = '' OR position(lower($2) IN lower(endpoint)) > 0)
  AND ($3 = ''::bytea OR position($3 IN identity) > 0)
  AND ($4::text IS NULL OR (endpoint, id) < ($4, $5::uuid))
ORDER BY endpoint DESC, id DESC
LIMIT $6;

-- name: psk_count
SELECT count(*) FROM pre_shared_key
WHERE account_id = $1
  AND ($2 = '' OR position(lower($2) IN lower(endpoint)) > 0)
  AND ($3 = ''::bytea OR position($3 IN identity) > 0);

-- name: psk_row
SELECT id, account_id, service, identity, endpoint, created_at
FROM pre_shared_key
WHERE account_id = $1 AND id = $2;

-- name: psk_row_of
SELECT id, account_id, service, identity, endpoint, created_at
FROM pre_shared_key
WHERE account_id = $1 AND service = $2 AND identity = $3;

-- name: psk_add
INSERT INTO pre_shared_key (id, account_id, service, identity, key, endpoint)
SELECT w.id, $1, $2, w.identity, w.key, w.endpoint
FROM unnest($3::uuid[], $4::bytea[], $5::bytea[], $6::text[]) AS w (id, identity, key, endpoint)
ON CONFLICT (service, identity) DO NOTHING
RETURNING id;

-- name: psk_remove
DELETE FROM pre_shared_key WHERE account_id = $1 AND service = $2 AND identity = $3 RETURNING endpoint;
