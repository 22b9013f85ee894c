-- name: sealed_sample
-- A sealed value that every record has from its first start. Waits for a rotation that is under way.
SELECT key FROM server_credential FOR SHARE;

-- name: sealed_patience
SET LOCAL lock_timeout = '5s';

-- name: sealed_lock
-- Nobody seals while a rotation is under way; reading goes on.
LOCK TABLE pre_shared_key, certificate_issuer, embedded_ca, server_credential IN SHARE ROW EXCLUSIVE MODE;

-- name: sealed_lock_sample
SELECT id FROM server_credential FOR UPDATE;

-- name: sealed_elsewhere
-- Who else works on this record and seals with another key.
SELECT DISTINCT application_name, coalesce(host(client_addr), 'this machine') AS address
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND starts_with(application_name, $1) AND application_name <> $2
ORDER BY 1, 2;

-- name: sealed_pre_shared_key
SELECT id, account_id, key FROM pre_shared_key WHERE id > $1 ORDER BY id LIMIT $2;

-- name: sealed_pre_shared_key_set
UPDATE pre_shared_key AS t SET key = w.key
FROM unnest($1::uuid[], $2::bytea[]) AS w (id, key) WHERE t.id = w.id;

-- name: sealed_certificate_issuer
SELECT id, account_id, credentials FROM certificate_issuer WHERE id > $1 ORDER BY id LIMIT $2;

-- name: sealed_certificate_issuer_set
UPDATE certificate_issuer AS t SET credentials = w.credentials
FROM unnest($1::uuid[], $2::bytea[]) AS w (id, credentials) WHERE t.id = w.id;

-- name: sealed_embedded_ca
SELECT id, account_id, root_key, issuing_key FROM embedded_ca WHERE id > $1 ORDER BY id LIMIT $2;

-- name: sealed_embedded_ca_set
UPDATE embedded_ca AS t SET root_key = w.root_key, issuing_key = w.issuing_key
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS w (id, root_key, issuing_key) WHERE t.id = w.id;

-- name: sealed_server_credential
SELECT id, NULL::uuid AS account_id, root_key, key FROM server_credential WHERE id > $1 ORDER BY id LIMIT $2;

-- name: sealed_server_credential_set
UPDATE server_credential AS t SET root_key = w.root_key, key = w.key
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS w (id, root_key, key) WHERE t.id = w.id;
