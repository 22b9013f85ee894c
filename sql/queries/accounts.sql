-- name: account_add
INSERT INTO account (id, name, is_default) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING id, name, is_default, third_party_ca, third_party_ca_since, version, created_at;

-- name: account_default
SELECT id, name, is_default, third_party_ca, third_party_ca_since, version, created_at FROM account WHERE is_default;

-- name: account_find
SELECT id, name, is_default, third_party_ca, third_party_ca_since, version, created_at FROM account WHERE id = $1;

-- name: account_all
SELECT id, name, is_default, third_party_ca, third_party_ca_since, version, created_at FROM account ORDER BY name;

-- name: api_key_add
INSERT INTO api_key (id, account_id, name, role, key_sha256, active, owner_id) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, account_id, name, role, active, version, owner_id, active_since, created_at, updated_at;

-- name: api_key_find
SELECT id, account_id, name, role, active, version, owner_id, active_since, created_at, updated_at
FROM api_key WHERE key_sha256 = $1 AND active;

-- name: api_key_list
SELECT id, account_id, name, role, active, version, owner_id, active_since, created_at, updated_at
FROM api_key WHERE account_id = $1 ORDER BY created_at, id;

-- name: api_key_remove
DELETE FROM api_key WHERE account_id = $1 AND name = $2 RETURNING id;

-- name: api_key_by_id
SELECT id, account_id, name, role, active, version, owner_id, active_since, created_at, updated_at
FROM api_key WHERE account_id = $1 AND id = $2 FOR UPDATE;

-- name: api_key_update
UPDATE api_key SET name = $3, role = $4, active = $5,
                   active_since = CASE WHEN active = $5 THEN active_since ELSE now() END, version = version + 1, updated_at = now()
WHERE account_id = $1 AND id = $2
RETURNING id, account_id, name, role, active, version, owner_id, active_since, created_at, updated_at;

-- name: api_key_remove_by_id
DELETE FROM api_key WHERE account_id = $1 AND id = $2 RETURNING name;

-- name: api_key_other_admins
-- The last key that may make keys must stay.
SELECT count(*) FROM api_key WHERE account_id = $1 AND role = 'admin' AND active AND id <> $2;

-- name: account_set_third_party_ca
WITH before AS (SELECT third_party_ca FROM account WHERE id = $1 FOR UPDATE)
UPDATE account
SET third_party_ca = $2,
    third_party_ca_since = CASE WHEN before.third_party_ca = $2 THEN third_party_ca_since ELSE now() END,
    version = CASE WHEN before.third_party_ca = $2 THEN version ELSE version + 1 END
FROM before WHERE id = $1
RETURNING id, name, is_default, account.third_party_ca, third_party_ca_since, version, created_at, before.third_party_ca AS before;

-- name: account_lock
-- Limits and last keys count rows that others may be changing.
SELECT id FROM account WHERE id = $1 FOR UPDATE;
