-- name: enrollment_add
INSERT INTO device_enrollment (id, account_id, fingerprint) VALUES ($1, $2, $3)
ON CONFLICT (fingerprint) DO NOTHING
RETURNING id, account_id, fingerprint, created_at, claimed_at, device_id;

-- name: enrollment_count
SELECT count(*) FROM device_enrollment WHERE account_id = $1;

-- name: enrollment_after
SELECT id, account_id, fingerprint, created_at, claimed_at, device_id
FROM device_enrollment WHERE account_id = $1 AND (created_at, id) > ($2::timestamptz, $3::uuid)
ORDER BY created_at, id LIMIT $4;

-- name: enrollment_before
SELECT id, account_id, fingerprint, created_at, claimed_at, device_id
FROM device_enrollment WHERE account_id = $1 AND (created_at, id) < ($2::timestamptz, $3::uuid)
ORDER BY created_at DESC, id DESC LIMIT $4;

-- name: enrollment_find
SELECT id, account_id, fingerprint, created_at, claimed_at, device_id
FROM device_enrollment WHERE account_id = $1 AND id = $2;

-- name: enrollment_remove
WITH gone AS (
    DELETE FROM device_enrollment WHERE account_id = $1 AND id = $2
    RETURNING id, account_id, fingerprint, created_at, claimed_at, device_id
), unclaimed AS (
    UPDATE device d SET enrolled_at = NULL FROM gone WHERE d.account_id = $1 AND d.id = gone.device_id
)
SELECT id, account_id, fingerprint, created_at, claimed_at, device_id FROM gone;

-- name: enrollment_claimed_by
SELECT account_id FROM device_enrollment WHERE fingerprint = $1;

-- name: enrollment_claimed
SELECT fingerprint FROM device_enrollment WHERE fingerprint = ANY ($1::bytea[]);

-- name: enrollment_claim
UPDATE device_enrollment SET claimed_at = coalesce(claimed_at, $3), device_id = $2
WHERE fingerprint = $1 AND device_id IS DISTINCT FROM $2;

-- name: enrollment_deny
INSERT INTO device_enrollment_denial (trusted_certificate_id, fingerprint, id, account_id, endpoint)
SELECT t.id, $2, gen_random_uuid(), t.account_id, $3
FROM trusted_certificate t
WHERE t.id = ANY ($1::uuid[])
  AND (SELECT count(*) FROM device_enrollment_denial d WHERE d.trusted_certificate_id = t.id) < $4
ON CONFLICT (trusted_certificate_id, fingerprint) DO UPDATE SET created_at = now(), endpoint = EXCLUDED.endpoint;

-- name: enrollment_denials
SELECT id, account_id, trusted_certificate_id, fingerprint, endpoint, created_at
FROM device_enrollment_denial
WHERE account_id = $1 AND trusted_certificate_id = $2
ORDER BY created_at, id;

-- name: enrollment_add_many
-- What is claimed by this; a fingerprint that is missing in the answer is claimed already.
INSERT INTO device_enrollment (id, account_id, fingerprint)
SELECT gen_random_uuid(), $1, wanted FROM unnest($2::bytea[]) AS wanted
ON CONFLICT (fingerprint) DO NOTHING
RETURNING fingerprint;

-- name: enrollment_remove_many
WITH gone AS (
    DELETE FROM device_enrollment WHERE account_id = $1 AND fingerprint = ANY ($2::bytea[])
    RETURNING fingerprint, device_id
), unclaimed AS (
    UPDATE device d SET enrolled_at = NULL FROM gone WHERE d.account_id = $1 AND d.id = gone.device_id
)
SELECT fingerprint FROM gone;

-- name: enrollment_task_add
INSERT INTO device_enrollment_task (id, account_id, kind, created_at, total, faults)
VALUES ($1, $2, $3, $4, $5, $6::text::json)
RETURNING id, account_id, kind, created_at, completed_at, total, faults::text AS faults;

-- name: enrollment_task_find
SELECT id, account_id, kind, created_at, completed_at, total, faults::text AS faults
FROM device_enrollment_task WHERE account_id = $1 AND id = $2 AND kind = $3;
