-- name: embedded_ca_add
INSERT INTO embedded_ca (id, account_id, root_certificate, root_key, issuing_certificate, issuing_key)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, account_id, root_certificate, issuing_certificate, root_key IS NOT NULL AS has_root_key, created_at;

-- name: embedded_ca_find
SELECT id, account_id, root_certificate, issuing_certificate, root_key IS NOT NULL AS has_root_key, created_at
FROM embedded_ca WHERE account_id = $1;

-- name: embedded_ca_material
SELECT id, account_id, root_certificate, issuing_certificate, issuing_key FROM embedded_ca ORDER BY id;

-- name: embedded_ca_root_key
SELECT id, root_key FROM embedded_ca WHERE account_id = $1;

-- name: embedded_ca_remove_root_key
UPDATE embedded_ca SET root_key = NULL WHERE account_id = $1 AND root_key IS NOT NULL RETURNING id;

-- name: server_credential_exists
SELECT EXISTS (SELECT FROM server_credential);

-- name: server_credential_find
SELECT id, root_certificate, root_key, certificate, key FROM server_credential;

-- name: server_credential_made
SELECT created_at FROM server_credential;

-- name: server_credential_lock
SELECT id FROM server_credential FOR UPDATE;

-- name: server_credential_ensure
INSERT INTO server_credential (id, root_certificate, root_key, certificate, key) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (singleton) DO NOTHING
RETURNING id;

-- name: server_credential_renew
UPDATE server_credential SET certificate = $2, key = $3, updated_at = now() WHERE id = $1;
