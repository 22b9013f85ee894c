-- name: issuer_all
SELECT id, account_id, type, name, description, attributes::text AS attributes, credentials, version,
       created_at, updated_at
FROM certificate_issuer ORDER BY id;

-- name: issuer_list
SELECT id, account_id, type, name, description, attributes::text AS attributes, credentials, version,
       created_at, updated_at
FROM certificate_issuer WHERE account_id = $1 ORDER BY created_at, id;

-- name: issuer_find
SELECT id, account_id, type, name, description, attributes::text AS attributes, credentials, version,
       created_at, updated_at
FROM certificate_issuer WHERE account_id = $1 AND id = $2;

-- name: issuer_lock
-- The row as the next statement changes it; issuances that refer to it go on.
SELECT id, account_id, type, name, description, attributes::text AS attributes, credentials, version,
       created_at, updated_at
FROM certificate_issuer WHERE account_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: issuer_add
INSERT INTO certificate_issuer (id, account_id, type, name, description, attributes, credentials)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7)
RETURNING id, account_id, type, name, description, attributes::text AS attributes, credentials, version,
          created_at, updated_at;

-- name: issuer_update
UPDATE certificate_issuer
SET name = $3, description = $4, attributes = $5::text::jsonb, credentials = coalesce($6, credentials),
    version = version + 1, updated_at = now()
WHERE account_id = $1 AND id = $2
RETURNING id, account_id, type, name, description, attributes::text AS attributes, credentials, version,
          created_at, updated_at;

-- name: issuer_remove
DELETE FROM certificate_issuer WHERE account_id = $1 AND id = $2
RETURNING id, account_id, type, name, description, attributes::text AS attributes, credentials, version,
          created_at, updated_at;

-- name: configuration_ensure
INSERT INTO certificate_issuer_configuration (id, account_id, reference) VALUES ($1, $2, $3)
ON CONFLICT (account_id, reference) DO NOTHING;

-- name: configuration_all
SELECT account_id, reference, issuer_id FROM certificate_issuer_configuration;

-- name: configuration_list
SELECT id, account_id, reference, issuer_id, version, created_at, updated_at
FROM certificate_issuer_configuration WHERE account_id = $1 ORDER BY created_at, id;

-- name: configuration_resolve
SELECT i.id, i.account_id, i.type, i.name, i.description, i.attributes::text AS attributes, i.credentials,
       i.version, i.created_at, i.updated_at
FROM certificate_issuer_configuration c
LEFT JOIN certificate_issuer i ON i.id = c.issuer_id
WHERE c.account_id = $1 AND c.reference = $2;

-- name: configuration_remove
DELETE FROM certificate_issuer_configuration WHERE account_id = $1 AND reference = $2 RETURNING id;

-- name: issuer_count
SELECT count(*) FROM certificate_issuer WHERE account_id = $1;

-- name: configuration_find
SELECT id, account_id, reference, issuer_id, version, created_at, updated_at
FROM certificate_issuer_configuration WHERE account_id = $1 AND id = $2;

-- name: configuration_lock
SELECT id, account_id, reference, issuer_id, version, created_at, updated_at
FROM certificate_issuer_configuration WHERE account_id = $1 AND id = $2 FOR UPDATE;

-- name: configuration_by_reference
SELECT id, account_id, reference, issuer_id, version, created_at, updated_at
FROM certificate_issuer_configuration WHERE account_id = $1 AND reference = $2;

-- name: configuration_add
INSERT INTO certificate_issuer_configuration (id, account_id, reference, issuer_id) VALUES ($1, $2, $3, $4)
RETURNING id, account_id, reference, issuer_id, version, created_at, updated_at;

-- name: configuration_set
UPDATE certificate_issuer_configuration
SET issuer_id = $3, version = version + 1, updated_at = now()
WHERE account_id = $1 AND id = $2
RETURNING id, account_id, reference, issuer_id, version, created_at, updated_at;

-- name: readiness_list
SELECT r.issuer_id, r.failures, r.open_until, r.throttled_until, r.error_class, r.error_text, r.since, r.updated_at
FROM issuer_readiness r JOIN certificate_issuer i ON i.id = r.issuer_id
WHERE i.account_id = $1;

-- name: readiness_find
SELECT issuer_id, failures, open_until, throttled_until, error_class, error_text, since, updated_at
FROM issuer_readiness WHERE issuer_id = $1;

-- name: readiness_failed
-- $4 is the number of failures in a row from which on nobody asks, $5 until when.
INSERT INTO issuer_readiness (issuer_id, failures, error_class, error_text, since)
SELECT id, 1, $2, $3, now() FROM certificate_issuer WHERE id = $1
ON CONFLICT (issuer_id) DO UPDATE
SET failures = issuer_readiness.failures + 1, error_class = EXCLUDED.error_class, error_text = EXCLUDED.error_text,
    since = coalesce(issuer_readiness.since, now()), updated_at = now(),
    open_until = CASE WHEN issuer_readiness.failures + 1 >= $4 THEN $5::timestamptz END
RETURNING issuer_id, failures, open_until, throttled_until, error_class, error_text, since, updated_at;

-- name: readiness_throttled
-- The CA asked for less until $3; what it failed with before stays in sight while it fails. Beyond $4 a time is of a clock
-- that was set back.
INSERT INTO issuer_readiness (issuer_id, failures, error_class, error_text, throttled_until)
SELECT id, 0, 'Throttled', $2, $3 FROM certificate_issuer WHERE id = $1
ON CONFLICT (issuer_id) DO UPDATE
SET throttled_until = CASE WHEN issuer_readiness.throttled_until > EXCLUDED.throttled_until + $4::interval
                           THEN EXCLUDED.throttled_until
                           ELSE greatest(issuer_readiness.throttled_until, EXCLUDED.throttled_until) END,
    updated_at = now(),
    error_class = CASE WHEN issuer_readiness.failures > 0 THEN issuer_readiness.error_class ELSE 'Throttled' END,
    error_text = CASE WHEN issuer_readiness.failures > 0 THEN issuer_readiness.error_text ELSE EXCLUDED.error_text END
RETURNING issuer_id, failures, open_until, throttled_until, error_class, error_text, since, updated_at;

-- name: issuer_pace_take
-- The bucket as its next due time: tokens are $3 apart, $4 of them are saved up, nobody waits longer than $5. A time that is
-- $6 beyond all that was said by a clock that was set back, or by another rate: the bucket begins anew.
INSERT INTO issuer_pace (issuer_id, next_at)
SELECT id, $2::timestamptz + $3::interval FROM certificate_issuer WHERE id = $1
ON CONFLICT (issuer_id) DO UPDATE
SET next_at = CASE WHEN issuer_pace.next_at > $2 + $3 + $4 + $5 + $6 THEN $2 ELSE greatest(issuer_pace.next_at, $2) END + $3
WHERE issuer_pace.next_at <= $2 + $4::interval + $5::interval OR issuer_pace.next_at > $2 + $3 + $4 + $5 + $6::interval
RETURNING next_at - $3 - $4 AS at;

-- name: readiness_worked
-- $2 are the kinds of failure that are disproved; NULL = all.
UPDATE issuer_readiness SET failures = 0, open_until = NULL, since = NULL, updated_at = now()
WHERE issuer_id = $1 AND failures > 0 AND ($2::text[] IS NULL OR error_class = ANY($2))
RETURNING issuer_id;

-- name: readiness_half_open
-- A CA whose settings are new is looked at by whoever asks next.
UPDATE issuer_readiness SET open_until = least(open_until, now()), updated_at = now()
WHERE issuer_id = $1 AND open_until IS NOT NULL;

-- name: readiness_take_probe
-- Whose turn it is to look whether the CA is back: one worker of all, the others wait for what it finds. Beyond $4 a time is
-- of a clock that was set back.
UPDATE issuer_readiness SET open_until = $3, updated_at = now()
WHERE issuer_id = $1 AND (open_until <= $2 OR open_until > $4)
RETURNING issuer_id;

-- name: verification_begin
INSERT INTO verification (id, account_id, issuer_id, actor_name, issue_test, csr_sha256)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: verification_end
UPDATE verification
SET finished_at = now(), successful = $2, message = $3, steps = $4::text::json, serial = $5
WHERE id = $1
RETURNING id, account_id, issuer_id, started_at, finished_at, actor_name, issue_test, serial, successful, message,
          steps::text AS steps;

-- name: verification_list
SELECT id, account_id, issuer_id, started_at, finished_at, actor_name, issue_test, serial, successful, message,
       steps::text AS steps
FROM verification
WHERE account_id = $1 AND issuer_id = $2
ORDER BY started_at DESC
LIMIT $3;

-- name: verification_progress
UPDATE verification SET steps = $2::text::json WHERE id = $1 AND finished_at IS NULL;

-- name: verification_find
SELECT id, account_id, issuer_id, started_at, finished_at, actor_name, issue_test, serial, successful, message,
       steps::text AS steps
FROM verification WHERE account_id = $1 AND id = $2;

-- name: verification_latest
SELECT DISTINCT ON (issuer_id) id, account_id, issuer_id, started_at, finished_at, actor_name, issue_test, serial,
       successful, message, steps::text AS steps
FROM verification
WHERE account_id = $1 AND finished_at IS NOT NULL
ORDER BY issuer_id, started_at DESC;

-- name: issuer_chain_keep
INSERT INTO issuer_chain (issuer_id, seen_at, certificates)
SELECT id, $2, $3 FROM certificate_issuer WHERE id = $1
ON CONFLICT (issuer_id) DO UPDATE SET seen_at = EXCLUDED.seen_at, certificates = EXCLUDED.certificates;

-- name: issuer_chain_list
SELECT c.issuer_id, c.seen_at, c.certificates
FROM issuer_chain c JOIN certificate_issuer i ON i.id = c.issuer_id
WHERE i.account_id = $1;

-- name: issuer_use
-- What each CA issued since $2, and of that since $3; no row for a CA that issued nothing.
SELECT issuer_id, count(*) AS longer, count(*) FILTER (WHERE issued_at > $3) AS shorter
FROM certificate WHERE account_id = $1 AND issued_at > $2
GROUP BY issuer_id;

-- name: issuer_signed_since
-- Whether a CA issued anything since $3, and within a day.
SELECT EXISTS (SELECT FROM certificate
               WHERE account_id = $1 AND issuer_id = $2 AND issued_at > greatest($3, now() - interval '1 day'));

-- name: service_holders
-- How many devices hold a certificate of each service that the service's CA of now issued to them. What a device holds for
-- its LwM2M server stands in its row; of the other services nobody has so many.
SELECT s.reference,
       (SELECT count(*) FROM device d
        WHERE d.account_id = s.account_id AND d.issuer_id IS NOT DISTINCT FROM s.issuer_id
          AND d.certificate_id IS NOT NULL AND d.certified_until > $2)
       - (SELECT count(*) FROM certificate c JOIN device d ON d.id = c.device_id AND d.certificate_id = c.issuance_id
          WHERE c.account_id = s.account_id AND c.issuer_id IS NOT DISTINCT FROM s.issuer_id
            AND c.not_after > $2 AND c.revoked_at IS NOT NULL) AS holders
FROM certificate_issuer_configuration s
WHERE s.account_id = $1 AND s.reference = 'LWM2M'
UNION ALL
SELECT s.reference, count(DISTINCT c.endpoint)
FROM certificate_issuer_configuration s
JOIN certificate c ON c.service = s.reference AND c.issuer_id IS NOT DISTINCT FROM s.issuer_id
JOIN issuance i ON i.id = c.issuance_id AND i.delivered_at IS NOT NULL
WHERE s.account_id = $1 AND s.reference <> 'LWM2M'
  AND c.account_id = $1 AND c.service <> 'LWM2M' AND c.not_after > $2 AND c.revoked_at IS NULL
GROUP BY s.reference;
