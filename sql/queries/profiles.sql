-- name: profile_all
SELECT id, account_id, name, toml, files::text AS files, created_at, updated_at FROM profile ORDER BY account_id, name;

-- name: profile_list
SELECT id, account_id, name, toml, files::text AS files, created_at, updated_at
FROM profile WHERE account_id = $1 ORDER BY name;

-- name: profile_find
SELECT id, account_id, name, toml, files::text AS files, created_at, updated_at
FROM profile WHERE account_id = $1 AND name = $2;

-- name: profile_ensure
INSERT INTO profile (id, account_id, name, toml, files) VALUES ($1, $2, $3, $4, $5::text::jsonb)
ON CONFLICT (account_id, name) DO NOTHING;

-- name: profile_put
INSERT INTO profile (id, account_id, name, toml, files) VALUES ($1, $2, $3, $4, $5::text::jsonb)
ON CONFLICT (account_id, name) DO UPDATE SET toml = EXCLUDED.toml, files = EXCLUDED.files, updated_at = now()
RETURNING id, account_id, name, toml, files::text AS files, created_at, updated_at;

-- name: profile_remove
DELETE FROM profile WHERE account_id = $1 AND name = $2 RETURNING id;
