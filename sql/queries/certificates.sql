-- name: certificate_find
SELECT c.issuance_id, c.account_id, c.device_id, c.issuer_id, c.endpoint, c.service, i.state, c.serial,
       c.issuer_fingerprint, c.not_before, c.not_after, c.issued_at, c.revoked_at, c.revocation_reason, c.certificate,
       h.certificates
FROM certificate c
JOIN issuance i ON i.id = c.issuance_id
JOIN issuing_chain h ON h.sha256 = c.chain_sha256
WHERE c.issuance_id = $1;

-- name: certificate_by_serial
-- By number and key: whichever certificate of a CA's name and key it is verified with, it is the same one.
SELECT c.issuance_id, c.account_id, c.device_id, c.issuer_id, c.endpoint, c.service, i.state, c.serial,
       c.issuer_fingerprint, c.not_before, c.not_after, c.issued_at, c.revoked_at, c.revocation_reason, c.certificate,
       h.certificates
FROM certificate c
JOIN issuance i ON i.id = c.issuance_id
JOIN issuing_chain h ON h.sha256 = c.chain_sha256
WHERE c.serial = $1 AND c.spki_sha256 = $2;

-- name: certificate_of_service
-- The newest certificates a device holds for a service.
SELECT c.certificate
FROM certificate c
JOIN issuance i ON i.id = c.issuance_id
WHERE c.account_id = $1 AND c.endpoint = $2 AND c.service = $3 AND c.revoked_at IS NULL
  AND i.state IN ('issued', 'delivered')
ORDER BY c.issued_at DESC
LIMIT $4;

-- name: certificate_at_work
-- What a device may show with success: given to it, or perhaps (its last word was lost), neither withdrawn nor over.
SELECT c.issuance_id, c.account_id, c.device_id, c.issuer_id, c.endpoint, c.service, i.state, c.serial,
       c.issuer_fingerprint, c.not_before, c.not_after, c.issued_at, c.revoked_at, c.revocation_reason, c.certificate,
       h.certificates
FROM certificate c
JOIN issuance i ON i.id = c.issuance_id
JOIN issuing_chain h ON h.sha256 = c.chain_sha256
WHERE c.account_id = $1 AND c.endpoint = $2 AND c.revoked_at IS NULL AND c.not_after > $3
  AND (i.state IN ('issued', 'delivered') OR c.revocation_due = 'infinity')
ORDER BY c.issued_at DESC, c.issuance_id
LIMIT $4;

-- name: certificate_search
SELECT c.issuance_id, c.account_id, c.device_id, c.issuer_id, c.endpoint, c.service, i.state, c.serial,
       c.issuer_fingerprint, c.not_before, c.not_after, c.issued_at, c.revoked_at, c.revocation_reason, c.certificate,
       h.certificates
FROM certificate c
JOIN issuance i ON i.id = c.issuance_id
JOIN issuing_chain h ON h.sha256 = c.chain_sha256
WHERE c.account_id = $1
  AND ($2::text IS NULL OR c.endpoint = $2)
  AND ($3::bytea IS NULL OR c.serial = $3)
  AND ($4::text IS NULL OR i.state = $4)
  AND ($5::timestamptz IS NULL OR c.issued_at < $5)
ORDER BY c.issued_at DESC
LIMIT $6;

-- name: certificate_revoke
UPDATE certificate c SET revoked_at = $4, revocation_reason = $3, revocation_due = NULL
FROM issuance i, issuing_chain h
WHERE c.account_id = $1 AND c.issuance_id = $2 AND c.revoked_at IS NULL
  AND i.id = c.issuance_id AND h.sha256 = c.chain_sha256
RETURNING c.issuance_id, c.account_id, c.device_id, c.issuer_id, c.endpoint, c.service, i.state, c.serial,
          c.issuer_fingerprint, c.not_before, c.not_after, c.issued_at, c.revoked_at, c.revocation_reason, c.certificate,
          h.certificates;

-- name: certificate_revoke_abandoned
-- "Cessation of operation" (RFC 5280 5.3.1): the key is gone, not stolen.
UPDATE certificate SET revoked_at = $2, revocation_reason = 'cessationOfOperation', revocation_due = NULL
WHERE issuance_id = $1 AND revoked_at IS NULL;

-- name: certificate_keep_abandoned
UPDATE certificate SET revocation_due = NULL WHERE issuance_id = $1;

-- name: certificate_take_due
UPDATE certificate SET revocation_due = $2
WHERE issuance_id IN (SELECT issuance_id FROM certificate WHERE revocation_due <= $1
                      ORDER BY revocation_due LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING issuance_id, account_id, issuer_id, endpoint, serial;

-- name: certificate_revoked
SELECT serial, revoked_at, revocation_reason
FROM certificate
WHERE issuer_fingerprint = $1 AND revoked_at IS NOT NULL AND not_after > $2
ORDER BY revoked_at;

-- name: certificate_revoked_count
-- How many certificates of an account's embedded CA were ever revoked, which only grows; no row = it has no such CA.
SELECT count(c.issuer_fingerprint) AS revoked
FROM embedded_ca e
LEFT JOIN certificate c ON c.issuer_fingerprint = sha256(e.issuing_certificate) AND c.revoked_at IS NOT NULL
WHERE e.account_id = $1
GROUP BY e.id;
