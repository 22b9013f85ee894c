-- name: issuance_find
SELECT id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key, serial,
       not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at, delivered_at,
       answers_until, settled, lost_at, reference, error_class, error_text
FROM issuance WHERE id = $1;

-- name: issuance_by_csr
-- The row that answers for a CSR now.
SELECT id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key, serial,
       not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at, delivered_at,
       answers_until, settled, lost_at, reference, error_class, error_text
FROM issuance
WHERE account_id = $1 AND service = $2 AND csr_sha256 = $3 AND current
  AND (answers_until IS NULL OR answers_until > now());

-- name: issuance_retire
-- Its device has the certificate and asks for the next one.
UPDATE issuance SET current = false, updated_at = now()
WHERE id = $1 AND current AND settled AND state IN ('issued', 'delivered');

-- name: issuance_of_endpoint
SELECT id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key, serial,
       not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at, delivered_at,
       answers_until, settled, lost_at, reference, error_class, error_text
FROM issuance
WHERE account_id = $1 AND endpoint = $2
ORDER BY opened_at DESC
LIMIT $3;

-- name: issuance_undelivered
-- Who asks again does not use what it was given before: certificates kept because it might are due to be revoked. Of two
-- sessions that is the earlier whose first intent is: a session that lags behind takes nothing from the one that its
-- device went on to. For many callers at once.
WITH wish AS (
    SELECT w.account_id, w.endpoint, w.service, w.place,
           (SELECT min(own.opened_at) FROM issuance own
            WHERE own.account_id = w.account_id AND own.endpoint = w.endpoint AND own.session_id = w.session_id
              AND own.opened_at > now() - interval '24 hours') AS began
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) WITH ORDINALITY
        AS w (account_id, endpoint, service, session_id, place)
), doubtful AS (
    UPDATE certificate c SET revocation_due = now()
    FROM wish, issuance i
    WHERE c.account_id = wish.account_id AND c.endpoint = wish.endpoint AND c.service = wish.service
      AND c.revocation_due = 'infinity' AND i.id = c.issuance_id
      AND (SELECT coalesce(min(first.opened_at), i.opened_at) FROM issuance first
       WHERE first.account_id = i.account_id AND first.endpoint = i.endpoint AND first.session_id = i.session_id)
      < wish.began
)
SELECT wish.place, i.id, i.account_id, i.device_id, i.session_id, i.issuer_id, i.endpoint, i.service, i.state, i.owner,
       i.attempt, i.server_key, i.serial, i.not_before, i.csr, i.csr_sha256, i.spki_sha256, i.subject, i.opened_at,
       i.updated_at, i.lease_until, i.retry_at, i.delivered_at, i.answers_until, i.settled, i.lost_at, i.reference,
       i.error_class, i.error_text
FROM wish
JOIN issuance i ON i.account_id = wish.account_id AND i.endpoint = wish.endpoint AND i.service = wish.service
WHERE i.state = 'issued' AND i.server_key AND NOT i.settled
  AND (SELECT coalesce(min(first.opened_at), i.opened_at) FROM issuance first
   WHERE first.account_id = i.account_id AND first.endpoint = i.endpoint AND first.session_id = i.session_id)
  < wish.began;

-- name: issuance_is_for_device
-- Whether a certificate is still this worker's to deliver: nobody settled it, and no other session wished for the same
-- after its own began.
SELECT EXISTS (
    SELECT FROM issuance i
    WHERE i.id = $1 AND i.owner = $2 AND i.state = 'issued' AND NOT EXISTS (
        SELECT FROM issuance later
        WHERE later.account_id = i.account_id AND later.endpoint = i.endpoint AND later.service = i.service
          AND later.subject = i.subject AND later.server_key AND later.session_id <> i.session_id
          AND later.opened_at > (
              SELECT min(first.opened_at) FROM issuance first
              WHERE first.account_id = i.account_id AND first.endpoint = i.endpoint
                AND first.session_id = i.session_id)
    )
);

-- name: issuance_renew_leases
UPDATE issuance SET lease_until = $3
WHERE id = ANY ($2::uuid[]) AND owner = $1 AND NOT settled
RETURNING id;

-- name: issuance_adopt_expired
-- Rows that nobody renews. SKIP LOCKED: a row that another worker is taking now is not waited for. Whoever was at work on
-- it asks no more.
UPDATE issuance SET owner = $1, lease_until = $3, updated_at = now(), lost_at = coalesce(lost_at, $2)
WHERE id IN (SELECT id FROM issuance WHERE NOT settled AND lease_until < $2
             ORDER BY lease_until LIMIT $4 FOR UPDATE SKIP LOCKED)
RETURNING id, account_id, device_id, session_id, issuer_id, endpoint, service, state, owner, attempt, server_key,
          serial, not_before, csr, csr_sha256, spki_sha256, subject, opened_at, updated_at, lease_until, retry_at,
          delivered_at, answers_until, settled, lost_at, reference, error_class, error_text;

-- name: issuance_leased_beyond
-- Rows whose lease ends after $1, farther ahead than any is given: the clock that said so was set back since. How long a CA
-- wants to be left alone is its own word.
SELECT id, owner, lease_until FROM issuance
WHERE NOT settled AND lease_until > $1 AND state <> 'pending' ORDER BY lease_until LIMIT $2;

-- name: issuance_end_leases
-- Of those that nobody renewed meanwhile.
UPDATE issuance i SET lease_until = $4
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS w (id, owner, lease_until)
WHERE i.id = w.id AND i.owner = w.owner AND i.lease_until = w.lease_until AND NOT i.settled
RETURNING i.id;

-- name: issuance_keep_reference
-- Of a worker that lost the row while it asked: nothing else finds the request at some CAs.
UPDATE issuance SET reference = $2, updated_at = now()
WHERE id = $1 AND reference IS NULL AND state IN ('submitted', 'unknown') AND NOT settled
RETURNING id;

-- name: issuance_leave_unknown
-- Nobody can find out what became of it: it is for people now.
UPDATE issuance SET settled = true, updated_at = now()
WHERE id = $1 AND owner = $2 AND state = 'unknown';

-- name: issuance_waiting
SELECT count(*) FROM issuance WHERE account_id = $1 AND endpoint = $2 AND state = 'unknown' AND current AND settled;

-- name: issuance_waiting_endpoints
SELECT endpoint FROM issuance
WHERE account_id = $1 AND delivered_at IS NULL AND state = 'unknown' AND settled AND current
GROUP BY endpoint ORDER BY min(updated_at) LIMIT $2;

-- name: issuance_release_all
-- The same of $2 endpoints, those that wait longest; what is being looked into still is left alone.
UPDATE issuance i SET current = false, updated_at = now()
FROM (SELECT endpoint FROM issuance
      WHERE account_id = $1 AND delivered_at IS NULL AND state = 'unknown' AND settled AND current
      GROUP BY endpoint ORDER BY min(updated_at) LIMIT $2) w
WHERE i.account_id = $1 AND i.endpoint = w.endpoint AND i.delivered_at IS NULL AND i.state = 'unknown' AND i.settled
  AND i.current
RETURNING i.id, i.endpoint;

-- name: issuance_release
-- Requests of an endpoint whose outcome stays unknown: from now on they stand in nobody's way.
UPDATE issuance SET settled = true, current = false, updated_at = now()
WHERE account_id = $1 AND endpoint = $2 AND state = 'unknown' AND current
RETURNING id, endpoint;
