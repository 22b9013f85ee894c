-- name: partitions_make
SELECT make_partitions($1, $2, now(), $3);

-- name: partitions_drop
SELECT drop_partitions($1, now() - make_interval(days => $2));

-- name: session_delete_old
-- What is left of a month that is not wholly too old.
WITH gone AS (DELETE FROM session WHERE started_at < now() - make_interval(days => $1) RETURNING 1)
SELECT count(*) FROM gone;

-- name: audit_delete_old
WITH gone AS (DELETE FROM audit WHERE at < now() - make_interval(days => $1) RETURNING 1)
SELECT count(*) FROM gone;

-- name: enrollment_task_delete_old
WITH gone AS (
    DELETE FROM device_enrollment_task WHERE completed_at < now() - make_interval(days => $1) RETURNING 1
)
SELECT count(*) FROM gone;

-- name: verification_delete_old
-- One that asked for a test certificate stays, as nothing else tells what that CA signed or may have signed; and of
-- each CA the last one that ended, which says whether it works.
WITH gone AS (
    DELETE FROM verification v
    WHERE v.started_at < now() - make_interval(days => $1) AND v.csr_sha256 IS NULL
      AND (v.finished_at IS NULL
           OR EXISTS (SELECT FROM verification later
                      WHERE later.issuer_id = v.issuer_id AND later.started_at > v.started_at
                        AND later.finished_at IS NOT NULL))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: failed_issuances_session
-- For a transaction. Rows are looked up by key only, as the writer does, and nobody is waited for. What a crash brings
-- back is found again, so that no commit need wait for the disk.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('lock_timeout', '300ms', true), set_config('synchronous_commit', 'off', true);

-- name: failed_issuances_old
-- The next $4 behind a place in the order of their opening, so that those that stay are read once. For `failed` and
-- `refused` no CA signed anything. Of the CSRs of a device's own the last one for a service stays, whatever became of
-- it: that the device asked, `write_est_offers` may yet want to know. Endpoint and time are compared as in
-- `issuance_counted`.
SELECT i.id, i.opened_at, i.account_id, i.endpoint, i.server_key
FROM issuance i
WHERE i.settled AND i.error_class <> 'Abandoned' AND i.state IN ('failed', 'refused')
  AND (i.opened_at, i.id) > (coalesce($2::timestamptz, '-infinity'),
                             coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
  AND i.opened_at < now() - make_interval(days => $1) AND i.updated_at < now() - make_interval(days => $1)
  AND (i.answers_until IS NULL OR i.answers_until < now())
  AND (i.server_key OR EXISTS (
          SELECT FROM issuance later
          WHERE later.account_id = i.account_id AND later.endpoint <= i.endpoint
            AND (later.endpoint, later.opened_at) > (i.endpoint, i.opened_at)
            AND later.service = i.service AND NOT later.server_key))
ORDER BY i.opened_at, i.id
LIMIT $4
FOR UPDATE OF i SKIP LOCKED;

-- name: failed_issuances_locks
-- Those of these devices for whom nobody writes an intent until the transaction ends (as `write_opened_locks`).
SELECT device FROM unnest($1::bigint[]) AS device WHERE pg_try_advisory_xact_lock(device);

-- name: failed_issuances_delete
-- Their public keys are nobody's then, unless another wish of the device names one. A key that was made here was made
-- for one wish, and was given to nobody. Who removed a device let its keys go; one may be another device's since.
WITH gone AS (
    DELETE FROM issuance WHERE id = ANY ($1::uuid[]) RETURNING account_id, endpoint, spki_sha256, server_key
), whose AS (
    SELECT DISTINCT gone.account_id, gone.endpoint FROM gone WHERE NOT gone.server_key
), named AS (
    SELECT other.spki_sha256
    FROM whose JOIN issuance other ON other.account_id = whose.account_id AND other.endpoint = whose.endpoint
    WHERE other.id <> ALL ($1::uuid[])
), freed AS (
    DELETE FROM known_key k USING gone
    WHERE k.spki_sha256 = gone.spki_sha256 AND k.account_id = gone.account_id AND k.endpoint = gone.endpoint
      AND (gone.server_key OR gone.spki_sha256 NOT IN (SELECT named.spki_sha256 FROM named))
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS issuances, (SELECT count(*) FROM freed) AS keys;
