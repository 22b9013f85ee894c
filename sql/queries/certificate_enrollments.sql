-- name: certificate_enrollment_add
-- No row comes back when one is under way for this certificate.
INSERT INTO certificate_enrollment (id, account_id, device_id, endpoint, certificate_name, method, overdue_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
ON CONFLICT (device_id, certificate_name) WHERE status = 'new' DO NOTHING
RETURNING id;

-- name: certificate_enrollment_under_way
SELECT EXISTS (
    SELECT FROM certificate_enrollment
    WHERE account_id = $1 AND device_id = $2 AND certificate_name = $3 AND status = 'new');

-- name: certificate_enrollment_find
SELECT id, account_id, device_id, endpoint, certificate_name, method, worker, status, result, detail, version,
       created_at, updated_at
FROM certificate_enrollment WHERE account_id = $1 AND id = $2;

-- name: certificate_enrollment_withdraw
-- Nobody took it; one that was taken stays.
DELETE FROM certificate_enrollment WHERE id = $1 AND worker IS NULL AND status = 'new' RETURNING id;

-- name: certificate_enrollment_waiting
-- What waits for this worker: renewals of devices that it holds, and that nobody took.
SELECT e.id, e.device_id
FROM certificate_enrollment e JOIN registration r ON r.device_id = e.device_id AND r.account_id = e.account_id
WHERE e.status = 'new' AND e.worker IS NULL AND r.worker = $1 AND r.expires_at > now();

-- name: certificate_enrollment_take
-- What the device has of this service answers for its CSR no more: a device that keeps its CSR is to get a new one.
WITH taken AS (
    UPDATE certificate_enrollment SET worker = $1, updated_at = now(), version = version + 1
    WHERE id = ANY ($2::uuid[]) AND worker IS NULL AND status = 'new'
    RETURNING id, account_id, device_id, endpoint, certificate_name, method, worker, status, result, detail, version,
              created_at, updated_at
), retired AS (
    UPDATE issuance i SET current = false, updated_at = now()
    FROM taken
    WHERE i.account_id = taken.account_id AND i.endpoint = taken.endpoint AND i.service = taken.certificate_name
      AND i.state = 'delivered' AND i.current
)
SELECT id, account_id, device_id, endpoint, certificate_name, method, worker, status, result, detail, version,
       created_at, updated_at
FROM taken;

-- name: certificate_enrollment_note
UPDATE certificate_enrollment SET detail = $2, updated_at = now(), version = version + 1
WHERE id = $1 AND status = 'new';

-- name: certificate_enrollment_certified
-- Whether its device was given a certificate of this service since. Its delivery may be on record a moment later.
SELECT EXISTS (
    SELECT FROM certificate_enrollment e
    JOIN issuance i ON i.account_id = e.account_id AND i.endpoint = e.endpoint AND i.service = e.certificate_name
    WHERE e.id = $1 AND i.state IN ('issued', 'delivered')
      AND (i.opened_at >= e.created_at OR i.delivered_at >= e.created_at));

-- name: certificate_enrollment_complete
-- The end also goes to the audit, once.
WITH ended AS (
    UPDATE certificate_enrollment
    SET status = 'completed', result = $2, detail = $3, updated_at = now(), version = version + 1
    WHERE id = $1 AND status = 'new'
    RETURNING id, account_id, endpoint, certificate_name, result, detail
), final AS (
    INSERT INTO audit (id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
    SELECT d.id, now(), d.account_id, 'device', d.endpoint, '', 'certificate_enrollment.' || d.result, 'device',
           d.endpoint, json_build_object('certificate_name', d.certificate_name, 'detail', d.detail)
    FROM ended d
)
SELECT account_id, endpoint, certificate_name, result, detail FROM ended;

-- name: certificate_enrollment_settle
-- A bootstrap that a device was told to do is over when it has a certificate that is newer; whatever is overdue failed.
WITH open AS (
    SELECT e.id, e.overdue_at, newer.serial, last.sentence
    FROM certificate_enrollment e
    LEFT JOIN LATERAL (
        SELECT encode(c.serial, 'hex') AS serial
        FROM issuance i JOIN certificate c ON c.issuance_id = i.id
        WHERE e.method = 'bootstrap' AND e.worker IS NOT NULL
          AND i.account_id = e.account_id AND i.endpoint = e.endpoint AND i.service = e.certificate_name
          AND i.state = 'delivered' AND i.delivered_at >= e.created_at
        ORDER BY i.delivered_at DESC LIMIT 1) newer ON true
    LEFT JOIN LATERAL (
        SELECT s.sentence FROM session s
        WHERE s.account_id = e.account_id AND s.endpoint = e.endpoint AND s.started_at >= e.created_at
          AND s.outcome = 'failed'
        ORDER BY s.started_at DESC LIMIT 1) last ON true
    WHERE e.status = 'new'
    ORDER BY e.id
    FOR UPDATE OF e SKIP LOCKED
), ended AS (
    UPDATE certificate_enrollment e
    SET status = 'completed', updated_at = now(), version = e.version + 1,
        result = CASE WHEN open.serial IS NOT NULL THEN 'success' ELSE 'failure' END,
        detail = CASE
            WHEN open.serial IS NOT NULL THEN 'the device bootstrapped again and holds certificate ' || open.serial
            WHEN e.worker IS NULL THEN 'no worker took it'
            WHEN e.method = 'bootstrap' THEN
                'the device took the trigger but no new certificate was delivered to it in time'
                || coalesce('; its last bootstrap: ' || open.sentence, '')
            ELSE 'nothing was heard of it in time; the worker that asked the device may have stopped'
        END
    FROM open
    WHERE e.id = open.id AND (open.serial IS NOT NULL OR open.overdue_at < now())
    RETURNING e.id, e.account_id, e.endpoint, e.certificate_name, e.result, e.detail
), final AS (
    INSERT INTO audit (id, at, account_id, actor_kind, actor_name, request_id, action, subject_kind, subject, detail)
    SELECT d.id, now(), d.account_id, 'device', d.endpoint, '', 'certificate_enrollment.' || d.result, 'device',
           d.endpoint, json_build_object('certificate_name', d.certificate_name, 'detail', d.detail)
    FROM ended d
)
SELECT account_id, endpoint, certificate_name, result, detail FROM ended;

-- name: certificate_enrollment_delete_old
WITH gone AS (
    DELETE FROM certificate_enrollment
    WHERE status = 'completed' AND created_at < now() - make_interval(days => $1) RETURNING id
)
SELECT count(*) FROM gone;

-- name: certificate_came_by_bootstrap
-- Whether a bootstrap wrote the device's newest certificate of this service, so that another one renews it.
SELECT coalesce((
    SELECT i.server_key FROM issuance i
    WHERE i.account_id = $1 AND i.endpoint = $2 AND i.service = $3 AND i.state = 'delivered'
    ORDER BY i.opened_at DESC LIMIT 1), false);
