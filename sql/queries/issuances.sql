-- name: issuance_find
SELECT id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key, serial,
       not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at, delivered_at,
       answers_until, reference, error_class, error_text
FROM issuance WHERE id = $1;

-- name: issuance_by_csr
-- The row that answers for a CSR now.
SELECT id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key, serial,
       not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at, delivered_at,
       answers_until, reference, error_class, error_text
FROM issuance
WHERE account_id = $1 AND service = $2 AND csr_sha256 = $3 AND current
  AND (answers_until IS NULL OR answers_until > now());

-- name: issuance_of_endpoint
SELECT id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key, serial,
       not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at, delivered_at,
       answers_until, reference, error_class, error_text
FROM issuance
WHERE account_id = $1 AND endpoint = $2
ORDER BY opened_at DESC
LIMIT $3;

-- name: issuance_undelivered
-- Who asks again does not use what it was given before: certificates kept because it might are due to be revoked.
WITH doubtful AS (
    UPDATE certificate SET revocation_due = now()
    WHERE account_id = $1 AND endpoint = $2 AND service = $3 AND revocation_due = 'infinity'
)
SELECT id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key, serial,
       not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at, delivered_at,
       answers_until, reference, error_class, error_text
FROM issuance
WHERE account_id = $1 AND endpoint = $2 AND service = $3 AND state = 'issued' AND server_key AND NOT settled;

-- name: issuance_renew_leases
UPDATE issuance SET lease_until = $3
WHERE id = ANY ($2::uuid[]) AND owner = $1 AND NOT settled
RETURNING id;

-- name: issuance_adopt_expired
-- Rows that nobody renews. SKIP LOCKED: a row that another worker is taking now is not waited for.
UPDATE issuance SET owner = $1, lease_until = $3, updated_at = now()
WHERE id IN (SELECT id FROM issuance WHERE NOT settled AND lease_until < $2
             ORDER BY lease_until LIMIT $4 FOR UPDATE SKIP LOCKED)
RETURNING id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key,
          serial, not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at,
          delivered_at, answers_until, reference, error_class, error_text;

-- name: issuance_unknown
-- Requests of an endpoint for a server-made key whose outcome nobody knows, and that no person has released.
SELECT id FROM issuance
WHERE account_id = $1 AND endpoint = $2 AND service = $3 AND issuer_id IS NOT DISTINCT FROM $4
  AND state = 'unknown' AND server_key AND current;

-- name: issuance_leave_unknown
-- Nobody can find out what became of it: it is for people now.
UPDATE issuance SET settled = true, updated_at = now()
WHERE id = $1 AND owner = $2 AND state = 'unknown';

-- name: issuance_release
-- Requests of an endpoint whose outcome stays unknown: from now on they stand in nobody's way.
UPDATE issuance SET settled = true, current = false, updated_at = now()
WHERE account_id = $1 AND endpoint = $2 AND state = 'unknown' AND current
RETURNING id;
