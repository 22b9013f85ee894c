-- name: trust_anchors
SELECT id, account_id, service, certificate, active, enrollment_mode FROM trusted_certificate ORDER BY id;

-- name: trust_list
SELECT id, account_id, service, name, description, certificate, fingerprint, subject, issuer, not_after, active,
       enrollment_mode, version, device_execution_mode, owner_id, created_at, updated_at
FROM trusted_certificate
WHERE account_id = $1 AND ($2::text IS NULL OR service = $2)
ORDER BY name, id;

-- name: trust_find
SELECT id, account_id, service, name, description, certificate, fingerprint, subject, issuer, not_after, active,
       enrollment_mode, version, device_execution_mode, owner_id, created_at, updated_at
FROM trusted_certificate WHERE account_id = $1 AND id = $2;

-- name: trust_lock
-- Readers go on; changes take turns.
LOCK TABLE trusted_certificate IN SHARE ROW EXCLUSIVE MODE;

-- name: trust_is_elsewhere
SELECT EXISTS (SELECT FROM trusted_certificate
               WHERE fingerprint = $1 AND account_id <> $2 AND service = 'bootstrap' AND active
                 AND NOT (enrollment_mode AND $3));

-- name: trust_same
-- What this certificate is called where it is there already.
SELECT name, active FROM trusted_certificate WHERE account_id = $1 AND service = $2 AND fingerprint = $3;

-- name: trust_add
INSERT INTO trusted_certificate (id, account_id, service, name, description, certificate, fingerprint, spki_sha256,
                                 subject, issuer, not_after, active, enrollment_mode, device_execution_mode,
                                 owner_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
RETURNING id, account_id, service, name, description, certificate, fingerprint, subject, issuer, not_after, active,
          enrollment_mode, version, device_execution_mode, owner_id, created_at, updated_at;

-- name: trust_set_active
UPDATE trusted_certificate SET active = $3, version = version + 1, updated_at = now()
WHERE account_id = $1 AND id = $2
RETURNING id, account_id, service, name, description, certificate, fingerprint, subject, issuer, not_after, active,
          enrollment_mode, version, device_execution_mode, owner_id, created_at, updated_at;

-- name: trust_remove
DELETE FROM trusted_certificate WHERE account_id = $1 AND id = $2
RETURNING id, account_id, service, name, description, certificate, fingerprint, subject, issuer, not_after, active,
          enrollment_mode, version, device_execution_mode, owner_id, created_at, updated_at;

-- name: trust_names
SELECT name FROM trusted_certificate WHERE account_id = $1;

-- name: trust_update
UPDATE trusted_certificate
SET name = $3, description = $4, active = $5, enrollment_mode = $6, version = version + 1, updated_at = now()
WHERE account_id = $1 AND id = $2
RETURNING id, account_id, service, name, description, certificate, fingerprint, subject, issuer, not_after, active,
          enrollment_mode, version, device_execution_mode, owner_id, created_at, updated_at;

-- name: trusted_developer
-- The developer certificates of an account.
SELECT fingerprint FROM trusted_certificate WHERE account_id = $1 AND device_execution_mode = 1;
