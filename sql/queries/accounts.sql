-- name: account_add
INSERT INTO account (id, name, is_default) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING id, name, is_default, created_at;

-- name: account_default
SELECT id, name, is_default, created_at FROM account WHERE is_default;

-- name: account_find
SELECT id, name, is_default, created_at FROM account WHERE id = $1;

-- name: account_all
SELECT id, name, is_default, created_at FROM account ORDER BY name;

-- name: api_key_add
INSERT INTO api_key (id, account_id, name, role, key_sha256) VALUES ($1, $2, $3, $4, $5)
RETURNING id, account_id, name, role, created_at;

-- name: api_key_find
SELECT id, account_id, name, role, created_at FROM api_key WHERE key_sha256 = $1;

-- name: api_key_list
SELECT id, account_id, name, role, created_at FROM api_key WHERE account_id = $1 ORDER BY name;

-- name: api_key_remove
DELETE FROM api_key WHERE account_id = $1 AND name = $2 RETURNING id;
